"""Where the management socket is: `unix:/run/mysite/management`, `127.0.0.1:9100` or `[::1]:9100`.

The socket is for the people who run the machine. So a Unix socket is accessible to its owner only, and a port must be
on loopback unless the address begins with `public:`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass

UNIX = "unix:"
PUBLIC = "public:"

FORMS = "write unix:/path, or 127.0.0.1:port"


@dataclass(frozen=True, slots=True)
class Address:
    """Either a `path`, or a host and a port. Made by `parsed`."""

    path: str = ""
    host: str = ""
    port: int = 0

    def unlink(self) -> None:
        """Remove the file of a Unix socket. Does nothing if there is no such file, or for a port."""
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def connect(self, seconds: float) -> socket.socket:
        """Connect to the management socket. The time-out, in seconds, also holds for the connection's later calls.
        Raises `OSError`.
        """
        if not self.path:
            return socket.create_connection((self.host, self.port), timeout=seconds)
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(seconds)
            connecting.connect(self.path)
        except BaseException:
            connecting.close()
            raise
        return connecting


def parsed(text: str) -> Address:
    """Parse an address. Raises `ValueError` with a text that reads as a continuation of the setting's name."""
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if not path or not hasattr(socket, "AF_UNIX"):
            raise ValueError(f"has no path, or there are no Unix sockets here: {FORMS}, not {text!r}")
        return Address(path=path)
    host, colon, port = text.removeprefix(PUBLIC).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isdecimal() and int(port) <= 65535):
        raise ValueError(f"is no address: {FORMS}, not {text!r}")
    if not (text.startswith(PUBLIC) or _is_loopback(host)):
        raise ValueError(
            f"would let others than this machine in: {FORMS}, or {PUBLIC}{text} if that is meant, not {text!r}"
        )
    return Address(host=host, port=int(port))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def problem_of(text: str) -> str | None:
    """What is wrong with an address, as in the `ValueError` of `parsed`. None if nothing is wrong."""
    try:
        parsed(text)
    except ValueError as error:
        return str(error)
    return None
