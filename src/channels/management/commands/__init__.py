"""The commands; Django finds them by their file names."""
