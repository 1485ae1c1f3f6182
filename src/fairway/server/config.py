"""What to serve where: the frozen `Config`, and the listening sockets that it describes.

Sockets are opened here, outside the event loop. So a wrong address is one clear sentence before anything else has
started, and sockets can be opened once and handed to several workers. Nothing here accepts.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from fairway.server.limits import ConfigurationError, Limits
from fairway.server.proxy import Network
from fairway.server.tls.files import TlsFiles

BACKLOG = 2048
"""How many connections the kernel keeps until they are accepted. The kernel's own maximum bounds it further."""

# The part of RFC 9110, 5.5, that every recipient accepts.
_FIELD_VALUE = re.compile(r"([!-~]([ !-~]*[!-~])?)?")

_Address = tuple[socket.AddressFamily, tuple[Any, ...]]

_PORT_ZERO_ATTEMPTS = 8
"""How many ports to try: one that is free on the first address of a host may be taken on the next."""

_UNIX_PROBE_TIMEOUT = 1.0
"""Seconds within which even a busy server accepts a connection on its Unix socket."""


class BindError(OSError):
    """The server cannot listen on an address. `errno` is the system's, or None; the text is one sentence for people."""

    def __init__(self, number: int | None, text: str) -> None:
        super().__init__(number, text)
        self.text = text

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where a server listens and what it tells the application about it.

    `fd` (an inherited descriptor) or `uds` (the path of a Unix socket), if given, stand instead of `host` and `port`.
    An empty `host` means every address of the machine; port 0 means any free one. `root_path` is where the application
    is mounted, decoded, and kept without a slash at its end; whether a proxy strips it makes no difference.
    `server_name` is the value of the header `server`, which is not sent if it is empty. With `tls` there
    is no clear text. `introducers` are the proxies that introduce each client by the PROXY protocol; None: nobody does.
    `proxies` are those whose connections carry many clients, and are not bounded by address.
    `management` is where this process, which is the whole server then, is looked at.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    fd: int | None = None
    root_path: str = ""
    access_log: bool = True
    log_format: str = "text"
    server_name: str = "fairway"
    lifespan: Literal["auto", "on", "off"] = "auto"
    limits: Limits = field(default_factory=Limits)
    tls: TlsFiles | None = None
    introducers: tuple[Network, ...] | None = None
    proxies: tuple[Network, ...] = ()
    management: str = ""

    def __post_init__(self) -> None:
        if self.uds is not None and self.fd is not None:
            raise ConfigurationError("give either a Unix socket or a file descriptor, not both")
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"port must be between 0 and 65535, not {self.port}")
        if not _FIELD_VALUE.fullmatch(self.server_name):
            raise ConfigurationError(f"server_name must be printable ASCII, not {self.server_name!r}")
        if self.lifespan not in ("auto", "on", "off"):
            raise ConfigurationError(f'lifespan must be "auto", "on" or "off", not {self.lifespan!r}')
        object.__setattr__(self, "root_path", self.root_path.rstrip("/"))
        if self.root_path and not self.root_path.startswith("/"):
            raise ConfigurationError(f'root_path must start with a slash, as in "/app", not {self.root_path!r}')

    def bind(self) -> list[socket.socket]:
        """Open the listening sockets, non-blocking; the caller closes them.

        There are several only for a host with several addresses, such as `localhost` with IPv4 and IPv6; all have the
        same port. Raises `BindError`, and then leaves nothing open.
        """
        if self.fd is not None:
            return [inherit(self.fd)]
        if self.uds is not None:
            return [bind_unix(self.uds)]
        return bind_host(self.host, self.port)

    def unlink_unix_socket(self) -> None:
        """Remove the Unix socket's file, if there is one.

        Call it while the socket still listens. Later, the path may already belong to the server's successor.
        """
        if self.uds is not None:
            with suppress(FileNotFoundError):
                os.unlink(self.uds)


def bind_host(host: str, port: int) -> list[socket.socket]:
    """Listen on every address that the host has here. Raises `BindError`."""
    addresses = _resolve(host, port)
    for _ in range(_PORT_ZERO_ATTEMPTS - 1):
        try:
            return _bind_addresses(addresses, host, port)
        except BindError as error:
            if port != 0 or error.errno != errno.EADDRINUSE:
                raise
    return _bind_addresses(addresses, host, port)


def _resolve(host: str, port: int) -> list[_Address]:
    # An IPv6 address may be written as in a URL.
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = socket.getaddrinfo(bare or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise BindError(
            getattr(error, "errno", None),
            f"cannot listen on host {host!r}: it has no address here; use 127.0.0.1, or 0.0.0.0 for every address",
        ) from error
    # A resolver may name an address twice (once per protocol, or from two lines of /etc/hosts).
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind_addresses(addresses: list[_Address], host: str, port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            if port == 0 and sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(_listen(family, address))
            except OSError as error:
                # A name may resolve to an address that the machine does not have (::1 with IPv6 switched off).
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise BindError(error.errno, _tcp_problem(error, host, port)) from error
                missing = error
    except BaseException:
        for listening in sockets:
            listening.close()
        raise
    if not sockets and missing is not None:
        raise BindError(missing.errno, _tcp_problem(missing, host, port)) from missing
    return sockets


def _listen(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # On Windows the option would allow two servers on one port.
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Lets a server listen on 0.0.0.0 and :: at once, whatever the system's default.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _tcp_problem(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is already in use: stop the program that has it, or choose another one with --port"
    if error.errno == errno.EACCES:
        return f"no permission to listen on port {port}: ports below 1024 need privileges; choose a higher one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {host}: the address does not belong to this machine"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"


def bind_unix(path: str, mode: int = 0o666) -> socket.socket:
    """Listen on a Unix socket; `mode` is for its file. Raises `BindError`."""
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.bind(path)
        # Before it listens, so that nobody can connect earlier. By default it is as open as a port on 127.0.0.1, so
        # that a proxy that runs as another user can connect; the permissions of the directory restrict it.
        os.chmod(path, mode)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise BindError(error.errno, f"cannot listen on the Unix socket {path}: {reason.lower()}") from error
    return listening


def _remove_stale(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(errno.EEXIST, f"cannot listen on {path}: a file that is not a socket has that name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_UNIX_PROBE_TIMEOUT)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        except OSError as error:
            # The backlog is full, or access is denied: there may well be a server.
            reason = (error.strerror or str(error)).lower()
            raise BindError(error.errno, f"cannot listen on {path}: its owner cannot be asked ({reason})") from error
    raise BindError(errno.EADDRINUSE, f"cannot listen on {path}: another server answers there; stop it first")


def inherit(fd: int) -> socket.socket:
    """Listen on an inherited descriptor. Raises `BindError`."""
    try:
        listening = socket.socket(fileno=fd)
    except OSError as error:
        raise BindError(error.errno, f"file descriptor {fd} is not an open socket that was handed over") from error
    try:
        if listening.type != socket.SOCK_STREAM:
            raise BindError(errno.EINVAL, f"file descriptor {fd} is a socket, but not a stream socket")
        # Harmless if it listens already. A socket that is connected, or not bound, fails here or below.
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BindError:
        listening.detach()
        raise
    except OSError as error:
        listening.detach()
        raise BindError(error.errno, f"file descriptor {fd} is a socket that cannot listen") from error
    return listening
