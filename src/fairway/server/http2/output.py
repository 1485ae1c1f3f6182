"""How the streams of a connection share its windows and its socket.

All streams write into the one outbox of the connection, through a `StreamWriter`: as much as both windows allow, while
the socket takes it. The rest waits in a `StreamOutput` of the stream, and the stream is among the `waiting` ones. When
a window opens, or the socket has room again, these go on in turn, one frame each. So however much one stream has to
send, any other waits for at most one frame of each.

What waits is bounded for each stream, and for the connection as a whole: with a window that it keeps closed, a client
could make the applications of all its streams give us content. While the connection holds its share (`is_full`), every
stream whose content waits lets its application wait, and so does one that could not send a frame now, before there is
any content of it. A stream that can send goes on.
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

MANY = 4
"""How many streams, at least, it takes to make a connection full."""


class WaitingStream(Protocol):
    """A stream with content that could not be sent at once."""

    def go_on(self, now: float) -> bool:
        """Send one frame. True if another could follow at once."""


class StreamWriter:
    """Writes the output of all streams of one connection."""

    __slots__ = (
        "_counted",
        "_crowd",
        "_most",
        "_most_each",
        "_outbox",
        "_protocol",
        "held",
        "is_full",
        "moved_at",
        "waiting",
    )

    waiting: dict[WaitingStream, None]
    """The waiting streams, in order of arrival. A stream that has nothing more to send removes itself."""

    held: int
    """Bytes that wait for the requests of this connection, all together."""

    is_full: bool
    """Whether they are as many as they may be."""

    moved_at: float
    """When waiting content of any stream was last sent."""

    def __init__(self, outbox: Outbox, protocol: Http2Protocol, most: int) -> None:
        """`most`: bytes that wait for all requests together before each of their senders has to wait."""
        self._outbox = outbox
        self._protocol = protocol
        self._most = most
        self._most_each = most // MANY  # however large the pieces of an application are, few do not make it full
        self._counted = 0
        self._crowd: dict[StreamOutput, None] = {}  # those whose senders may wait because it was full
        self.held = 0
        self.is_full = False
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

    def holds_up(self, stream: Stream) -> bool:
        """Whether content of this stream would have to wait, and there is no room for it. A window of a few bytes does
        not make an application begin: most of its first piece would wait.
        """
        if not (self.is_full and stream.is_open):
            return False
        needed = 1 if stream.response_started else FRAME_BYTES
        return stream.window < needed or self._protocol.window <= 0

    def resize(self, before: int, after: int) -> None:
        """What waits for a request has changed from so many bytes to so many."""
        self.held += after - before
        self._counted += min(after, self._most_each) - min(before, self._most_each)
        if not self.is_full:
            self.is_full = self._counted >= self._most
        elif self._counted < self._most:
            self.is_full = False
            crowd, self._crowd = self._crowd, {}
            for output in crowd:
                output.wake_waiters()

    def crowd(self, output: StreamOutput) -> None:
        """Wake its senders when there is room again."""
        self._crowd[output] = None

    def leave_crowd(self, output: StreamOutput) -> None:
        self._crowd.pop(output, None)


class StreamOutput:
    """Content that waits for one stream, in order, and the senders that wait for room. (`fairway.asgi.http.Waiting`)

    It may be empty: then the sender has to wait before it has any content.
    """

    __slots__ = (
        "_has_ended",
        "_is_over",
        "_pieces",
        "_share",
        "_stream",
        "_trailers",
        "_waiters",
        "_writer",
        "size",
        "stalled_at",
    )

    stalled_at: float
    """Since when nothing has been sent."""

    def __init__(self, writer: StreamWriter, stream: Stream, share: int, now: float) -> None:
        """`share`: bytes that wait before a sender has to wait, although the connection has room."""
        self._writer = writer
        self._stream = stream
        self._share = share
        self._is_over = False
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
            self._resize(self.size + len(data))
        self._has_ended = ended

    def _resize(self, size: int) -> None:
        before, self.size = self.size, size
        self._writer.resize(before, size)

    def end(self, trailers: bytes) -> None:
        """Nothing follows except these trailers, which may be empty."""
        self._trailers = trailers
        self._has_ended = True

    @property
    def is_complete(self) -> bool:
        """Whether everything has been sent, and nothing will follow."""
        return self._has_ended and not self._pieces

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits here, except perhaps senders."""
        return not (self._pieces or self._has_ended)

    @property
    def is_awaited(self) -> bool:
        """Whether a sender waits."""
        return any(not waiter.done() for waiter in self._waiters)

    @property
    def high_water(self) -> int:
        """From this size on, senders have to wait. 0 while the connection is full."""
        if self._is_over:
            return self.size + 1
        return 0 if self._writer.is_full else self._share

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
        self.stalled_at = self._writer.moved_at = now
        self._resize(self.size - sent)
        if self.size < self.high_water:
            self.wake_waiters()

    async def drained(self) -> None:
        """Wait until less than `high_water` waits, or this is over. Cancelling loses nothing."""
        while self.size >= self.high_water:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            if self._writer.is_full:
                self._writer.crowd(self)
            await waiter

    def wake_waiters(self) -> None:
        """Let all who await `drained` look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def end_waiting(self) -> None:
        """The stream is gone, or can send again: forget everything, and wake all senders."""
        self._is_over = True
        self._pieces.clear()
        self._resize(0)
        self._writer.leave_crowd(self)
        self.wake_waiters()
