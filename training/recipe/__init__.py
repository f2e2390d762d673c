"""From a file and a command line to one frozen recipe."""
