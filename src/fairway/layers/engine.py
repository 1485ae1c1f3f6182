"""The reference backplane, in memory: subjects with subscribers, queues with capacity and expiry, and which of them
follow groups. Pure.

It says what a service between processes has to do, without one: tests of layers run over it, and every other backplane
is compared with it. Time is an argument, in seconds of any clock. What it has to tell somebody it hands to the
`Subscriber` or `Reader` at once, within the call.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from fairway.layers.backplane import QueueFull

OVERHEAD = 100
"""Bytes that a message in a queue counts beyond its own."""


class Subscriber(Protocol):
    """A process that receives what is published."""

    def take(self, subject: str, data: bytes) -> None: ...


class Reader(Protocol):
    """Somebody who waits for one message of a queue."""

    def take(self, data: bytes) -> None: ...


class Engine:
    """Subjects and queues of one prefix. `max_bytes`: so much all queues together hold; beyond that they are full."""

    __slots__ = ("_followers", "_max_bytes", "_queues", "_readers", "_subscribers", "size")

    def __init__(self, max_bytes: float = math.inf) -> None:
        self.size = 0  # bytes in all queues, 0 only if they are empty
        self._max_bytes = max_bytes
        self._subscribers: dict[str, dict[Subscriber, None]] = {}
        self._queues: dict[str, deque[tuple[float, bytes]]] = {}
        self._readers: dict[str, dict[Reader, None]] = {}
        self._followers: dict[tuple[str, str], float] = {}

    # Subjects -------------------------------------------------------------------------------------------------

    def subscribe(self, subscriber: Subscriber, subject: str) -> None:
        self._subscribers.setdefault(subject, {})[subscriber] = None

    def unsubscribe(self, subscriber: Subscriber, subject: str) -> None:
        """Nothing happens if it has not subscribed."""
        subscribers = self._subscribers.get(subject)
        if subscribers is not None:
            subscribers.pop(subscriber, None)
            if not subscribers:
                del self._subscribers[subject]

    def leave(self, subscriber: Subscriber) -> None:
        """The process is gone."""
        for subject in list(self._subscribers):
            self.unsubscribe(subscriber, subject)

    def publish(self, subject: str, data: bytes) -> int:
        """Hand it to all subscribers; how many there were."""
        subscribers = list(self._subscribers.get(subject, ()))
        for subscriber in subscribers:
            subscriber.take(subject, data)
        return len(subscribers)

    # Queues ---------------------------------------------------------------------------------------------------

    def push(self, queue: str, data: bytes, capacity: int, expiry: float, now: float) -> None:
        """Hand it to the reader that has waited longest, or keep it. `QueueFull` at `capacity`."""
        readers = self._readers.get(queue)
        if readers:
            reader = next(iter(readers))
            self.stop_waiting(queue, reader)
            reader.take(data)
            return
        self._expire(queue, now)
        waiting = self._queues.get(queue, ())
        if len(waiting) >= capacity:
            raise QueueFull(f"the queue {queue} holds {capacity} messages")
        if self.size + len(data) + OVERHEAD > self._max_bytes:
            raise QueueFull(f"all queues together hold {self.size} bytes")
        self._queues.setdefault(queue, deque()).append((now + expiry, data))
        self.size += len(data) + OVERHEAD

    def push_back(self, queue: str, data: bytes, expires_at: float) -> None:
        """Put a message back in front that nobody took after all."""
        readers = self._readers.get(queue)
        if readers:
            reader = next(iter(readers))
            self.stop_waiting(queue, reader)
            reader.take(data)
        else:
            self._queues.setdefault(queue, deque()).appendleft((expires_at, data))
            self.size += len(data) + OVERHEAD

    def pull(self, queue: str, reader: Reader, now: float) -> None:
        """Hand the oldest message to the reader: now, or when there is one, until `stop_waiting`."""
        self._expire(queue, now)
        waiting = self._queues.get(queue)
        if waiting:
            data = waiting.popleft()[1]
            self.size -= len(data) + OVERHEAD
            self._drop_if_empty(queue)
            reader.take(data)
        else:
            self._readers.setdefault(queue, {})[reader] = None

    def stop_waiting(self, queue: str, reader: Reader) -> None:
        """The reader wants nothing any more; nothing happens if it does not wait."""
        readers = self._readers.get(queue)
        if readers is not None:
            readers.pop(reader, None)
            if not readers:
                del self._readers[queue]

    def length(self, queue: str) -> int:
        return len(self._queues.get(queue, ()))

    def flush(self) -> None:
        """Empty all queues, and let them follow no group; readers go on waiting."""
        self._queues.clear()
        self._followers.clear()
        self.size = 0

    # Queues that follow groups --------------------------------------------------------------------------------

    def follow(self, group: str, queue: str, expiry: float, now: float) -> None:
        self._followers[group, queue] = now + expiry

    def unfollow(self, group: str, queue: str) -> None:
        """Nothing happens if it does not follow."""
        self._followers.pop((group, queue), None)

    def following(self, now: float) -> list[tuple[str, str, float]]:
        """Groups, the queues that follow them, and for how many seconds they still do."""
        self._followers = {key: until for key, until in self._followers.items() if until > now}
        return [(*key, until - now) for key, until in self._followers.items()]

    # All of it ------------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether nobody has subscribed or waits, and nothing is kept."""
        return not (self._subscribers or self._queues or self._readers or self._followers)

    def expire(self, now: float) -> None:
        """Drop what has expired in queues that nobody looks into."""
        for queue in list(self._queues):
            self._expire(queue, now)

    def waiting(self) -> Iterator[tuple[str, float, bytes]]:
        """All messages of all queues, in order: the queue, when it expires, the message."""
        return ((queue, until, data) for queue, messages in self._queues.items() for until, data in messages)

    def restore(self, queue: str, expires_at: float, data: bytes) -> None:
        """Add what `waiting` gave, to an engine that follows another."""
        self._queues.setdefault(queue, deque()).append((expires_at, data))
        self.size += len(data) + OVERHEAD

    def _expire(self, queue: str, now: float) -> None:
        waiting = self._queues.get(queue)
        if waiting is not None:
            # Messages may have different times to live: those behind one that stays wait for their turn.
            while waiting and waiting[0][0] < now:
                self.size -= len(waiting.popleft()[1]) + OVERHEAD
            self._drop_if_empty(queue)

    def _drop_if_empty(self, queue: str) -> None:
        if not self._queues[queue]:
            del self._queues[queue]
