"""The reference backplane, in memory: subjects with subscribers, queues with capacity and expiry, and which of them
follow groups. Pure.

It says what a service between processes has to do, without one: tests of layers run over it, and every other backplane
is compared with it. Time is an argument, in seconds of any clock. What it has to tell somebody it hands to the
`Subscriber` or `Reader` at once, within the call.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from fairway.layers.backplane import QueueFull


class Subscriber(Protocol):
    """A process that receives what is published."""

    def take(self, subject: str, data: bytes) -> None: ...


class Reader(Protocol):
    """Somebody who waits for one message of a queue."""

    def take(self, data: bytes) -> None: ...


class Engine:
    """Subjects and queues of one prefix."""

    __slots__ = ("_followers", "_queues", "_readers", "_subscribers")

    def __init__(self) -> None:
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
        waiting = self._queues.setdefault(queue, deque())
        if len(waiting) >= capacity:
            raise QueueFull(f"the queue {queue} holds {capacity} messages")
        waiting.append((now + expiry, data))

    def push_back(self, queue: str, data: bytes, expires_at: float) -> None:
        """Put a message back in front that nobody took after all."""
        readers = self._readers.get(queue)
        if readers:
            reader = next(iter(readers))
            self.stop_waiting(queue, reader)
            reader.take(data)
        else:
            self._queues.setdefault(queue, deque()).appendleft((expires_at, data))

    def pull(self, queue: str, reader: Reader, now: float) -> None:
        """Hand the oldest message to the reader: now, or when there is one, until `stop_waiting`."""
        self._expire(queue, now)
        waiting = self._queues.get(queue)
        if waiting:
            reader.take(waiting.popleft()[1])
            self._drop_if_empty(queue)
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

    def _expire(self, queue: str, now: float) -> None:
        waiting = self._queues.get(queue)
        if waiting is not None:
            # Messages may have different times to live: those behind one that stays wait for their turn.
            while waiting and waiting[0][0] < now:
                waiting.popleft()
            self._drop_if_empty(queue)

    def _drop_if_empty(self, queue: str) -> None:
        if not self._queues[queue]:
            del self._queues[queue]
