"""One connection to the broker.

The broker answers in order, so one queue holds the calls that wait for an answer. Posted messages are confirmed
separately, by counts. A link also ends when another broker takes over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterator, Sequence
from typing import Protocol, TypeAlias

from fairway.layers.backplane import BackplaneStatistics, Refused
from fairway.layers.link import ServiceLink
from fairway.layers.local import protocol
from fairway.layers.local.fields import ProtocolError
from fairway.layers.local.protocol import Answer, Ask, Decoder

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


class Link(ServiceLink):
    """A connection, from `connection_made` to `connection_lost`. Call everything in its event loop."""

    SERVICE = "the broker"
    _owner: Owner

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._decoder = Decoder(Answer)
        self._unread: deque[Frame] = deque()
        self._expected: deque[asyncio.Future[Frame]] = deque()
        self._posted: deque[int] = deque()  # the sizes of the messages in the window

    # Asking ---------------------------------------------------------------------------------------------------

    def post(self, subject: str, data: bytes) -> Awaitable[None] | None:
        """Publish without waiting for the answer. Await the result, if there is one, before posting more."""
        self.write(protocol.post(subject, data))
        size = len(data)
        self._posted.append(size)
        return self._window.add(size)

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

    async def _everything_is_answered(self) -> None:
        await self.call(protocol.frame(Ask.PING))

    # Answers --------------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        unread, pushed, message = self._unread, self._owner.pushed, Answer.MESSAGE
        try:
            unread.extend(self._decoder.feed(data))
            if self.is_paused:  # the transport had read it already
                return
            while unread:
                frame = unread.popleft()
                op, name, body = frame
                if op is not message:
                    self._answered(frame)
                    continue
                handled = pushed(name, body)
                if handled is not None:
                    self._pause(handled)
                    return
        except ProtocolError as error:
            raise ConnectionError(f"the broker does not speak our language: {error}") from None

    def _answered(self, frame: Frame) -> None:
        op, name, body = frame
        if op is Answer.POSTED:
            self._confirmed(*protocol.read_posted(body))
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

    def _confirmed(self, count: int, unheard: int) -> None:
        posted = self._posted
        if count > len(posted):
            raise ProtocolError(f"{count} messages confirmed of {len(posted)}")
        self._owner.statistics.unheard += unheard
        self._window.confirmed(count, sum(posted.popleft() for _ in range(count)))

    def _waiting(self) -> Iterator[asyncio.Future[Frame]]:
        return iter(self._expected)


def _accepted(frame: Frame) -> Frame:
    if frame[0] is Answer.REFUSED:
        raise Refused(protocol.read_refused(frame[2]))
    return frame
