"""What a person says about TLS. Settings, environment variables and flags are those of `fairway.server.limits`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """TLS is spoken if there is a `certfile`, or with `dev_tls`. Paths may be relative to the current directory."""

    certfile: str = ""
    """File with the certificate and those that lead to its authority, PEM; TLS is spoken if it is given."""

    keyfile: str = ""
    """File with the private key, PEM; empty: it is in the certificate's file."""

    keyfile_password_file: str = ""
    """File whose first line is the password of the private key."""

    client_ca: str = ""
    """File with the certificates of the authorities that clients' certificates are to be from, PEM."""

    client_certs: str = "none"
    """Whether clients show a certificate: none (they are not asked), optional or required; a wrong one is refused."""

    tls_min_version: str = "1.2"
    """The oldest version of TLS that is spoken, 1.2 or 1.3."""

    tls_ciphers: str = "ECDHE+AESGCM:ECDHE+CHACHA20"
    """Cipher suites of TLS 1.2, as OpenSSL writes them; TLS 1.3 has only good ones."""

    dev_tls: bool = False
    """Speak TLS for localhost, with a certificate of an authority that is made for this user (extra dev-tls)."""


CHOICES = {"client_certs": ("none", "optional", "required"), "tls_min_version": ("1.2", "1.3")}
"""The values of options that are one of a few."""
