"""What consumers are made of, without Django."""
