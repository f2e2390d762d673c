"""What a run leaves, in a folder and on the Hub."""
