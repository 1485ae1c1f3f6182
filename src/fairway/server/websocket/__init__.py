"""The server's WebSocket connections."""
