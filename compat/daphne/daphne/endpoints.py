"""Where to listen, in the words of Daphne's command line: Twisted's endpoint descriptions.

A description is a kind and its arguments, separated by colons: `tcp:port=8000:interface=127.0.0.1`. A colon or a
backslash within an argument has a backslash in front.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass

from fairway.server.config import Config
from fairway.server.limits import ConfigurationError

_PART = re.compile(r"((?:[^:\\]|\\.)*)(?::|$)", re.DOTALL)
_ARGUMENTS = {
    "tcp": ("port", "interface"),
    "tcp6": ("port", "interface"),
    "unix": ("address", "mode"),
    "fd": ("fileno",),
}
_EVERYWHERE = {"tcp": "0.0.0.0", "tcp6": "::"}
_INSTEAD = {
    "ssl": "end TLS in a proxy such as nginx, and listen on tcp: or unix: behind it",
    "systemd": "use --fd 3, which is the first socket that systemd hands over",
}


def build_endpoint_description_strings(
    host: str | None = None,
    port: int | None = None,
    unix_socket: str | None = None,
    file_descriptor: int | None = None,
) -> list[str]:
    """Return a description for each place that is given. ValueError for a host without a port, or the reverse."""
    if (host is None) != (port is None):
        raise ValueError("a TCP endpoint needs both host and port")
    descriptions = []
    if host is not None:
        descriptions.append(f"tcp:port={port}:interface={_quoted(host.strip('[]'))}")
    if unix_socket:
        descriptions.append(f"unix:{_quoted(unix_socket)}")
    if file_descriptor is not None:
        descriptions.append(f"fd:fileno={file_descriptor}")
    return descriptions


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place to listen: what `description` says, understood."""

    description: str
    config: Config
    mode: int | None

    def bind(self) -> list[socket.socket]:
        """Open its sockets. Raises `BindError`."""
        sockets = self.config.bind()
        if self.mode is not None and self.config.uds is not None:
            os.chmod(self.config.uds, self.mode)
        return sockets


def parse(description: str) -> Endpoint:
    """Understand a description. Raises `ConfigurationError`, which names what to use instead."""
    kind, *parts = [re.sub(r"\\(.)", r"\1", part) for part in _split(description)]
    if kind not in _ARGUMENTS:
        instead = _INSTEAD.get(kind, "tcp:, tcp6:, unix: and fd: are")
        raise ConfigurationError(f"endpoint {description!r}: {kind}: is not served; {instead}")
    arguments = _named(description, kind, parts)
    if kind == "unix":
        return Endpoint(
            description, Config(uds=_needed(description, arguments, "address")), _mode(description, arguments)
        )
    if kind == "fd":
        return Endpoint(description, Config(fd=_number(description, arguments, "fileno")), None)
    host = arguments.get("interface") or _EVERYWHERE[kind]
    return Endpoint(description, Config(host=host, port=_number(description, arguments, "port")), None)


def _split(description: str) -> list[str]:
    parts = [match.group(1) for match in _PART.finditer(description)]
    # At the end of the text the pattern matches once more, emptily.
    return parts[:-1] if len(parts) > 1 and not description.endswith(":") else parts


def _named(description: str, kind: str, parts: list[str]) -> dict[str, str]:
    known = _ARGUMENTS[kind]
    arguments: dict[str, str] = {}
    for position, part in enumerate(parts):
        name, equals, value = part.partition("=")
        if equals and name in known:
            arguments[name] = value
        elif position == 0:
            arguments[known[0]] = part
        else:
            raise ConfigurationError(
                f"endpoint {description!r}: {part!r} is not understood; {kind}: has {', '.join(known)}"
            )
    return arguments


def _needed(description: str, arguments: dict[str, str], name: str) -> str:
    if not arguments.get(name):
        raise ConfigurationError(f"endpoint {description!r}: {name} is missing")
    return arguments[name]


def _number(description: str, arguments: dict[str, str], name: str) -> int:
    text = _needed(description, arguments, name)
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"endpoint {description!r}: {name} must be a number, not {text!r}")
    return int(text)


def _mode(description: str, arguments: dict[str, str]) -> int | None:
    if "mode" not in arguments:
        return None
    if not re.fullmatch("[0-7]{1,4}", arguments["mode"]):
        raise ConfigurationError(f"endpoint {description!r}: mode must be octal, such as 660")
    return int(arguments["mode"], 8)
