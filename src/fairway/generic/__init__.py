"""Consumers that Channels does not have, for the same routes and beside its own."""
