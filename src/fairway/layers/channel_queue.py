"""Messages that wait on a channel without a consumer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from math import inf
from typing import TypeAlias

from fairway.delivery import Lane, Member, Message, running_loop_or_none

Parcel: TypeAlias = tuple[float, Callable[[], Message]]
"""When a message expires, and a function that returns the reader's own copy of it."""


class ChannelQueue:
    """The messages of a channel without a consumer, with their times of expiry. Any thread may use it.

    It looks like the queue of Channels' in-memory layer: items are pairs `(expires_at, message)`. Inside, it holds a
    function that returns the message: a message for many channels is kept once and copied for each reader. Only
    one thread at a time puts items in; the hub sees to that.

    The lock guards only the waiters. `put` looks for waiters after it has added its item, and `_wait` looks for items
    after it has added its waiter, so one of the two always sees the other.
    """

    __slots__ = ("_items", "_lock", "_waiters", "displaced", "maxsize", "readers")

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.readers = 0  # callers inside `Hub.receive`: while there are any, the queue must stay behind its channel
        self.displaced: Member | None = None  # the member that gets its channel back after the last reader
        self._items: Lane[Parcel] = Lane()
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._lock = threading.Lock()

    def put_nowait(self, item: tuple[float, Message]) -> None:
        """Add an item. Raises `asyncio.QueueFull` at `maxsize`."""
        expires_at, message = item
        if not self.put((expires_at, lambda: message)):
            raise asyncio.QueueFull

    def put(self, parcel: Parcel) -> bool:
        """Add a message. Returns False at `maxsize`."""
        if self.full():
            return False
        self._items.append(parcel)
        if self._waiters:
            self._wake_next()
        return True

    def put_missed(self, parcel: Parcel) -> None:
        """Add a message that was missed before, even beyond `maxsize`. It leaves later ones their room."""
        self._items.append(parcel)
        self._items.uncount()
        if self._waiters:
            self._wake_next()

    def _wake_next(self) -> None:
        """Wake one reader, skipping those whose event loop has been closed."""
        with self._lock:
            while self._waiters:
                waiter = next(iter(self._waiters))
                del self._waiters[waiter]
                if wake(waiter):
                    break

    def get_nowait(self) -> tuple[float, Message]:
        """Take the oldest item. Raises `asyncio.QueueEmpty` if there is none."""
        try:
            expires_at, make = self._items.popleft()
        except IndexError:
            raise asyncio.QueueEmpty from None
        return expires_at, make()

    async def get(self) -> tuple[float, Message]:
        """Wait for an item. Cancelling loses nothing: an item meant for this waiter goes to the next one."""
        while True:
            try:
                return self.get_nowait()
            except asyncio.QueueEmpty:
                await self._wait()

    def take(self) -> Message | None:
        """Take the oldest message. Returns None if there is none."""
        try:
            make = self._items.popleft()[1]
        except IndexError:
            return None
        return make()

    async def _wait(self) -> None:
        """Return when there may be an item."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiters[waiter] = None
            if self._items:
                del self._waiters[waiter]
                return
        try:
            await waiter
        except BaseException:
            self._forget(waiter)
            raise

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        with self._lock:
            self._waiters.pop(waiter, None)
        if self._items:
            self._wake_next()

    def messages(self) -> list[Message]:
        """Copies of the messages, the oldest first. They stay in the queue."""
        return [make() for _, make in self._items]

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        return not self._items

    def full(self) -> bool:
        return 0 < self.maxsize <= len(self._items) and self._items.counted >= self.maxsize

    @property
    def first_expiry(self) -> float:
        """When the oldest item expires; infinity if there is none."""
        try:
            return self._items[0][0]
        except IndexError:
            return inf

    def drop_expired(self, now: float) -> int:
        """Drop the items that have expired by `now`. Returns how many."""
        dropped = 0
        while self.first_expiry < now:
            with contextlib.suppress(IndexError):  # another thread was faster
                item = self._items.popleft()
                if item[0] >= now:
                    self._items.appendleft(item)
                    self._wake_next()
                    break
                dropped += 1
        return dropped


Target: TypeAlias = Member | ChannelQueue
"""What stands behind a channel."""


def member_behind(target: Target | None) -> Member | None:
    """The consumer that owns a channel, even while somebody else reads from it."""
    return target.displaced if isinstance(target, ChannelQueue) else target


def wake(waiter: asyncio.Future[None]) -> bool:
    """Wake a reader in its own loop. False if that loop was closed, and the reader is gone with it."""
    loop = waiter.get_loop()
    if loop is running_loop_or_none():
        finish(waiter)
        return True
    try:
        loop.call_soon_threadsafe(finish, waiter)
    except RuntimeError:
        return False
    return True


def finish(waiter: asyncio.Future[None]) -> None:
    """Let the waiter go on, unless it has been cancelled or woken already."""
    if not waiter.done():
        waiter.set_result(None)
