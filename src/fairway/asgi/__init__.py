"""What the ASGI specification says, whatever carries it."""
