"""HPACK (RFC 7541): the compression of field sections."""
