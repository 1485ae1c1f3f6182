"""Observing a server: its management socket, its figures, and `fairway status`."""
