"""Makes ASGI scopes from the heads of requests (ASGI HTTP and WebSocket message format 2.5)."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from fairway.asgi.calling import template
from fairway.protocols.http.request import Request

SPEC_VERSION = "2.5"

Address = tuple[str, int] | None

_ANY = frozenset({"0.0.0.0", "::"})

# All connections share this dict, which saves 280 bytes for each.
_ASGI = {"version": "3.0", "spec_version": SPEC_VERSION}
_NO_DETAILS: dict[str, Any] = {}

# The keys are in the order of the specification. There is room for keys that are added later: `state`, five keys of
# Channels, and a few of other middlewares.
_WEBSOCKET = template(
    {
        "type": "websocket",
        "asgi": _ASGI,
        "http_version": "1.1",
        "scheme": "ws",
        "path": "",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "headers": (),
        "client": None,
        "server": None,
        "subprotocols": (),
        "extensions": {},
    },
    room=8,
)
_WEBSOCKET_EXTENSIONS = template({"websocket.http.response": _NO_DETAILS}, room=2)


class Entrance:
    """An address of the server, and for TLS the content of the ASGI TLS extension."""

    __slots__ = ("server", "tls")

    def __init__(self, server: Address, tls: dict[str, Any] | None = None) -> None:
        self.server = server
        self.tls = tls


Origin = tuple[Address, Entrance]
"""A client's address, and the entrance that it has connected to."""

UNKNOWN: Origin = (None, Entrance(None))
"""Stands for an origin that is not known yet: ask the transport with `origin`."""


def origin(transport: asyncio.BaseTransport) -> Origin:
    """The client's address, and the entrance that it has connected to.

    Addresses are `(host, port)`. For a Unix socket, both are None. ASGI also allows `(path, None)` for the server, but
    applications expect a host and a port: Django would set `SERVER_PORT` to "None". For TLS, the transport's extra info
    `tls` is the content of the TLS extension.
    """
    # Do not ask for the transport's socket: uvloop would make an object for it, for every connection.
    client = _address(transport.get_extra_info("peername"))
    server = _address(transport.get_extra_info("sockname"))
    tls = transport.get_extra_info("tls")
    return client, _plain(server) if tls is None else Entrance(server, tls)


def _address(name: Any) -> Address:
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return None


def entrance_of(listening: socket.socket) -> Entrance | None:
    """The entrance of all connections to this socket, without TLS. None if it listens on many addresses, or on none."""
    name = _address(listening.getsockname())
    return None if name is None or name[0] in _ANY else _plain(name)


@functools.lru_cache(maxsize=64)
def _plain(server: Address) -> Entrance:
    """The entrance for an address without TLS. All connections to one address share it."""
    return Entrance(server)


class ScopeForLog(Mapping[str, Any]):
    """The part of a scope that is kept for later log lines. It takes a fifth of the scope's memory."""

    __slots__ = ("client", "path", "query_string", "raw_path")

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.client = scope["client"]
        self.path = scope["path"]
        self.query_string = scope["query_string"]
        self.raw_path = scope["raw_path"]

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.__slots__)

    def __len__(self) -> int:
        return len(self.__slots__)


def decoded_path(raw_path: bytes) -> str:
    """The path with percent escapes decoded. Bytes that are not UTF-8 become replacement characters."""
    if b"%" in raw_path:
        raw_path = unquote_to_bytes(raw_path)
    return raw_path.decode("utf-8", "replace")


def mounted(root_path: str, raw_path: bytes) -> tuple[str, bytes]:
    """The `path` and `raw_path` of a scope. In ASGI, both include `root_path`.

    Some proxies strip the prefix that an application is mounted at, and some do not. So `root_path` is only added if
    the path does not begin with it. Behind a proxy that strips the prefix, a route that itself begins with the prefix
    cannot be reached.
    """
    path = decoded_path(raw_path)
    if not root_path or path == root_path or path.startswith(root_path + "/"):
        return path, raw_path
    return root_path + path, _quoted(root_path) + raw_path


@functools.lru_cache(maxsize=8)
def _quoted(root_path: str) -> bytes:
    return quote(root_path).encode("ascii")


def http_scope(
    head: Request, root_path: str, client: Address, entrance: Entrance, state: dict[str, Any] | None
) -> dict[str, Any]:
    """The scope of an HTTP request. `state` is copied one level deep for each request (ASGI lifespan 2.0)."""
    extensions = {"http.response.early_hint": _NO_DETAILS, "http.response.trailers": _NO_DETAILS}
    scope = _scope("http", head, root_path, client, entrance.server, state, extensions)
    scope["method"] = head.method
    scope["scheme"] = "http"
    if entrance.tls is not None:
        scope["scheme"] = "https"
        extensions["tls"] = entrance.tls
    return scope


def websocket_scope(
    head: Request,
    subprotocols: list[str],
    root_path: str,
    client: Address,
    entrance: Entrance,
    state: dict[str, Any] | None,
) -> dict[str, Any]:
    """The scope of a WebSocket handshake."""
    scope = _WEBSOCKET.copy()
    scope["http_version"] = head.version
    scope["path"], scope["raw_path"] = mounted(root_path, head.raw_path)
    scope["query_string"] = head.query_string
    scope["root_path"] = root_path
    scope["headers"] = head.headers[:]  # a copy has no spare room, as the parser's list does
    scope["client"] = client
    scope["server"] = entrance.server
    scope["extensions"] = _WEBSOCKET_EXTENSIONS.copy()
    if entrance.tls is not None:
        scope["scheme"] = "wss"
        scope["extensions"]["tls"] = entrance.tls
    scope["subprotocols"] = subprotocols
    if state is not None:
        scope["state"] = state.copy()
    return scope


def _scope(
    kind: str,
    head: Request,
    root_path: str,
    client: Address,
    server: Address,
    state: dict[str, Any] | None,
    extensions: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    path, raw_path = mounted(root_path, head.raw_path)
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": _ASGI,
        "http_version": head.version,
        "path": path,
        "raw_path": raw_path,
        "query_string": head.query_string,
        "root_path": root_path,
        "headers": head.headers,
        "client": client,
        "server": server,
        "extensions": extensions,
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope
