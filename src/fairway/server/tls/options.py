"""The TLS options. `fairway.server.limits` makes settings, environment variables and flags of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """With a `certfile` or `dev_tls` the server speaks TLS. Paths may be relative to the current directory."""

    certfile: str = ""
    """File with the certificate chain, PEM, the server's own certificate first; giving it switches TLS on."""

    keyfile: str = ""
    """File with the private key, PEM; if empty, the key is in the certificate's file."""

    keyfile_password_file: str = ""
    """File whose first line is the password of the private key."""

    client_ca: str = ""
    """File with the certificates, PEM, of the authorities that may issue clients' certificates."""

    client_certs: str = "none"
    """Whether clients are asked for a certificate: none, optional or required; an invalid one is always refused."""

    tls_min_version: str = "1.2"
    """The oldest version of TLS to accept, 1.2 or 1.3."""

    tls_ciphers: str = "ECDHE+AESGCM:ECDHE+CHACHA20"
    """Cipher suites of TLS 1.2, in OpenSSL's notation; TLS 1.3 has only good ones."""

    dev_tls: bool = False
    """TLS for localhost, with a certificate from an authority that is made for this user (needs the extra dev-tls)."""


CHOICES = {"client_certs": ("none", "optional", "required"), "tls_min_version": ("1.2", "1.3")}
"""The allowed values of options that are not free text."""
