"""The files that TLS needs, and the contexts made from them.

Certificates are renewed while the server runs. OpenSSL could load a new certificate into the context in use. But if
that fails, because the key file is not renewed yet, say, the context is broken and refuses every client. So a context
is never changed. A renewal makes a new context, which replaces the old one only when everything has been loaded.
Connections keep the context they began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, cast

from fairway.logs import get_logger
from fairway.server.limits import ConfigurationError
from fairway.server.output.lanes import TlsSocket
from fairway.server.tls.dev import for_localhost
from fairway.server.tls.names import distinguished_name
from fairway.server.tls.options import TlsOptions

logger = get_logger("fairway.server")

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_NUMBERS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_CLIENTS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}

Stamp = tuple[tuple[int, int, int] | None, ...]


class Credentials:
    """A context, and what scopes tell about its connections. Immutable."""

    def __init__(self, options: TlsOptions, protocols: Sequence[str] = ("http/1.1",)) -> None:
        """Load the files. Raises `ConfigurationError`, which says which file is wrong and how."""
        context = self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[options.tls_min_version]
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        # A client that ends its side without close_notify may still want its answer. OpenSSL would refuse to go on.
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        context.sslsocket_class = TlsSocket
        context.num_tickets = 1  # a second one makes every handshake a tenth dearer
        context.set_alpn_protocols(list(protocols))
        try:
            context.set_ciphers(options.tls_ciphers)
        except ssl.SSLError:
            raise ConfigurationError(f"tls_ciphers {options.tls_ciphers!r} names no cipher that OpenSSL has") from None
        self._certificate = _load_own(context, options)
        if options.client_certs != "none":
            _load_authorities(context, options)
        self._suites = {one["name"]: one["id"] & 0xFFFF for one in context.get_ciphers()}
        self._anonymous: dict[tuple[str, str], dict[str, Any]] = {}

    def wrap(self, accepted: socket.socket) -> TlsSocket:
        """A TLS socket that takes over this one's descriptor. Reads and sends nothing yet."""
        return cast(TlsSocket, self.context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False))

    def facts(self, endpoint: ssl.SSLSocket) -> dict[str, Any]:
        """A connection's facts: `tls`, the ASGI extension. Clients without a certificate share one dictionary."""
        suite, version, _ = endpoint.cipher() or ("", "", 0)
        if endpoint.context.verify_mode != ssl.CERT_NONE:
            certificate = endpoint.getpeercert(binary_form=True)
            if certificate is not None:
                chain = [ssl.DER_cert_to_PEM_cert(certificate)]
                return self._facts(suite, endpoint.version(), chain, distinguished_name(endpoint.getpeercert()))
        shared = self._anonymous.get((suite, version))
        if shared is None:
            shared = self._anonymous[suite, version] = self._facts(suite, endpoint.version(), [], None)
        return shared

    def _facts(self, suite: str, version: str | None, chain: list[str], name: str | None) -> dict[str, Any]:
        extension = {
            "server_cert": self._certificate,
            "client_cert_chain": chain,
            "client_cert_name": name,
            "client_cert_error": None,
            "tls_version": _NUMBERS.get(version or ""),
            "cipher_suite": self._suites.get(suite),
        }
        return {"tls": extension}


class TlsFiles:
    """The files of one server, and the credentials made from them that are in use now."""

    def __init__(self, options: TlsOptions, protocols: Sequence[str] = ("http/1.1",)) -> None:
        """Load the files for the first time. Raises `ConfigurationError`."""
        self._options = options
        self._protocols = protocols
        self._stamp = self._look()
        self.credentials = Credentials(options, protocols)

    def reload(self) -> bool:
        """Load the files again. If something is wrong with them, log it and keep the old credentials; return False."""
        # Taken before the files are read, so that a change during the reading is noticed next time.
        self._stamp = self._look()
        try:
            self.credentials = Credentials(self._options, self._protocols)
        except ConfigurationError as error:
            logger.error("TLS keeps the certificate it has: %s", error)
            return False
        logger.info("TLS now uses the certificate in %s", self._options.certfile)
        return True

    def reload_if_changed(self) -> None:
        """Load the files again if they have changed since the last time."""
        if self._look() != self._stamp:
            self.reload()

    def _look(self) -> Stamp:
        options = self._options
        return tuple(_stamp(path) for path in (options.certfile, options.keyfile, options.client_ca) if path)


def files_of(options: TlsOptions, protocols: Sequence[str] = ("http/1.1",)) -> TlsFiles | None:
    """Load the files that the options name. None if the options do not ask for TLS. Raises `ConfigurationError`.

    `protocols` are offered by ALPN, best first.
    """
    if options.dev_tls:
        options = for_localhost(options)
    if options.certfile:
        return TlsFiles(options, protocols)
    for name in ("keyfile", "keyfile_password_file", "client_ca"):
        if getattr(options, name):
            raise ConfigurationError(f"{name} is given, but no certfile: there is no TLS without it")
    if options.client_certs != "none":
        raise ConfigurationError(f"client_certs is {options.client_certs}, but no certfile: there is no TLS without it")
    return None


@contextlib.contextmanager
def watching(files: TlsFiles, loop: asyncio.AbstractEventLoop, interval: float) -> Iterator[None]:
    """Inside the block, look for changes of the files every `interval` seconds."""
    timers: list[asyncio.TimerHandle] = []

    def look_later() -> None:
        timers[:] = [loop.call_later(interval, look)]

    def look() -> None:
        look_later()
        files.reload_if_changed()

    if interval < inf:
        look_later()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _load_own(context: ssl.SSLContext, options: TlsOptions) -> str:
    """Load certificate and key into the context. Returns the certificate as PEM."""
    keyfile = options.keyfile or options.certfile
    text = _read(options.certfile, "certificate")
    _read(keyfile, "key")
    found = _CERTIFICATE.search(text)
    if found is None:
        raise ConfigurationError(f"the certificate file {options.certfile} holds no certificate in PEM form")
    password = _Password(options.keyfile_password_file)
    try:
        context.load_cert_chain(options.certfile, keyfile, password)
    except (OSError, ValueError) as error:
        raise ConfigurationError(_what_is_wrong(error, options.certfile, keyfile, password)) from None
    return found.group()


def _load_authorities(context: ssl.SSLContext, options: TlsOptions) -> None:
    if not options.client_ca:
        raise ConfigurationError(
            f"client_certs is {options.client_certs}: client_ca has to name a file with the authorities to trust"
        )
    _read(options.client_ca, "client authorities'")
    try:
        context.load_verify_locations(options.client_ca)
    except OSError:
        raise ConfigurationError(f"the file {options.client_ca} holds no certificates in PEM form") from None
    context.verify_mode = _CLIENTS[options.client_certs]


class _Password:
    """OpenSSL calls this for the password of a key. Without it, it would ask at the terminal."""

    def __init__(self, path: str) -> None:
        self.was_asked = False
        self.is_known = bool(path)
        lines = _read(path, "password").splitlines() if path else []
        self._text = lines[0] if lines else ""

    def __call__(self) -> str:
        self.was_asked = True
        return self._text


def _what_is_wrong(error: Exception, certfile: str, keyfile: str, password: _Password) -> str:
    reason = getattr(error, "reason", None) or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return f"the key in {keyfile} does not belong to the certificate in {certfile}"
    if password.was_asked:
        if password.is_known:
            return f"the key in {keyfile} cannot be read with the password in keyfile_password_file"
        return f"the key in {keyfile} has a password: keyfile_password_file has to name the file that holds it"
    return f"certificate {certfile} and key {keyfile} cannot be used: {reason}"


def _read(path: str, what: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigurationError(f"the {what} file {path} cannot be read: {reason}") from None
