"""One connection to Redis: commands in, replies and pushed messages out (RESP3).

Redis answers in order, so one queue holds what is expected: for a posted message, whose answer nobody awaits, its
number of bytes; for a command, a future; for commands that were sent together, the same `_Replies` once for each; for a
command that is answered by one push per name, an `_Acknowledgements`. An error instead of those pushes answers for all
of them.

A link is ready for use at the end of `greet`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias

import hiredis

from fairway.layers.backplane import BackplaneStatistics, Refused, Unavailable
from fairway.layers.link import ServiceLink, fail

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
    """Counts down the names that Redis has yet to acknowledge, each by a push that names the command."""

    __slots__ = ("command", "future", "remaining")

    def __init__(self, command: bytes, count: int, future: asyncio.Future[None]) -> None:
        self.command = command.lower()
        self.remaining = count
        self.future = future


class _Replies:
    """Collects the replies to commands that were sent together."""

    __slots__ = ("count", "error", "future", "replies")

    def __init__(self, count: int, future: asyncio.Future[list[Reply]]) -> None:
        self.count = count
        self.future = future
        self.replies: list[Reply] = []
        self.error: ReplyError | None = None

    def add(self, reply: Reply) -> None:
        if self.error is None and isinstance(reply, ReplyError):
            self.error = reply
        self.replies.append(reply)
        if len(self.replies) < self.count or self.future.done():
            return
        if self.error is not None:
            fail(self.future, self.error)
        else:
            self.future.set_result(self.replies)


class Link(ServiceLink):
    """A connection, from `connection_made` to `connection_lost`. Call everything in its event loop."""

    SERVICE = "Redis"
    _owner: Owner

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._reader = hiredis.Reader(protocolError=ConnectionError, replyError=ReplyError, notEnoughData=_NOTHING)
        self._expected: deque[int | asyncio.Future[Reply] | _Replies | _Acknowledgements] = deque()
        self._unread = 0  # bytes of an incomplete reply
        self.first: Callable[[], None] | None = None  # sends what has to go out before anything else

    # Commands -------------------------------------------------------------------------------------------------

    def post(self, name: bytes, data: bytes) -> Awaitable[None] | None:
        """PUBLISH, without waiting for the reply. Await the result, if there is one, before posting more."""
        if self.first is not None:
            send_first(self)
        self.write(hiredis.pack_command((b"PUBLISH", name, data)))
        size = len(data)
        self._expected.append(size)
        return self._window.add(size)

    async def call(self, *command: bytes | str | int | float) -> Reply:
        """Send a command and return the reply. Raises `ReplyError`, or `Unavailable` if the link is lost."""
        return await self.begin(*command)

    def begin(self, *command: bytes | str | int | float) -> asyncio.Future[Reply]:
        """Send a command. The reply is raised or returned where the result is awaited."""
        self._check()
        send_first(self)
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.write(hiredis.pack_command(command))
        self._expected.append(future)
        return future

    async def call_all(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[Reply]:
        """Send commands together and return their replies. Raises what `call` raises, when all are answered."""
        self._check()
        if not commands:
            return []
        send_first(self)
        replies = _Replies(len(commands), self._loop.create_future())
        self.write(b"".join(hiredis.pack_command(tuple(command)) for command in commands))
        self._expected.extend([replies] * len(commands))
        return await replies.future

    async def acknowledged(self, command: bytes, names: Sequence[bytes]) -> None:
        """Send SUBSCRIBE or UNSUBSCRIBE, and wait until every name is acknowledged. Raises what `call` raises."""
        self._check()
        send_first(self)
        future: asyncio.Future[None] = self._loop.create_future()
        self.write(hiredis.pack_command((command, *names)))
        self._expected.append(_Acknowledgements(command, len(names), future))
        await future

    def forget(self, name: bytes) -> None:
        """UNSUBSCRIBE, without waiting for the acknowledgement."""
        self.write(hiredis.pack_command((b"UNSUBSCRIBE", name)))
        self._expected.append(_Acknowledgements(b"UNSUBSCRIBE", 1, self._loop.create_future()))

    def ask_whether_alive(self) -> None:
        self.write(hiredis.pack_command((b"PING",)))
        self._expected.append(self._loop.create_future())

    async def _everything_is_answered(self) -> None:
        with suppress(ReplyError):
            await self.call(b"PING")

    # Replies --------------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        self._unread += len(data)
        self._reader.feed(data)
        if self.is_paused:  # the transport had read it already
            return
        gets, pushed = self._reader.gets, self._owner.pushed
        try:
            while (reply := gets()) is not _NOTHING:  # raises ConnectionError if it is not RESP
                self._unread = 0
                if type(reply) is not hiredis.PushNotification:
                    self._answered(reply)
                elif reply[0] == b"message":
                    handled = pushed(reply[1], reply[2])
                    if handled is not None:
                        self._pause(handled)
                        return
                else:
                    self._acknowledge(reply[0])
        except IndexError:  # a push with too few items
            raise ConnectionError("what arrived is not what Redis sends") from None
        if self._unread > self._owner.longest_reply:
            raise ConnectionError(f"a reply takes more than {self._owner.longest_reply:,} bytes")

    def _answered(self, reply: Reply) -> None:
        is_error = isinstance(reply, ReplyError)
        if not self._expected or (not is_error and isinstance(self._expected[0], _Acknowledgements)):
            raise ConnectionError(f"Redis answered what was not asked: {reply!r:.100}")
        expected = self._expected.popleft()
        if type(expected) is int:
            self._window.confirmed(1, expected)
            if is_error:
                self._owner.failed(reply)
            elif reply == 0:
                self._owner.statistics.unheard += 1
            return
        if isinstance(expected, _Replies):
            expected.add(reply)
            return
        future: asyncio.Future[Any] = expected.future if isinstance(expected, _Acknowledgements) else expected  # type: ignore[assignment]
        if is_error:
            fail(future, reply)
        elif not future.done():
            future.set_result(reply)

    def _acknowledge(self, command: bytes) -> None:
        expected = self._expected[0] if self._expected else None
        if not isinstance(expected, _Acknowledgements) or expected.command != command:
            return  # not asked for: a cluster's slot has moved, for example
        expected.remaining -= 1
        if not expected.remaining:
            self._expected.popleft()
            if not expected.future.done():
                expected.future.set_result(None)

    def _waiting(self) -> Iterator[asyncio.Future[Any]]:
        for expected in self._expected:
            if isinstance(expected, _Replies | _Acknowledgements):
                yield expected.future
            elif not isinstance(expected, int):
                yield expected


def send_first(link: Link) -> None:
    """What has waited for more of its kind is sent now. Nothing else is sent before that."""
    send, link.first = link.first, None
    if send is not None:
        send()


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
    "NOPERM": "give the user that command, key or channel (ACL SETUSER); `ACL LOG` says which were refused",
    "NOPROTO": "Redis 6.2 or later is needed",
    "MOVED": "this is a node of a Redis Cluster, which this layer cannot use: give it a Redis of its own",
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
