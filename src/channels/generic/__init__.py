"""Generic consumers for WebSockets and HTTP."""
