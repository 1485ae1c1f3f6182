"""Messages that wait on a channel without a consumer."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from math import inf
from typing import TypeAlias

from fairway.delivery import Member, Message, running_loop_or_none


class ChannelQueue:
    """The messages of a channel without a consumer, with their times of expiry. Any thread may use it.

    It looks like the queue of Channels' in-memory layer: items are pairs `(expires_at, message)`.
    """

    __slots__ = ("_items", "_lock", "_waiters", "displaced", "maxsize", "readers")

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.readers = 0  # callers inside `Hub.receive`: while there are any, the queue must stay behind its channel
        self.displaced: Member | None = None  # the member that gets its channel back after the last reader
        self._items: deque[tuple[float, Message]] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._lock = threading.Lock()

    def put_nowait(self, item: tuple[float, Message]) -> None:
        """Add an item. Raises `asyncio.QueueFull` at `maxsize`."""
        with self._lock:
            if self.full():
                raise asyncio.QueueFull
            self._items.append(item)
            self._wake_next()

    def _wake_next(self) -> None:
        """Wake one reader, skipping those whose event loop has been closed. Call it under the lock."""
        while self._waiters and not wake(self._waiters.popleft()):
            pass

    def get_nowait(self) -> tuple[float, Message]:
        """Take the oldest item. Raises `asyncio.QueueEmpty` if there is none."""
        try:
            return self._items.popleft()
        except IndexError:
            raise asyncio.QueueEmpty from None

    async def get(self) -> tuple[float, Message]:
        """Wait for an item. Cancelling loses nothing: an item meant for this waiter goes to the next one."""
        while True:
            with self._lock:
                if self._items:
                    return self._items.popleft()
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                self._forget(waiter)
                raise

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if self._items:
                self._wake_next()

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        return not self._items

    def full(self) -> bool:
        return 0 < self.maxsize <= len(self._items)

    @property
    def first_expiry(self) -> float:
        """When the oldest item expires; infinity if there is none."""
        with self._lock:
            return self._items[0][0] if self._items else inf

    def drop_expired(self, now: float) -> int:
        """Drop the items that have expired by `now`. Returns how many."""
        dropped = 0
        with self._lock:
            while self._items and self._items[0][0] < now:
                self._items.popleft()
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
