"""The result of a run, in a folder and on the Hub."""
