"""Members: consumers as channel layers see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from fairway.delivery.connection import Connection
from fairway.delivery.inbox import Inbox
from fairway.delivery.loops import running_loop_or_none
from fairway.delivery.payload import Message, Payload

_ANY_CAPACITY: Final = 2**31

MANY_GROUPS: Final = 32
"""From this number on, a member's groups are the keys of a dict. A short list takes a third of its memory."""


class MemberOwner(Protocol):
    """What a member is attached to, such as a layer's hub. Called in the member's event loop."""

    def detach(self, member: Member) -> None:
        """The member's consumer has ended: forget its channel and its memberships, and close it."""

    def forget_connection(self, member: Member) -> None:
        """From now on, do not write to the member's connection directly."""


class Member:
    """A consumer as a channel layer sees it: a channel name, an inbox, and the event loop of both.

    `connection` is set only if a broadcast may be written to the socket without running the consumer. `capacity` is
    the number of events and payloads that may wait in the inbox. `dropped` counts those that found it full. `groups`
    names the groups that the member is in; only `joined` and `left` change them.

    The in-memory layer's channels look like queues to applications' tests. `put_nowait`, `qsize`, `empty` and `full`
    give a member the interface of such a queue.
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
        self.groups: list[str] | dict[str, None] | None = None
        self.owner: MemberOwner | None = None

    def joined(self, group: str) -> None:
        """The member is in a group now."""
        groups = self.groups
        if groups is None:
            self.groups = [group]
        elif group not in groups:
            if type(groups) is list:
                if len(groups) < MANY_GROUPS:
                    groups.append(group)
                    return
                groups = self.groups = dict.fromkeys(groups)
            groups[group] = None  # type: ignore[call-overload]  # a dict

    def left(self, group: str) -> None:
        """The member is not in this group any more. Does nothing if it was not."""
        groups = self.groups
        if groups is not None and group in groups:
            if type(groups) is list:
                groups.remove(group)
            else:
                del groups[group]  # type: ignore[arg-type]  # a dict

    def deliver(self, message: Message) -> bool:
        """Put an event into the inbox. The caller must not change it afterwards. False if the event was dropped.

        From another thread or event loop, the event is put in later. Then the result is True unless the member or its
        loop is closed, and an event that finds no room is only counted in `dropped`.
        """
        return self._put(message, self.put_here)

    def deliver_missed(self, message: Message) -> bool:
        """Like `deliver`, for an event that the consumer has missed before: it leaves later ones their room."""
        return self._put(message, self.put_missed_here)

    def broadcast(self, payload: Payload, was_missed: bool = False) -> bool:
        """Write the payload to the socket, or put it into the inbox if the consumer has something to do before it.

        False if the payload was dropped, as in `deliver`. With `was_missed`, it leaves later ones their room.
        """
        connection = self.connection
        if connection is not None and self.inbox.parked and connection.is_open and self.loop is running_loop_or_none():
            connection.broadcast(payload)
            return True
        return self._put(payload, self.put_missed_here if was_missed else self.put_here)

    def _put(self, item: Any, put_here: Callable[[Any], bool]) -> bool:
        if self.loop is running_loop_or_none():
            return put_here(item)
        if self.closed:
            return False
        try:
            self.loop.call_soon_threadsafe(put_here, item)
        except RuntimeError:  # the loop is closed, so its members are too
            self.closed = True
            return False
        return True

    def put_here(self, item: Any) -> bool:
        """Put an event or a payload into the inbox. False if it was dropped. Call this in the member's loop only."""
        if self.closed:
            return False
        if type(item) is Payload and item.is_droppable:
            self.dropped += self.inbox.make_room(item, self.capacity)
        if self.inbox.put_layer(item, self.capacity):
            return True
        self.dropped += 1
        return False

    def put_missed_here(self, item: Any) -> bool:
        """Like `put_here`, for what the consumer has missed before: it leaves later items their room."""
        if type(item) is Payload and item.is_droppable:
            return self.put_here(item)
        if self.closed:
            return False
        if self.inbox.put_missed(item, self.capacity):
            return True
        self.dropped += 1
        return False

    def catch_up(self, items: Sequence[Any]) -> None:
        """Put all that the consumer has missed before it came into the inbox, in order and past its capacity."""
        if self.loop is running_loop_or_none():
            self._put_all(items)
        elif not self.closed:
            try:
                self.loop.call_soon_threadsafe(self._put_all, items)
            except RuntimeError:  # the loop is closed, so its members are too
                self.closed = True

    def _put_all(self, items: Sequence[Any]) -> None:
        if not self.closed:
            for item in items:
                self.inbox.put_missed(item, _ANY_CAPACITY)

    def detour(self) -> None:
        """From now on, put broadcasts into the inbox, and do not write them to the connection directly."""
        self.connection = None
        if self.owner is not None:
            self.owner.forget_connection(self)

    def detach(self) -> None:
        """The consumer has ended: detach the member from its owner."""
        if self.owner is not None:
            self.owner.detach(self)

    def close(self) -> None:
        """Accept nothing more, and release the owner and the connection."""
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
