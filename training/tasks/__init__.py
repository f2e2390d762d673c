"""What can be trained besides translation, a module for each task."""
