"""The reference backplane, in memory: subjects with subscribers, some of whose messages are kept (`histories.py`),
queues with capacity and expiry, some of which follow groups, and presence (`leases.py`). Pure.

It defines what a service between processes has to do, without being one. Tests of layers run over it, every other
backplane is compared with it, and the local broker is a shell around it. Time is an argument, in seconds of any clock.
Messages are handed to a `Subscriber` or `Reader` at once, within the call that brings them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from fairway.layers.backplane import Keep, Position, QueueFull
from fairway.layers.histories import Histories
from fairway.layers.leases import Leases
from fairway.layers.stamps import stamped

DEAD_FOR = 60.0
"""Seconds after which an ended lease is forgotten, if nobody was there to see to it."""

OVERHEAD = 100
EACH_QUEUE = 700
"""Bytes that each message in a queue counts for, in addition to its own, and each queue in addition to its messages."""


class Subscriber(Protocol):
    """A process that receives what is published."""

    def take(self, subject: str, data: bytes) -> None: ...


class Reader(Protocol):
    """A call that waits for one message of a queue."""

    def take(self, data: bytes) -> None: ...


class Engine:
    """The subjects and queues of one prefix. All queues together hold at most `max_bytes`. Then every queue is full.

    `leases` are the entries of its processes, which also have at most `max_bytes`. `start` begins all epochs of
    `histories`: digits and lower-case letters that no earlier engine has had.
    """

    __slots__ = (
        "_followers",
        "_max_bytes",
        "_queues",
        "_readers",
        "_subscribers",
        "follower_count",
        "histories",
        "leases",
        "size",
    )

    def __init__(self, max_bytes: float = math.inf, start: str = "0") -> None:
        self.histories: Histories[bytes] = Histories(start)
        self.size = 0  # bytes in all queues; 0 only if all are empty
        self.follower_count = 0  # those that have expired are counted until `expire` drops them
        self.leases = Leases(max_bytes)
        self._max_bytes = max_bytes
        self._subscribers: dict[str, dict[Subscriber, None]] = {}
        self._queues: dict[str, deque[tuple[float, bytes]]] = {}
        self._readers: dict[str, dict[Reader, None]] = {}
        self._followers: dict[str, dict[str, float]] = {}

    # Subjects -------------------------------------------------------------------------------------------------

    def subscribe(self, subscriber: Subscriber, subject: str) -> None:
        self._subscribers.setdefault(subject, {})[subscriber] = None

    def unsubscribe(self, subscriber: Subscriber, subject: str) -> None:
        """End a subscription. Does nothing if the subscriber has none for this subject."""
        subscribers = self._subscribers.get(subject)
        if subscribers is not None:
            subscribers.pop(subscriber, None)
            if not subscribers:
                del self._subscribers[subject]

    def leave(self, subscriber: Subscriber) -> None:
        """The process has gone: end all its subscriptions."""
        for subject in list(self._subscribers):
            self.unsubscribe(subscriber, subject)

    def publish(self, subject: str, data: bytes) -> int:
        """Hand the data to all subscribers. Returns how many there were."""
        subscribers = list(self._subscribers.get(subject, ()))
        for subscriber in subscribers:
            subscriber.take(subject, data)
        return len(subscribers)

    def keep(
        self, subject: str, data: bytes, keep: Keep, key: str, now: float, at: float
    ) -> tuple[Position, bytes | None]:
        """Keep a message. Returns its position, and what the caller must publish: nothing if the key was known.

        `at` is the time of day.
        """
        position, kept = self.histories.append(subject, data, len(data), keep, now, at, key)
        return position, None if kept is None else stamped(kept)

    # Queues ---------------------------------------------------------------------------------------------------

    def push(self, queue: str, data: bytes, capacity: int, expiry: float, now: float) -> None:
        """Hand the data to the reader that has waited longest, or keep it. Raises `QueueFull` at `capacity`."""
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
        if self.size + self._growth(queue, data) > self._max_bytes:
            raise QueueFull(f"all queues together hold {self.size} bytes")
        self._queue(queue).append((now + expiry, data))
        self.size += len(data) + OVERHEAD

    def push_back(self, queue: str, data: bytes, expires_at: float) -> None:
        """Put a message back at the front of its queue, because its reader has gone.

        A full queue takes it as well. Raises `QueueFull` if all queues hold twice what they may.
        """
        readers = self._readers.get(queue)
        if readers:
            reader = next(iter(readers))
            self.stop_waiting(queue, reader)
            reader.take(data)
            return
        if self.size + self._growth(queue, data) > 2 * self._max_bytes:
            raise QueueFull(f"all queues together hold {self.size} bytes")
        self._queue(queue).appendleft((expires_at, data))
        self.size += len(data) + OVERHEAD

    def pull(self, queue: str, reader: Reader, now: float) -> None:
        """Hand the oldest message to the reader, now or as soon as there is one. `stop_waiting` ends the wait."""
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
        """The reader no longer waits. Does nothing if it did not."""
        readers = self._readers.get(queue)
        if readers is not None:
            readers.pop(reader, None)
            if not readers:
                del self._readers[queue]

    def length(self, queue: str) -> int:
        return len(self._queues.get(queue, ()))

    def flush(self) -> None:
        """Empty all queues, take them out of all groups, and forget histories and leases. Readers continue to wait."""
        self._queues.clear()
        self.histories.clear()
        self.leases.clear()
        self._followers.clear()
        self.size = self.follower_count = 0

    # Queues that follow groups --------------------------------------------------------------------------------

    def follow(self, group: str, queue: str, expiry: float, now: float) -> None:
        queues = self._followers.setdefault(group, {})
        self.follower_count += queue not in queues
        queues[queue] = now + expiry

    def unfollow(self, group: str, queue: str) -> None:
        """Does nothing if the queue does not follow the group."""
        queues = self._followers.get(group, {})
        self.follower_count -= queues.pop(queue, None) is not None
        if not queues:
            self._followers.pop(group, None)

    def following(self, now: float, group: str | None = None) -> list[tuple[str, str, float]]:
        """Each group, or only this one, with a queue that follows it, and the seconds for which it still does."""
        groups = self._followers if group is None else {group: self._followers.get(group, {})}
        return [
            (name, queue, until - now)
            for name, queues in groups.items()
            for queue, until in queues.items()
            if until > now
        ]

    # All of it ------------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether there are no subscribers, no readers, no messages, no histories and no leases."""
        waiting = self._subscribers or self._queues or self._readers or self._followers
        return not (waiting or self.histories or self.leases)

    def expire(self, now: float) -> None:
        """Drop expired messages, also in queues that nobody uses, and leases that ended long ago."""
        self.histories.expire(now)
        self.leases.expire(now, DEAD_FOR)
        for queue in list(self._queues):
            self._expire(queue, now)
        for group, queues in list(self._followers.items()):
            for queue in [queue for queue, until in queues.items() if until <= now]:
                self.unfollow(group, queue)

    def waiting(self) -> Iterator[tuple[str, float, bytes]]:
        """All messages of all queues, each queue's in order: the queue, the time of expiry, the message."""
        return ((queue, until, data) for queue, messages in self._queues.items() for until, data in messages)

    def restore(self, queue: str, expires_at: float, data: bytes) -> None:
        """Add a message from another engine's `waiting`: this engine takes that one's place."""
        self._queue(queue).append((expires_at, data))
        self.size += len(data) + OVERHEAD

    def _expire(self, queue: str, now: float) -> None:
        waiting = self._queues.get(queue)
        if waiting is not None:
            # Messages may have different lifetimes: an expired one behind one that stays waits for its turn.
            while waiting and waiting[0][0] < now:
                self.size -= len(waiting.popleft()[1]) + OVERHEAD
            self._drop_if_empty(queue)

    def _growth(self, queue: str, data: bytes) -> int:
        return len(data) + OVERHEAD + (0 if queue in self._queues else EACH_QUEUE)

    def _queue(self, queue: str) -> deque[tuple[float, bytes]]:
        """The messages of a queue, to which one will be added."""
        if queue not in self._queues:
            self._queues[queue] = deque()
            self.size += EACH_QUEUE
        return self._queues[queue]

    def _drop_if_empty(self, queue: str) -> None:
        if not self._queues[queue]:
            del self._queues[queue]
            self.size -= EACH_QUEUE
