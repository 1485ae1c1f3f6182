"""Protection of connections against other sites and other people."""
