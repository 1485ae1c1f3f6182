"""The ASGI specification, independent of the HTTP version that carries a request."""
