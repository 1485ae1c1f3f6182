"""What all versions of HTTP have in common (RFC 9110)."""
