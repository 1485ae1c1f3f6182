"""A consumer as channel layers see it, and the connection behind it, as far as both may know each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MethodType
from typing import Any, Protocol

from fairway.delivery.inbox import Inbox
from fairway.delivery.passes import get_running_loop
from fairway.delivery.payload import Encoder, Message, Payload


class Audience(Protocol):
    """Connections that can be given the same payload in one call. Their numbers are their *places*."""

    def broadcast(self, payload: Payload, without: Collection[int] = ()) -> Sequence[int]:
        """Write the payload, as `Connection.broadcast`, to those that are open and whose inboxes are parked, except to
        some; return the places of the others.
        """

    def place_of(self, connection: Connection) -> int | None:
        """Its place, if it has one."""

    def __len__(self) -> int: ...


class Crowd(Protocol):
    """Connections of one event loop, any of which can become an audience."""

    loop: asyncio.AbstractEventLoop

    def seat(self, connections: Sequence[Connection]) -> Audience:
        """Make an audience, with places in this order, of connections that are open. It is best if those with the same
        `encoder` follow each other.
        """


class Connection:
    """A server's own end of a WebSocket, as far as consumers and layers may know it.

    Drivers derive from it. Its bound methods `receive` and `send` are the ASGI callables given to an
    application; where an application gets them unwrapped, `connection_of` finds the connection again, and the
    methods below save the message dicts, and for a broadcast the consumer's task.
    """

    __slots__ = ("encoder", "inbox", "is_open")

    encoder: Encoder
    inbox: Inbox
    is_open: bool
    """Accepted, and neither side has begun to close."""

    @property
    def crowd(self) -> Crowd | None:
        """With which others it can be broadcast to, once it is open."""
        return None

    async def receive(self) -> Message:
        """ASGI `receive`."""
        raise NotImplementedError

    async def send(self, message: Mapping[str, Any]) -> None:
        """ASGI `send`: returns when the socket is below its high water mark."""
        raise NotImplementedError

    def send_nowait(self, message: Mapping[str, Any]) -> None:
        """As `send`, without ever waiting: the bound of the outbox decides about a slow client."""
        raise NotImplementedError

    def send_text(self, text: str) -> Awaitable[None] | None:
        """Send a text message. What is returned, if anything, is to be awaited before sending more."""
        raise NotImplementedError

    def send_bytes(self, data: bytes) -> Awaitable[None] | None:
        """Send a binary message. What is returned, if anything, is to be awaited before sending more."""
        raise NotImplementedError

    def broadcast(self, payload: Payload) -> None:
        """Write a payload that many connections share, at once and without waiting."""
        raise NotImplementedError


def connection_of(method: Callable[..., Any], name: str) -> Connection | None:
    """The connection whose own `receive` or `send` (`name`) this callable is; None for anything wrapped.

    The bound method itself is the proof: a wrapper may copy attributes, but not `__self__`.
    """
    if type(method) is not MethodType:
        return None
    owner = method.__self__
    if isinstance(owner, Connection) and method.__func__ is getattr(type(owner), name):
        return owner
    return None


class Keeper(Protocol):
    """What a member is attached to."""

    def forget_connection(self, member: Member) -> None:
        """Write nothing to the member's connection any more."""


class Member:
    """A consumer as a channel layer sees it: a channel name, an inbox, the loop it lives in.

    `connection` is set only where a broadcast may be written without asking the consumer. `put_nowait`,
    `qsize`, `empty` and `full` make a member look like the queue that a channel of the in-memory layer is.
    """

    __slots__ = ("capacity", "closed", "connection", "dropped", "groups", "inbox", "keeper", "loop", "name")

    def __init__(self, name: str, inbox: Inbox, capacity: int = 100, connection: Connection | None = None) -> None:
        self.name = name
        self.inbox = inbox
        self.loop = inbox.loop
        self.capacity = capacity
        self.connection = connection
        self.closed = False
        self.dropped = 0
        self.groups: list[str] | None = None
        self.keeper: Keeper | None = None

    def deliver(self, message: Message) -> bool:
        """Hand over an event, which now belongs to the member; False when it had to be dropped.

        From another thread or loop the hand-over happens later: then the answer is True, and an overflow is
        only counted in `dropped`.
        """
        return self._put(message)

    def broadcast(self, payload: Payload) -> bool:
        """Write the payload to the socket if nothing is to come before it, else give it its place in the inbox."""
        connection = self.connection
        if connection is not None and self.inbox.parked and connection.is_open and self.loop is get_running_loop():
            connection.broadcast(payload)
            return True
        return self._put(payload)

    def _put(self, item: Any) -> bool:
        if self.loop is get_running_loop():
            return self._put_here(item)
        if self.closed:
            return False
        try:
            self.loop.call_soon_threadsafe(self._put_here, item)
        except RuntimeError:  # the loop has been closed, and its members with it
            self.closed = True
            return False
        return True

    def _put_here(self, item: Any) -> bool:
        if self.closed:
            return False
        if type(item) is Payload and item.is_droppable:
            self.dropped += self.inbox.make_room(item, self.capacity)
        if self.inbox.put_layer(item, self.capacity):
            return True
        self.dropped += 1
        return False

    def detour(self) -> None:
        """Broadcasts are to reach the consumer from now on, and not its connection directly."""
        self.connection = None
        if self.keeper is not None:
            self.keeper.forget_connection(self)

    def close(self) -> None:
        """Take nothing more, and let go of inbox and connection."""
        self.closed = True
        self.connection = self.keeper = None

    def put_nowait(self, item: tuple[float, Message]) -> None:
        if not self.deliver(item[1]):
            raise asyncio.QueueFull

    def qsize(self) -> int:
        return self.inbox.layer_size

    def empty(self) -> bool:
        return self.inbox.layer_size == 0

    def full(self) -> bool:
        return self.inbox.layer_size >= self.capacity
