"""TLS: certificates, handshakes, and a transport over a TLS socket."""
