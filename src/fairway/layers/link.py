"""What connections to a service have in common: one write in a pass, a window, pauses, and one end.

Everything sent in one pass of the event loop goes out in one write. Messages may be *posted*: sent without waiting for
their answers. How many of them have no answer yet is bounded (`Window`). A message that the process cannot handle at
once *pauses* the link: it reads on when the message has been handled, so that the order is kept.

A link is open from `connection_made` until the connection is lost, or `abort` or `close` gives it up. It is never used
again. Whoever then waits for an answer gets `Unavailable`.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from typing import Any, ClassVar, Protocol, cast

from fairway.layers.backplane import BackplaneError, BackplaneStatistics, Unavailable

WINDOW_MESSAGES = 1000
WINDOW_BYTES = 1024 * 1024
"""How much may be posted and unconfirmed. A sender beyond that waits until half of it is confirmed."""


class Owner(Protocol):
    """The owner of a link: what every link reports to."""

    statistics: BackplaneStatistics

    def lost(self, link: Any, error: Exception) -> None:
        """The connection has ended."""


class ServiceLink(asyncio.Protocol, abc.ABC):
    """A connection to `SERVICE`. Call everything in its event loop.

    A subclass knows what the service is asked, how it is read (`_read`), and who waits for an answer (`_waiting`).
    """

    SERVICE: ClassVar[str]

    def __init__(self, owner: Owner) -> None:
        self.reads = 0  # how often something has arrived
        self.is_paused = False
        self.transport: asyncio.Transport
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._out: list[bytes] = []
        self._window = Window()
        self._error: Exception | None = None
        self._resuming: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        """Send something together with everything else from this pass."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    @abc.abstractmethod
    def ask_whether_alive(self) -> None:
        """Make the service send something. Any bytes count as a sign of life."""

    async def close(self, drain: float) -> None:
        """Close the connection once everything is answered, after `drain` seconds at the latest, or when cancelled."""
        try:
            if self._error is None:
                with suppress(TimeoutError, BackplaneError):
                    async with asyncio.timeout(drain):
                        await self._everything_is_answered()
        finally:
            self.abort(ConnectionError("it was closed here"))
        # An event loop that is ending must not end before this.
        await asyncio.wait([self.ended])

    def abort(self, error: Exception) -> None:
        """Cut the connection at once."""
        if self._error is None:
            self._error = error
            self.transport.abort()

    def _check(self) -> None:
        """Raise `Unavailable` if the link has ended."""
        if self._error is not None:
            raise self._unavailable(self._error)

    def _unavailable(self, error: Exception) -> Unavailable:
        unavailable = Unavailable(f"the connection to {self.SERVICE} was lost: {error}")
        unavailable.__cause__ = error
        return unavailable

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if not self.transport.is_closing():  # uvloop's transports raise then
            self.transport.write(data)

    # What subclasses know -------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def _everything_is_answered(self) -> None:
        """Wait until the service has answered everything sent so far."""

    @abc.abstractmethod
    def _read(self, data: bytes) -> None:
        """Handle what these bytes complete; while the link is paused, keep it for later.

        A message that cannot be handled at once goes to `_pause`; then nothing more may be handled. Raises
        ConnectionError if the service does not speak its protocol. Any error ends the link.
        """

    @abc.abstractmethod
    def _waiting(self) -> Iterator[asyncio.Future[Any]]:
        """The futures that wait for an answer."""

    # The connection (`asyncio.Protocol`) ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        try:
            self._read(data)
        except Exception as error:
            self.abort(error)

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
            if self._error is None:
                try:
                    self._read(b"")
                except Exception as error:
                    self.abort(error)
                if self._error is None and not self.is_paused:
                    self.transport.resume_reading()

    def eof_received(self) -> None:
        """The service has closed the connection. Returning None makes asyncio close it too."""

    def connection_lost(self, error: Exception | None) -> None:
        self._error = self._error or error or ConnectionError(f"{self.SERVICE} has closed the connection")
        unavailable = self._unavailable(self._error)
        self._owner.statistics.uncertain += self._window.count
        for future in self._waiting():
            fail(future, unavailable)
        self._window.fail(unavailable)
        self._owner.lost(self, self._error)
        self.ended.set_result(None)


class Window:
    """The messages that are posted and unconfirmed: their `count`, and their bytes."""

    __slots__ = ("_bytes", "_room", "count")

    def __init__(self) -> None:
        self.count = 0
        self._bytes = 0
        self._room: asyncio.Future[None] | None = None

    def add(self, size: int) -> Awaitable[None] | None:
        """A message of this size has been posted. Await the result, if there is one, before posting more."""
        self.count += 1
        self._bytes += size
        if self.count < WINDOW_MESSAGES and self._bytes < WINDOW_BYTES:
            return None
        return self._wait_for_room()

    def confirmed(self, count: int, size: int) -> None:
        """So many messages, of `size` bytes together, have been confirmed."""
        self.count -= count
        self._bytes -= size
        room = self._room
        if room is not None and self.count * 2 <= WINDOW_MESSAGES and self._bytes * 2 <= WINDOW_BYTES:
            self._room = None
            if not room.done():
                room.set_result(None)

    def fail(self, error: Exception) -> None:
        """Nothing will be confirmed any more: raise this where somebody waits."""
        if self._room is not None:
            fail(self._room, error)
            self._room = None

    async def _wait_for_room(self) -> None:
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        # Shielded: cancelling the future itself would end everybody's wait.
        await asyncio.shield(self._room)


def fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Raise an error where a future is awaited, if it still is."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # mark it as retrieved: the waiting call may have been cancelled
