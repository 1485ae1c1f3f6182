"""One connection to Redis: commands in, replies and pushed messages out (RESP3).

Everything posted in one pass of the event loop goes out in one write. Redis answers in order, so one queue holds what
is expected: for a posted message, whose answer nobody awaits, its number of bytes; for a command, a future; for a
command that is answered by one push per name, an `_Acknowledgements`. An error instead of those pushes answers for all
of them.

A link is *open* from the end of `greet` until the connection is lost, or `abort` gives it up. It is never used again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias, cast

import hiredis

from fairway.layers.backplane import BackplaneStatistics, Refused, Unavailable

WINDOW_MESSAGES = 1000
WINDOW_BYTES = 1024 * 1024
"""How much may be posted and unconfirmed. A sender beyond that waits until half of it is confirmed."""

# hiredis returns this for "not enough data". Its default could not be told from a null, which is a valid reply.
_NOTHING: Final = object()

Reply: TypeAlias = Any


class ReplyError(Exception):
    """Redis answered with an error: a code, such as WRONGPASS, and a text."""

    @property
    def code(self) -> str:
        """The error's code. For an error inside a script, which has the code ERR, the code of the inner error."""
        words = [word.lstrip("-@") for word in str(self).split()] or ["ERR"]
        known = _NOT_READY | _HINTS.keys()
        return next((word for word in words if word in known), "ERR") if words[0] == "ERR" else words[0]


class Caller(Protocol):
    """Something that commands can be sent over."""

    async def call(self, *command: bytes | str | int | float) -> Reply:
        """Send a command and return the reply. Raises `ReplyError` if Redis replies with an error."""


class Owner(Protocol):
    """The owner of a link: what the link reports to."""

    statistics: BackplaneStatistics
    longest_reply: int
    """Bytes of one reply or message at which the link is given up: nothing legitimate is longer."""

    def pushed(self, name: bytes, data: bytes) -> Awaitable[None] | None:
        """A message has arrived. Await the result, if there is one, before the next."""

    def failed(self, error: ReplyError) -> None:
        """Redis has answered a posted message with an error."""

    def lost(self, link: Link, error: Exception) -> None:
        """The connection has ended."""


class _Acknowledgements:
    """Counts down the names that Redis has yet to acknowledge."""

    __slots__ = ("future", "remaining")

    def __init__(self, count: int, future: asyncio.Future[None]) -> None:
        self.remaining = count
        self.future = future


class Link(asyncio.Protocol):
    """A connection, from `connection_made` to `connection_lost`. Call everything in its event loop."""

    def __init__(self, owner: Owner) -> None:
        self.reads = 0  # how often something has arrived
        self.is_paused = False
        self.transport: asyncio.Transport
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._reader = hiredis.Reader(protocolError=ConnectionError, replyError=ReplyError, notEnoughData=_NOTHING)
        self._expected: deque[int | asyncio.Future[Reply] | _Acknowledgements] = deque()
        self._out: list[bytes] = []
        self._posted = self._posted_bytes = 0
        self._unread = 0  # bytes of an incomplete reply
        self._room: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._resuming: asyncio.Task[None] | None = None

    # Commands -------------------------------------------------------------------------------------------------

    def post(self, name: bytes, data: bytes) -> Awaitable[None] | None:
        """PUBLISH, without waiting for the reply. Await the result, if there is one, before posting more."""
        self._write(hiredis.pack_command((b"PUBLISH", name, data)))
        size = len(data)
        self._expected.append(size)
        self._posted += 1
        self._posted_bytes += size
        if self._posted < WINDOW_MESSAGES and self._posted_bytes < WINDOW_BYTES:
            return None
        return self._wait_for_room()

    async def call(self, *command: bytes | str | int | float) -> Reply:
        """Send a command and return the reply. Raises `ReplyError`, or `Unavailable` if the link is lost."""
        self._check()
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._write(hiredis.pack_command(command))
        self._expected.append(future)
        return await future

    async def call_all(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[Reply]:
        """Send commands together and return their replies. Raises what `call` raises, when all are answered."""
        self._check()
        futures: list[asyncio.Future[Reply]] = [self._loop.create_future() for _ in commands]
        self._write(b"".join(hiredis.pack_command(tuple(command)) for command in commands))
        self._expected.extend(futures)
        await asyncio.wait(futures)
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    async def acknowledged(self, command: bytes, names: Sequence[bytes]) -> None:
        """Send SUBSCRIBE or UNSUBSCRIBE, and wait until every name is acknowledged. Raises what `call` raises."""
        self._check()
        future: asyncio.Future[None] = self._loop.create_future()
        self._write(hiredis.pack_command((command, *names)))
        self._expected.append(_Acknowledgements(len(names), future))
        await future

    def forget(self, name: bytes) -> None:
        """UNSUBSCRIBE, without waiting for the acknowledgement."""
        self._write(hiredis.pack_command((b"UNSUBSCRIBE", name)))
        self._expected.append(_Acknowledgements(1, self._loop.create_future()))

    def ask_whether_alive(self) -> None:
        """Make Redis send something. Any bytes count as a sign of life."""
        self._write(hiredis.pack_command((b"PING",)))
        self._expected.append(self._loop.create_future())

    async def close(self, drain: float) -> None:
        """Close the connection once everything is answered, after `drain` seconds at the latest."""
        if self._error is None:
            with suppress(TimeoutError, Unavailable, ReplyError):
                async with asyncio.timeout(drain):
                    await self.call(b"PING")
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
            raise Unavailable(f"the connection to Redis was lost: {self._error}")

    async def _wait_for_room(self) -> None:
        if self._room is None:
            self._room = self._loop.create_future()
        await asyncio.shield(self._room)

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        self.transport.write(data)

    # Replies (`asyncio.Protocol`) -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        self._unread += len(data)
        try:
            self._reader.feed(data)
            self._read()
        except ConnectionError as error:  # not RESP
            self.abort(error)
        except IndexError:  # a push with too few items
            self.abort(ConnectionError("what arrived is not what Redis sends"))
        if self._unread > self._owner.longest_reply:
            self.abort(ConnectionError(f"a reply takes more than {self._owner.longest_reply:,} bytes"))

    def _read(self) -> None:
        gets, pushed = self._reader.gets, self._owner.pushed
        while (reply := gets()) is not _NOTHING:
            self._unread = 0
            if type(reply) is not hiredis.PushNotification:
                self._answered(reply)
            elif reply[0] == b"message":
                handled = pushed(reply[1], reply[2])
                if handled is not None:
                    self._pause(handled)
                    return
            else:
                self._acknowledge()

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
                self._read()
                if not self.is_paused:
                    self.transport.resume_reading()

    def _answered(self, reply: Reply) -> None:
        if not self._expected:
            self.abort(ConnectionError(f"Redis answered what was not asked: {reply!r:.100}"))
            return
        expected = self._expected.popleft()
        is_error = isinstance(reply, ReplyError)
        if type(expected) is int:
            self._confirmed(expected)
            if is_error:
                self._owner.failed(reply)
            elif reply == 0:
                self._owner.statistics.unheard += 1
            return
        future: asyncio.Future[Any] = expected.future if isinstance(expected, _Acknowledgements) else expected  # type: ignore[assignment]
        if not future.done():
            if is_error:
                _fail(future, reply)
            else:
                future.set_result(reply)

    def _confirmed(self, size: int) -> None:
        self._posted -= 1
        self._posted_bytes -= size
        room = self._room
        if room is not None and self._posted * 2 <= WINDOW_MESSAGES and self._posted_bytes * 2 <= WINDOW_BYTES:
            self._room = None
            if not room.done():
                room.set_result(None)

    def _acknowledge(self) -> None:
        expected = self._expected[0] if self._expected else None
        if not isinstance(expected, _Acknowledgements):
            return  # not asked for: a cluster's slot has moved, for example
        expected.remaining -= 1
        if not expected.remaining:
            self._expected.popleft()
            if not expected.future.done():
                expected.future.set_result(None)

    def eof_received(self) -> None:
        """Redis has closed the connection. Returning None makes asyncio close it too."""

    def connection_lost(self, error: Exception | None) -> None:
        self._error = self._error or error or ConnectionError("Redis has closed the connection")
        unavailable = Unavailable(f"the connection to Redis was lost: {self._error}")
        unavailable.__cause__ = self._error
        self._owner.statistics.uncertain += self._posted
        for expected in self._expected:
            future = expected.future if isinstance(expected, _Acknowledgements) else expected
            if isinstance(future, asyncio.Future):
                _fail(future, unavailable)
        self._expected.clear()
        if self._room is not None:
            _fail(self._room, unavailable)
            self._room = None
        self._owner.lost(self, self._error)
        self.ended.set_result(None)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # mark it as retrieved: the waiting call may have been cancelled


async def greet(link: Caller, username: str | None, password: str | None, db: int, name: str) -> None:
    """Switch to RESP3, log in, and select the database. Raises `Refused`, or `Unavailable` if Redis is not ready."""
    login = ("AUTH", username or "default", password) if password else ()
    try:
        await link.call("HELLO", 3, *login)
        if db:
            await link.call("SELECT", db)
    except ReplyError as error:
        raise judged(error) from None
    with suppress(ReplyError):  # it may be forbidden, and only serves people who look at CLIENT LIST
        await link.call("CLIENT", "SETNAME", name)


_NOT_READY = frozenset({"LOADING", "MASTERDOWN", "BUSY", "READONLY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS"})
_HINTS = {
    "WRONGPASS": "check user and password in hosts (redis-cli -u URL ping)",
    "NOAUTH": "Redis asks for a password: put it into hosts",
    "NOPERM": "give the user the commands and channels that docs/howto/choose-a-layer.md lists (ACL SETUSER)",
    "NOPROTO": "Redis 6.2 or later is needed",
    "OOM": "Redis is out of memory: raise maxmemory, or let it evict (maxmemory-policy)",
    "MISCONF": "Redis does not write, because its snapshots fail: see its log",
}


def judged(error: ReplyError) -> Refused | Unavailable:
    """The exception that a caller gets for an error that Redis has replied with."""
    if error.code in _NOT_READY:
        return Unavailable(f"Redis is not ready: {error}")
    hint = _HINTS.get(error.code)
    if "unknown command" in str(error).lower() and "HELLO" in str(error).upper():
        hint = _HINTS["NOPROTO"]
    return Refused(f"Redis refuses: {error}; {hint}" if hint else f"Redis refuses: {error}")
