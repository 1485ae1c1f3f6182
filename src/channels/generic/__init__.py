"""Consumers for WebSockets and for HTTP."""
