"""How many connections each address has, and whether it may have another one. Pure: no socket, no clock.

Each counted connection holds a `Place` of its address until it ends. Counted are sockets, whatever protocol they carry,
and WebSockets that have no socket of their own: they share an HTTP/2 connection, or come through a proxy.

Trusted proxies have no bound, because their connections carry many clients. If a proxy names the client with the PROXY
protocol, the connection counts for that client. If a proxy forwards HTTP, its connections are not counted; but the
WebSockets in them are, since each belongs to one client for a long time.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from fairway.server.proxy import Network, ProxyHeaders, is_within

Key: TypeAlias = str | bytes

_MAPPED = bytes(10) + b"\xff\xff"


@functools.lru_cache(maxsize=1024)
def key_of(host: str) -> Key:
    """What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 address. A network gets at least 64
    bits of its own, so one host can use 2**64 addresses.
    """
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    return socket.inet_ntop(socket.AF_INET, packed[12:]) if packed.startswith(_MAPPED) else packed[:8]


class Place:
    """The right of one connection to exist, until it is given back."""

    __slots__ = ("_addresses", "_key", "is_beyond")

    is_beyond: bool
    """Whether the address has too many connections: answer this one with a refusal, and close it."""

    def __init__(self, addresses: Addresses | None, key: Key, is_beyond: bool) -> None:
        self._addresses = addresses
        self._key = key
        self.is_beyond = is_beyond

    def give_back(self) -> None:
        """Free the place. A second call does nothing."""
        addresses, self._addresses = self._addresses, None
        if addresses is not None:
            addresses.given_back(self._key, self.is_beyond)


UNBOUNDED = Place(None, "", False)
"""The place of every connection that is not counted."""


class Addresses:
    """The places of one event loop. Each address has `most` places, and again `most` places for connections that get a
    refusal, so that refusals are bounded too. Addresses without connections use no memory.
    """

    def __init__(self, most: int, proxies: Iterable[Network] = ()) -> None:
        self.most = most
        self._proxies = tuple(proxies)
        self._forwarded = ProxyHeaders(_no_application, self._proxies)
        self._held: dict[Key, list[int]] = {}
        self._kept: dict[object, Place] = {}

    def __len__(self) -> int:
        """The number of addresses that hold a place."""
        return len(self._held)

    def take(self, host: str) -> Place | None:
        """Take a place for a connection from this host. None: close the connection without an answer."""
        if is_within(host, self._proxies):
            return UNBOUNDED
        key = key_of(host)
        held = self._held.setdefault(key, [0, 0])
        is_beyond = held[0] >= self.most
        if held[is_beyond] >= self.most:
            return None
        held[is_beyond] += 1
        return Place(self, key, is_beyond)

    def given_back(self, key: Key, is_beyond: bool) -> None:
        """(`Place.give_back`)"""
        held = self._held[key]
        held[is_beyond] -= 1
        if not any(held):
            del self._held[key]

    def client_of(self, scope: Mapping[str, Any], is_shared: bool) -> tuple[str, int] | None:
        """The client whose place a WebSocket needs. None: it needs no place, or the place of its socket is enough.

        `is_shared` says whether the socket carries other exchanges, so that its place is not enough.
        """
        peer: tuple[str, int] | None = scope["client"]
        if peer is None or is_within(peer[0], self._proxies):
            return self._forwarded.client_of(scope)
        return peer if is_shared else None

    def keep(self, connection: object, place: Place) -> None:
        """Let the connection hold the place until `release`."""
        if place is not UNBOUNDED:
            self._kept[connection] = place

    def release(self, connection: object) -> None:
        """The connection is gone: give back its place, if it held one."""
        place = self._kept.pop(connection, None)
        if place is not None:
            place.give_back()


def _no_application(*_arguments: Any) -> Any:
    raise AssertionError("nothing is called: only headers are read")
