"""A consumer as channel layers see it."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from fairway.delivery.connection import Connection
from fairway.delivery.inbox import Inbox
from fairway.delivery.loops import running_loop_or_none
from fairway.delivery.payload import Message, Payload


class MemberOwner(Protocol):
    """What a member is attached to."""

    def detach(self, member: Member) -> None:
        """The member's consumer has ended: forget its channel and its memberships, and close it."""

    def forget_connection(self, member: Member) -> None:
        """Write nothing to the member's connection any more."""


class Member:
    """A consumer as a channel layer sees it: a channel name, an inbox, the loop it lives in.

    `connection` is set only where a broadcast may be written without asking the consumer. `put_nowait`,
    `qsize`, `empty` and `full` make a member look like the queue that a channel of the in-memory layer is.
    """

    __slots__ = ("capacity", "closed", "connection", "dropped", "groups", "inbox", "loop", "name", "owner")

    def __init__(self, name: str, inbox: Inbox, capacity: int = 100, connection: Connection | None = None) -> None:
        self.name = name
        self.inbox = inbox
        self.loop = inbox.loop
        self.capacity = capacity
        self.connection = connection
        self.closed = False
        self.dropped = 0
        self.groups: list[str] | None = None
        self.owner: MemberOwner | None = None

    def deliver(self, message: Message) -> bool:
        """Hand over an event, which now belongs to the member; False when it had to be dropped.

        From another thread or loop this happens later. Then the answer is True, and an overflow is only counted in
        `dropped`.
        """
        return self._put(message)

    def broadcast(self, payload: Payload) -> bool:
        """Write the payload to the socket if nothing is to come before it, else give it its place in the inbox."""
        connection = self.connection
        if connection is not None and self.inbox.parked and connection.is_open and self.loop is running_loop_or_none():
            connection.broadcast(payload)
            return True
        return self._put(payload)

    def _put(self, item: Any) -> bool:
        if self.loop is running_loop_or_none():
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
        """From now on broadcasts go to the consumer, and not directly to its connection."""
        self.connection = None
        if self.owner is not None:
            self.owner.forget_connection(self)

    def detach(self) -> None:
        """The consumer has ended: leave whatever this is attached to."""
        if self.owner is not None:
            self.owner.detach(self)

    def close(self) -> None:
        """Take nothing more, and let go of owner and connection."""
        self.closed = True
        self.connection = self.owner = None

    def put_nowait(self, item: tuple[float, Message]) -> None:
        if not self.deliver(item[1]):
            raise asyncio.QueueFull

    def qsize(self) -> int:
        return self.inbox.layer_size

    def empty(self) -> bool:
        return self.inbox.layer_size == 0

    def full(self) -> bool:
        return self.inbox.layer_size >= self.capacity
