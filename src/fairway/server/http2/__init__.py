"""HTTP/2 on a socket (RFC 9113)."""
