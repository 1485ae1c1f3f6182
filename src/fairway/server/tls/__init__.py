"""TLS: certificates, handshakes, and the transport that stands on a TLS socket."""
