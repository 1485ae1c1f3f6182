"""One connection to the broker. Everything posted in one pass of the event loop goes out in one write.

The broker answers in order, so one queue holds the calls that wait for an answer. Posted messages are confirmed
separately, by counts. A link ends when the connection is lost, when `abort` gives it up, or when another broker takes
over. It is never used again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, cast

from fairway.layers.backplane import BackplaneStatistics, Refused, Unavailable
from fairway.layers.local import protocol
from fairway.layers.local.protocol import Answer, Ask, Decoder, ProtocolError

WINDOW_MESSAGES = 1000
WINDOW_BYTES = 1024 * 1024
"""How much may be posted and unconfirmed. A sender beyond that waits until half of it is confirmed."""

Frame: TypeAlias = tuple[Answer, str, bytes]


class Owner(Protocol):
    """The owner of a link: what the link reports to."""

    statistics: BackplaneStatistics

    def pushed(self, subject: str, data: bytes) -> Awaitable[None] | None:
        """A message has arrived. Await the result, if there is one, before the next."""

    def item(self, queue: str, data: bytes) -> None:
        """A message of a queue has arrived for a reader that has asked for it."""

    def going(self, link: Link) -> None:
        """Another broker takes over: stop using this link."""

    def lost(self, link: Link, error: Exception) -> None:
        """The connection has ended."""


class Link(asyncio.Protocol):
    """A connection, from `connection_made` to `connection_lost`. Call everything in its event loop."""

    def __init__(self, owner: Owner) -> None:
        self.reads = 0
        self.is_paused = False
        self.transport: asyncio.Transport
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._decoder = Decoder(Answer)
        self._unread: deque[Frame] = deque()
        self._expected: deque[asyncio.Future[Frame]] = deque()
        self._out: list[bytes] = []
        self._window = _Window()
        self._error: Exception | None = None
        self._resuming: asyncio.Task[None] | None = None

    # Asking ---------------------------------------------------------------------------------------------------

    def post(self, subject: str, data: bytes) -> Awaitable[None] | None:
        """Publish without waiting for the answer. Await the result, if there is one, before posting more."""
        self.write(protocol.post(subject, data))
        return self._window.add(len(data))

    async def call(self, frame: bytes) -> Frame:
        """Send a frame and return the answer. Raises `Refused`, or `Unavailable` if the link is lost."""
        self._check()
        future: asyncio.Future[Frame] = self._loop.create_future()
        self.write(frame)
        self._expected.append(future)
        return _accepted(await future)

    async def call_all(self, frames: Sequence[bytes]) -> None:
        """Send frames together, and wait until all are answered. Raises what `call` raises."""
        self._check()
        futures = [self._loop.create_future() for _ in frames]
        for frame in frames:
            self.write(frame)
        self._expected.extend(futures)
        for future in futures:
            _accepted(await future)

    def ask_whether_alive(self) -> None:
        self.write(protocol.frame(Ask.PING))
        self._expected.append(self._loop.create_future())

    def write(self, frame: bytes) -> None:
        """Send a frame together with everything else from this pass."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)

    async def close(self, drain: float) -> None:
        """Close the connection once everything is answered, after `drain` seconds at the latest."""
        if self._error is None:
            with suppress(TimeoutError, Unavailable, Refused):
                async with asyncio.timeout(drain):
                    await self.call(protocol.frame(Ask.PING))
            self._error = self._error or ConnectionError("it was closed here")
            self.transport.abort()
        # An event loop that is ending must not end before this.
        await asyncio.wait([self.ended])

    def abort(self, error: Exception) -> None:
        """Cut the connection at once."""
        if self._error is None:
            self._error = error
            self.transport.abort()

    def _check(self) -> None:
        if self._error is not None:
            raise Unavailable(f"the connection to the broker was lost: {self._error}")

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        self.transport.write(data)

    # Answers (`asyncio.Protocol`) -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        try:
            frames = self._decoder.feed(data)
            if self.is_paused:  # the transport had read it already
                self._unread.extend(frames)
            else:
                self._read(deque(frames))
        except ProtocolError as error:
            self.abort(ConnectionError(f"the broker does not speak our language: {error}"))

    def _read(self, frames: deque[Frame]) -> None:
        pushed, message = self._owner.pushed, Answer.MESSAGE
        while frames:
            frame = frames.popleft()
            op, name, body = frame
            if op is not message:
                self._answered(frame)
                continue
            handled = pushed(name, body)
            if handled is not None:
                self._unread = frames
                self._pause(handled)
                return

    def _pause(self, handled: Awaitable[None]) -> None:
        """Stop reading until a message has been handled: the process has enough to do."""
        self.is_paused = True
        self.transport.pause_reading()
        self._resuming = self._loop.create_task(self._resume(handled))

    async def _resume(self, handled: Awaitable[None]) -> None:
        try:
            await handled
        finally:
            self.is_paused = False
            unread, self._unread = self._unread, deque()
            if self._error is None:
                try:
                    self._read(unread)
                except ProtocolError as error:
                    self.abort(ConnectionError(f"the broker does not speak our language: {error}"))
                if not self.is_paused:
                    self.transport.resume_reading()

    def _answered(self, frame: Frame) -> None:
        op, name, body = frame
        if op is Answer.POSTED:
            count, unheard = protocol.read_posted(body)
            self._owner.statistics.unheard += unheard
            self._window.confirmed(count)
        elif op is Answer.ITEM:
            self._owner.item(name, body)
        elif op is Answer.GOING:
            self._owner.going(self)
            self.write(protocol.frame(Ask.LEAVE))
        elif not self._expected:
            raise ProtocolError(f"{op.name} without having been asked")
        else:
            future = self._expected.popleft()
            if not future.done():
                future.set_result(frame)

    def eof_received(self) -> None:
        """The broker has closed the connection. Returning None makes asyncio close it too."""

    def connection_lost(self, error: Exception | None) -> None:
        self._error = self._error or error or ConnectionError("the broker has closed the connection")
        unavailable = Unavailable(f"the connection to the broker was lost: {self._error}")
        self._owner.statistics.uncertain += self._window.count
        for future in self._expected:
            _fail(future, unavailable)
        self._expected.clear()
        self._window.fail(unavailable)
        self._owner.lost(self, self._error)
        self.ended.set_result(None)


class _Window:
    """The messages that are posted and unconfirmed."""

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._room: asyncio.Future[None] | None = None

    @property
    def count(self) -> int:
        return len(self._sizes)

    def add(self, size: int) -> Awaitable[None] | None:
        self._sizes.append(size)
        self._bytes += size
        if len(self._sizes) < WINDOW_MESSAGES and self._bytes < WINDOW_BYTES:
            return None
        return self._wait_for_room()

    def confirmed(self, count: int) -> None:
        if count > len(self._sizes):
            raise ProtocolError(f"{count} messages confirmed of {len(self._sizes)}")
        for _ in range(count):
            self._bytes -= self._sizes.popleft()
        if self._room is not None and len(self._sizes) * 2 <= WINDOW_MESSAGES and self._bytes * 2 <= WINDOW_BYTES:
            room, self._room = self._room, None
            room.set_result(None)

    def fail(self, error: Exception) -> None:
        if self._room is not None:
            _fail(self._room, error)
            self._room = None

    async def _wait_for_room(self) -> None:
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        # Shielded: cancelling the future itself would end everybody's wait.
        await asyncio.shield(self._room)


def _accepted(frame: Frame) -> Frame:
    if frame[0] is Answer.REFUSED:
        raise Refused(protocol.read_refused(frame[2]))
    return frame


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen, even if nobody waits any more
