"""How many connections each address has, and whether it may have another one.

A place belongs to what ends: to a socket, whoever speaks over it, or to a WebSocket without a socket of its own, which
shares one of HTTP/2 with others, or comes by a proxy's. It is given back once. Pure: no socket, no clock.

Trusted proxies have no bound: their connections are those of many clients. One whose client a proxy names by the PROXY
protocol counts for that client. One that a proxy passes on as HTTP is the proxy's; what can be counted of its clients
are WebSockets, since each of them is one client's for long.
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
    """What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 one, which is the least that a
    network is given, so that a host has 2**64 addresses to choose from.
    """
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    return socket.inet_ntop(socket.AF_INET, packed[12:]) if packed.startswith(_MAPPED) else packed[:8]


class Place:
    """One of an address's places, until it is given back."""

    __slots__ = ("_addresses", "_key", "is_beyond")

    is_beyond: bool
    """Whether it is one too many: its connection is to be told so, and closed."""

    def __init__(self, addresses: Addresses | None, key: Key, is_beyond: bool) -> None:
        self._addresses = addresses
        self._key = key
        self.is_beyond = is_beyond

    def give_back(self) -> None:
        """Harmless if that was done before."""
        addresses, self._addresses = self._addresses, None
        if addresses is not None:
            addresses.given_back(self._key, self.is_beyond)


UNBOUNDED = Place(None, "", False)
"""Of whoever is not counted."""


class Addresses:
    """The places of one event loop. Each address has `most`, and as many again for those that are told that there are
    no more, so that telling is bounded as well. An address without a connection is not remembered.
    """

    def __init__(self, most: int, proxies: Iterable[Network] = ()) -> None:
        self.most = most
        self._proxies = tuple(proxies)
        self._forwarded = ProxyHeaders(_no_application, self._proxies)
        self._held: dict[Key, list[int]] = {}
        self._kept: dict[object, Place] = {}

    def __len__(self) -> int:
        """How many addresses have a place."""
        return len(self._held)

    def take(self, host: str) -> Place | None:
        """A place for a connection from there. None: not even one to be told in."""
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
        """For whom a WebSocket counts; None: for nobody, or its socket does so already. `is_shared`: others have come
        by the same socket, whose own place is not enough then.
        """
        peer: tuple[str, int] | None = scope["client"]
        if peer is None or is_within(peer[0], self._proxies):
            return self._forwarded.client_of(scope)
        return peer if is_shared else None

    def keep(self, connection: object, place: Place) -> None:
        """The place is the connection's, until `release`."""
        if place is not UNBOUNDED:
            self._kept[connection] = place

    def release(self, connection: object) -> None:
        """The connection has gone, and with it the place that it kept, if any."""
        place = self._kept.pop(connection, None)
        if place is not None:
            place.give_back()


def _no_application(*_arguments: Any) -> Any:
    raise AssertionError("nothing is called: only headers are read")
