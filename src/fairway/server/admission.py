"""Who gets in: the bounds on connections, on those of one address, and on the memory that all clients hold together.

Each rule is one method of `Admission`. If it refuses a client, that is counted and logged, and the caller only has to
answer: see the answers below.

What counts as a connection is a socket, from the moment that it is accepted, and each WebSocket that shares a socket
with other WebSockets. So an HTTP/2 connection counts as one, or as many as the WebSockets that it carries. A socket
whose client is only told that it is refused does not count; but it needs a descriptor, and these are bounded too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, Protocol, TypeAlias

from fairway.asgi.types import Headers
from fairway.server import descriptors
from fairway.server.addresses import UNBOUNDED, Addresses, Place
from fairway.server.limits import Limits
from fairway.server.proxy import Network

Answer: TypeAlias = tuple[int, str, Headers]
"""Status, reason and headers."""

TOO_MANY: Answer = (503, "too many connections", [(b"retry-after", b"10")])
"""The answer to a client beyond the bound of connections."""

TOO_MANY_OF_ADDRESS: Answer = (429, "too many connections of this address", [(b"retry-after", b"10")])
"""The answer to a client whose address has too many. It is not 503: a balancer would think that the server is ill."""

SHORT_OF_MEMORY: Answer = (503, "server is short of memory", [(b"retry-after", b"10")])
"""The answer while all clients together hold too much memory (`fairway.server.memory`)."""


class Counts(Protocol):
    """What is counted here. (`fairway.server.context.Counters`)"""

    refused: int
    address_refusals: int


class Admission:
    """The rules of one event loop. `connections` are all that are open now: sockets, and WebSockets over HTTP/2.

    `fault` writes a line of the log, as `ServerContext.fault` does.
    """

    __slots__ = (
        "_carriers",
        "_connections",
        "_counts",
        "_fault",
        "_most_of_address",
        "_most_sockets",
        "_streams",
        "addresses",
        "max_connections",
        "refusing",
        "short_of_memory",
    )

    addresses: Addresses | None
    """The places of each address; None if they are not bounded."""

    max_connections: int
    """How many connections there may be."""

    refusing: int
    """How many of the connections are only told that they are refused. Whoever tells them counts them here."""

    short_of_memory: bool
    """Whether all clients together hold too much. Whoever adds that up says so here (`fairway.server.memory`)."""

    def __init__(
        self,
        connections: Sized,
        limits: Limits,
        proxies: Iterable[Network],
        counts: Counts,
        fault: Callable[[str, Mapping[str, Any] | None, str], None],
    ) -> None:
        self._connections = connections
        self._counts = counts
        self._fault = fault
        self.max_connections = limits.max_connections or descriptors.for_connections()
        self._most_sockets = self.max_connections + descriptors.reserve() // 4
        self._most_of_address = limits.max_connections_per_address
        self.addresses = Addresses(self._most_of_address, proxies) if self._most_of_address else None
        self.refusing = 0
        self.short_of_memory = False
        self._streams = 0  # WebSockets over HTTP/2
        self._carriers = 0  # HTTP/2 connections with at least one of them

    # What there is --------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many connections count for the bound now."""
        return len(self._connections) - self._carriers - self.refusing

    def websocket_joined(self, carried: int) -> None:
        """A WebSocket was opened on an HTTP/2 connection, which carries that many now."""
        self._streams += 1
        if carried == 1:
            self._carriers += 1

    def websocket_left(self, carried: int) -> None:
        """A WebSocket has left an HTTP/2 connection, which carries that many now."""
        self._streams -= 1
        if not carried:
            self._carriers -= 1

    # The rules ------------------------------------------------------------------------------------------------

    def has_descriptor(self, coming: int) -> bool:
        """Whether a socket that was just accepted may stay open, if only to be refused. If not, the remaining
        descriptors are for the application: answer `TOO_MANY` in one write at most, and close.

        `coming` is how many sockets have been accepted that are not among the connections yet.
        """
        if len(self._connections) - self._streams + coming < self._most_sockets:
            return True
        self._too_many("503")
        return False

    def has_memory(self) -> bool:
        """Whether another client may hold something. If not, the answer is `SHORT_OF_MEMORY`."""
        if not self.short_of_memory:
            return True
        self._counts.refused += 1
        self._fault(
            "short of memory", None, "clients hold more than max_client_memory: new connections are answered 503"
        )
        return False

    def keeps(self, how: str) -> bool:
        """Whether a connection that is among `connections` now may stay. If not, it is being refused from now on, and
        `how` is what the client gets for `TOO_MANY`.
        """
        if self.count <= self.max_connections:
            return True
        self.refusing += 1
        self._too_many(how)
        return False

    def takes_websocket(self, carried: int) -> bool:
        """Whether an HTTP/2 connection that carries that many WebSockets may carry another one. If not, the answer is
        `TOO_MANY`. The first one counts for its connection, so it always may.
        """
        if not carried or self.count < self.max_connections:
            return True
        self._too_many("503")
        return False

    def place_of_socket(self, client: tuple[str, int], is_told: bool) -> Place | None:
        """The place that a socket holds for its address until it is closed. If it `is_beyond`, the address has too
        many. None: so many of them are being refused that this one is closed without an answer.

        `is_told` says whether a client beyond the bound is answered `TOO_MANY_OF_ADDRESS`. Over TLS it is not: a
        handshake costs a thousand times as much.
        """
        place = UNBOUNDED if self.addresses is None else self.addresses.take(client[0])
        if place is None or place.is_beyond:
            self._too_many_of_address({"client": client, "path": "-"}, "429" if place and is_told else "closed")
        return place

    def place_of_websocket(self, scope: Mapping[str, Any], is_shared: bool) -> Place | None:
        """The place that a WebSocket holds until it ends. None: its address has too many, and the answer is
        `TOO_MANY_OF_ADDRESS`. `is_shared` is as for `Addresses.client_of`.
        """
        client = None if self.addresses is None else self.addresses.client_of(scope, is_shared)
        if self.addresses is None or client is None:
            return UNBOUNDED
        place = self.addresses.take(client[0])
        if place is not None and not place.is_beyond:
            return place
        if place is not None:
            place.give_back()
        self._too_many_of_address({**scope, "client": client}, "429")
        return None

    # What is said of them -------------------------------------------------------------------------------------

    def _too_many(self, how: str) -> None:
        self._counts.refused += 1
        self._fault("connection limit", None, f"more than {self.max_connections} connections: {how}")

    def _too_many_of_address(self, scope: Mapping[str, Any], how: str) -> None:
        self._counts.address_refusals += 1
        self._fault("address limit", scope, f"more than {self._most_of_address} connections of this address: {how}")
