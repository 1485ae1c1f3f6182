"""How the streams of a connection share its windows and its socket.

All streams write into the one outbox of the connection, through a `StreamWriter`: as much as both windows allow, while
the socket takes it. The rest waits in a `StreamOutput` of the stream, and the stream is among the `waiting` ones. When
a window opens, or the socket has room again, these go on in turn, one frame each. So however much one stream has to
send, any other waits for at most one frame of each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from fairway.protocols.http2 import Http2Protocol, Stream
from fairway.server.output.lanes import CHUNK_BYTES
from fairway.server.output.outbox import Outbox

FRAME_BYTES = 16384
"""What a waiting stream may send in its turn: the longest frame that every peer accepts (RFC 9113 section 4.2)."""

# Shorter pieces that wait are joined at once: each would take 250 bytes beside its content, and go into a frame of its
# own.
_SMALL_PIECE = 1024


class WaitingStream(Protocol):
    """A stream with content that could not be sent at once."""

    def go_on(self, now: float) -> bool:
        """Send one frame. True if another could follow at once."""


class StreamWriter:
    """Writes the output of all streams of one connection."""

    __slots__ = ("_outbox", "_protocol", "moved_at", "waiting")

    waiting: dict[WaitingStream, None]
    """The waiting streams, in order of arrival. A stream that has nothing more to send removes itself."""

    moved_at: float
    """When waiting content of any stream was last sent."""

    def __init__(self, outbox: Outbox, protocol: Http2Protocol) -> None:
        self._outbox = outbox
        self._protocol = protocol
        self.waiting = {}
        self.moved_at = 0.0

    def write(self, frame: bytes) -> bool:
        """Append a frame to the connection's outbox, unless it is empty. True if the outbox was flushed at once."""
        return bool(frame) and self._outbox.append(frame)

    def send(self, stream: Stream, data: memoryview, ended: bool) -> tuple[int, bool]:
        """Send as much content as windows and socket allow. Returns the number of bytes, and whether the outbox was
        flushed at once because a chunk was full. `ended`: if all content is sent, its last frame ends our side.
        """
        outbox, protocol, total = self._outbox, self._protocol, len(data)
        if not total:
            return 0, self.write(stream.data(b"", ended))
        sent, was_written = 0, False
        while sent < total and self._has_room:
            size = min(total - sent, stream.window, protocol.window, CHUNK_BYTES)
            if size <= 0:
                break
            piece = data[sent : sent + size]
            sent += size
            was_written |= outbox.append(stream.data(piece, ended and sent == total))
        return sent, was_written

    @property
    def _has_room(self) -> bool:
        return not self._outbox.blocked or self._outbox.size < CHUNK_BYTES

    def stalled_since(self, stream: Stream, since: float) -> float:
        """Since when a stream is stalled that has sent nothing since `since`. If its own window is open, it only waits
        for its turn, and is not stalled while its connection sends anything.
        """
        return max(since, self.moved_at) if stream.window > 0 else since

    def go_on(self, now: float, streams: Iterable[WaitingStream] = ()) -> None:
        """Let these streams send, or all that wait, while the socket and the windows have room."""
        turns = deque(streams or self.waiting)
        while turns and self._protocol.window > 0 and self._has_room:
            stream = turns.popleft()
            if stream in self.waiting and stream.go_on(now):
                turns.append(stream)


class StreamOutput:
    """Content that waits for one stream, in order, and the senders that wait for room. (`fairway.asgi.http.Waiting`)"""

    __slots__ = (
        "_has_ended",
        "_pieces",
        "_stream",
        "_trailers",
        "_waiters",
        "_writer",
        "high_water",
        "size",
        "stalled_at",
    )

    stalled_at: float
    """Since when nothing has been sent."""

    def __init__(self, writer: StreamWriter, stream: Stream, high_water: int, now: float) -> None:
        self._writer = writer
        self._stream = stream
        self.high_water = high_water
        self.size = 0
        self.stalled_at = now
        self._pieces: deque[memoryview] = deque()
        self._has_ended = False
        self._trailers = b""
        self._waiters: list[asyncio.Future[None]] = []

    def append(self, data: bytes | memoryview, ended: bool) -> None:
        """Add content. `ended`: it is the last."""
        if data:
            pieces = self._pieces
            if len(data) < _SMALL_PIECE and pieces and len(pieces[-1]) < _SMALL_PIECE:
                pieces[-1] = memoryview(b"".join((pieces[-1], data)))
            else:
                pieces.append(memoryview(data))
            self.size += len(data)
        self._has_ended = ended

    def end(self, trailers: bytes) -> None:
        """Nothing follows except these trailers, which may be empty."""
        self._trailers = trailers
        self._has_ended = True

    @property
    def is_complete(self) -> bool:
        """Whether everything has been sent, and nothing will follow."""
        return self._has_ended and not self._pieces

    def go_on(self, now: float) -> bool:
        """Send one frame. True if another could follow at once."""
        pieces, stream = self._pieces, self._stream
        if pieces:
            piece = pieces[0][:FRAME_BYTES]
            is_last = self._has_ended and not self._trailers and self.size == len(piece)
            sent, _ = self._writer.send(stream, piece, is_last)
            if not sent:
                return False
            self._took(sent, now)
            if is_last and not pieces:
                return False
        if not pieces and self._has_ended:
            self._writer.write(stream.end(self._trailers))
        return bool(pieces) and stream.writable > 0

    def _took(self, sent: int, now: float) -> None:
        pieces = self._pieces
        if sent == len(pieces[0]):
            pieces.popleft()
        else:
            pieces[0] = pieces[0][sent:]
        self.size -= sent
        self.stalled_at = self._writer.moved_at = now
        if self.size < self.high_water:
            self._wake_waiters()

    async def drained(self) -> None:
        """Wait until less than `high_water` waits, or the stream is gone. Cancelling loses nothing."""
        while self.size >= self.high_water:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def lost(self) -> None:
        """The stream is gone: forget everything, and wake all senders."""
        self._pieces.clear()
        self.size = 0
        self._wake_waiters()
