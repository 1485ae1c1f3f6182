"""How bytes are sent past a transport, and how the same bytes are sent to many endpoints.

An *endpoint* is what an outbox sends on directly: a socket, a TLS socket, or a stream that shares an HTTP/2 connection.
All endpoints of one kind share a *lane*, which writes the same bytes to many of them. Anything without a lane is
written to through its transport only. A bare `ssl.SSLSocket` has no lane: its `send` writes clear text once its TLS has
ended, and `socket.send` writes clear text on it at any time.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable, Iterable, Sequence
from itertools import compress, repeat
from operator import attrgetter
from socket import socket
from typing import Any, ClassVar, Protocol

from fairway.protocols.http2 import data_head
from fairway.server.output.scheduler import Scheduler

# Larger writes save little: a KiB takes 0.19 µs with this size, 0.44 µs with a quarter of it, and 0.11 µs with four
# times as much (bench/micro/batch.py). And the outbox does not count the part of a chunk that its transport holds.
CHUNK_BYTES = 65536

RECORD_BYTES = 16384
"""The most that one TLS record holds (RFC 8446 section 5.1)."""


class Endpoint(Protocol):
    """What an outbox can send on without its transport."""

    def send(self, data: bytes, /) -> int:
        """Send as much as possible now, and return the number of bytes: 0 or an `OSError` if nothing can be sent."""


class Lane(Protocol):
    """Writes to endpoints of one kind."""

    @property
    def neighbours(self) -> Callable[[Any], object] | None:
        """A function that returns the same object for endpoints that are cheapest to write to one after the other. None
        if their order does not matter.
        """

    def write(self, endpoints: Sequence[Any], data: bytes) -> list[int]:
        """Send as much of `data` as possible on each endpoint. Return how many bytes each one has taken, in order."""


class Sockets:
    """The lane of endpoints that share nothing: one `send` for each."""

    __slots__ = ("_send",)

    neighbours = None

    def __init__(self, send: Callable[[Any, bytes], int]) -> None:
        self._send = send

    def write(self, endpoints: Sequence[Any], data: bytes) -> list[int]:
        return self.write_each(endpoints, repeat(data))

    def write_each(self, endpoints: Sequence[Any], pieces: Iterable[bytes]) -> list[int]:
        """As `write`, but with a piece of its own for each endpoint."""
        # `extend` loops over the sockets in C. A loop in Python would take a twentieth of the time of a delivery.
        taken: list[int] = []
        sends = map(self._send, endpoints, pieces)
        while len(taken) < len(endpoints):
            try:
                taken.extend(sends)
            except OSError:
                taken.append(0)  # full or broken; the transport handles both
        return taken


class TlsSocket(ssl.SSLSocket):
    """A TLS socket that never sends clear text, even after its TLS has ended. Each call sends one record.

    OpenSSL takes a record whole or not at all, and an unfinished one must be given again with the same bytes and
    length. A longer write would show no progress until its last record was taken.
    """

    lane: ClassVar[Lane]

    on_close: Callable[[], object] | None = None
    """Called by `close`, if set."""

    def close(self) -> None:
        super().close()
        if self.on_close is not None:
            self.on_close()

    def send(self, data: Any, flags: int = 0) -> int:
        """Send the first `RECORD_BYTES` of this, or raise `OSError`."""
        try:
            # Not the `send` of the base class: after `unwrap` or `shutdown` it sends clear text.
            return self.write(data if len(data) <= RECORD_BYTES else memoryview(data)[:RECORD_BYTES])
        except ValueError:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the TLS of this socket has ended") from None


class Carrier(Protocol):
    """The outbox of a connection that carries streams."""

    endpoint: Endpoint | None
    blocked: bool

    @property
    def scheduler(self) -> Scheduler: ...

    @property
    def frames(self) -> object: ...

    def append(self, frame: bytes) -> bool: ...

    def write_rest(self, data: bytes, sent: int) -> None: ...


def send_now(carrier: Carrier, data: bytes) -> None:
    """Send this on the connection directly if its outbox is empty, otherwise append it to the outbox."""
    endpoint = carrier.endpoint
    if carrier.frames is not None or carrier.blocked or endpoint is None or len(data) > CHUNK_BYTES:
        carrier.append(data)
        return
    try:
        sent = endpoint.send(data)
    except OSError:
        sent = 0
    carrier.scheduler.written += len(data)
    if sent < len(data):
        carrier.write_rest(data, sent)


def send_all(carriers: Sequence[Carrier], pieces: Sequence[bytes]) -> None:
    """As `send_now`, a piece on each of these connections of one event loop. None may be there twice."""
    endpoints = [one.endpoint if one.frames is None and not one.blocked else None for one in carriers]
    sizes = list(map(len, pieces))
    lane = lane_of(endpoints[0])
    if not isinstance(lane, Sockets) or len(set(map(type, endpoints))) > 1 or max(sizes) > CHUNK_BYTES:
        # Not all can be sent alike. This is rare enough to look at each again.
        for carrier, data in zip(carriers, pieces, strict=True):
            send_now(carrier, data)
        return
    taken = lane.write_each(endpoints, pieces)
    carriers[0].scheduler.written += sum(sizes)
    if taken != sizes:
        for carrier, data, sent in zip(carriers, pieces, taken, strict=True):
            if sent < len(data):
                carrier.write_rest(data, sent)


class Carried(Protocol):
    """A stream, as an endpoint."""

    @property
    def carrier(self) -> Carrier: ...

    def claim(self, size: int) -> int:
        """Subtract `size` from the stream's and the connection's windows, and return the number of the stream. 0, and
        nothing is subtracted, if so much may not be sent now.
        """


class Streams:
    """The lane of streams. Those of one connection share a write.

    All streams are looked at before anything is sent, because each call of the kernel displaces the processor's caches:
    what Python does between two of them takes several times as long.
    """

    __slots__ = ()

    neighbours = staticmethod(attrgetter("carrier"))

    def write(self, endpoints: Sequence[Carried], data: bytes) -> list[int]:
        size = len(data)
        numbers = [one.claim(size) for one in endpoints]
        taken = [size if number else 0 for number in numbers]
        # Most connections have one stream, with the same number.
        frames = {number: data_head(number, size) + data for number in set(numbers) if number}
        pieces = [frames[number] for number in numbers if number]
        carriers = [one.carrier for one in compress(endpoints, numbers)]
        different = dict.fromkeys(carriers)
        if len(different) < len(carriers):
            shared: dict[Carrier, list[bytes]] = {carrier: [] for carrier in different}
            for carrier, frame in zip(carriers, pieces, strict=True):
                shared[carrier].append(frame)
            carriers, pieces = list(shared), list(map(b"".join, shared.values()))
        if carriers:
            send_all(carriers, pieces)
        return taken


SOCKETS: Lane = Sockets(socket.send)
TlsSocket.lane = Sockets(TlsSocket.send)
STREAMS: Lane = Streams()


def lane_of(endpoint: object) -> Lane | None:
    """The lane of an endpoint; None if it may not be written to directly. Classes name theirs in `lane`."""
    kind = type(endpoint)
    return SOCKETS if kind is socket else getattr(kind, "lane", None)
