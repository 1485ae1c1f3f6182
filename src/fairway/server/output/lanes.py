"""The ways in which bytes leave past a transport: what they are sent on, and how many get the same ones.

An *endpoint* is what an outbox sends on directly: a socket, a TLS socket, or a stream that shares a connection with
others. Endpoints of one kind share a *lane*, which writes the same bytes to many of them. What has no lane is written
to through its transport only. A bare `ssl.SSLSocket` has none: its `send` writes clear text once its TLS has ended, and
that of its base class does so at any time.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import attrgetter
from socket import socket
from typing import Any, ClassVar, Protocol

# Larger writes save little: 0.19 µs per KiB with this size, 0.44 with a quarter of it, 0.11 with four times as much
# (bench/micro/batch.py); and what an endpoint does not take of a chunk at once is not counted by its outbox.
CHUNK_BYTES = 65536

RECORD_BYTES = 16384
"""The most that one TLS record holds (RFC 8446 section 5.1)."""


class Endpoint(Protocol):
    """What bytes can be sent on past a transport."""

    def send(self, data: bytes, /) -> int:
        """Send as much of this as can be sent now; how many bytes. `OSError` if none can."""


class Lane(Protocol):
    """Endpoints of one kind."""

    @property
    def neighbours(self) -> Callable[[Any], object] | None:
        """Says of an endpoint next to which others it is written to at the least cost; None if that is all one."""

    def write(self, endpoints: Sequence[Any], data: bytes) -> list[int]:
        """Send this on each of them, as far as it can be sent now; how many bytes each has taken."""


class Sockets:
    """The lane of those whose `send` is one call."""

    __slots__ = ("_send",)

    neighbours = None

    def __init__(self, send: Callable[[Any, bytes], int]) -> None:
        self._send = send

    def write(self, endpoints: Sequence[Any], data: bytes) -> list[int]:
        # The loop over the sockets is the iterator's own: in Python it would cost a twentieth of a delivery.
        taken: list[int] = []
        sends = map(self._send, endpoints, repeat(data))
        while len(taken) < len(endpoints):
            try:
                taken.extend(sends)
            except OSError:
                taken.append(0)  # full, or broken: the transport sees to either
        return taken


class TlsSocket(ssl.SSLSocket):
    """A TLS socket that sends no clear text, whatever has become of its TLS; one record in each call.

    OpenSSL takes a record whole or not at all. One that it has begun to send it wants again with the same bytes, and
    of no other length: longer writes would show no progress before their last record was taken.
    """

    lane: ClassVar[Lane]

    on_close: Callable[[], object] | None = None
    """Called when the socket is closed, or has become another."""

    def close(self) -> None:
        super().close()
        if self.on_close is not None:
            self.on_close()

    def send(self, data: Any, flags: int = 0) -> int:
        """Send the first `RECORD_BYTES` of this, or raise `OSError`."""
        try:
            # Not the `send` of the base class: without TLS, after `unwrap` or `shutdown`, it is that of a plain socket.
            return self.write(data if len(data) <= RECORD_BYTES else memoryview(data)[:RECORD_BYTES])
        except ValueError:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the TLS of this socket has ended") from None


class Carrier(Protocol):
    """What waits for a connection that carries streams: its outbox."""

    endpoint: Endpoint | None
    blocked: bool

    @property
    def frames(self) -> object: ...

    def append(self, frame: bytes) -> bool: ...

    def write_rest(self, data: bytes, sent: int) -> None: ...


def send_now(carrier: Carrier, data: bytes) -> None:
    """Send this on the connection itself if nothing waits before it, else have it wait."""
    endpoint = carrier.endpoint
    if carrier.frames is not None or carrier.blocked or endpoint is None or len(data) > CHUNK_BYTES:
        carrier.append(data)
        return
    try:
        sent = endpoint.send(data)
    except OSError:
        sent = 0
    if sent < len(data):
        carrier.write_rest(data, sent)


class Carried(Protocol):
    """A stream, as an endpoint."""

    @property
    def carrier(self) -> Carrier: ...

    def claim(self, size: int) -> bytes:
        """Take so many bytes off what the peer takes now; what the connection is given in front of them. Nothing, and
        nothing is taken off, if it does not take all of them.
        """


class Streams:
    """The lane of streams: those of one connection share a write."""

    __slots__ = ()

    neighbours = staticmethod(attrgetter("carrier"))

    def write(self, endpoints: Sequence[Carried], data: bytes) -> list[int]:
        size = len(data)
        taken = [size] * len(endpoints)
        frames: dict[bytes, bytes] = {}  # by what is in front: most connections have one stream, and it is their first
        carrier: Carrier | None = None
        joined: list[bytes] = []
        for index, stream in enumerate(endpoints):
            head = stream.claim(size)
            if not head:
                taken[index] = 0
                continue
            if (frame := frames.get(head)) is None:
                frame = frames[head] = head + data
            if stream.carrier is not carrier:
                if carrier is not None:
                    send_now(carrier, b"".join(joined))
                    joined.clear()
                carrier = stream.carrier
            joined.append(frame)
        if carrier is not None:
            send_now(carrier, b"".join(joined))
        return taken


SOCKETS: Lane = Sockets(socket.send)
TlsSocket.lane = Sockets(TlsSocket.send)
STREAMS: Lane = Streams()


def lane_of(endpoint: object) -> Lane | None:
    """That of the endpoint's class, by which all others state theirs; None for what may not be written to directly."""
    kind = type(endpoint)
    return SOCKETS if kind is socket else getattr(kind, "lane", None)
