"""What one peer asks of its engine besides subjects: queues, presence and histories. Each class answers one kind.

`tell` writes a frame to the peer. The answers come in the order of what they answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fairway.layers.backplane import QueueFull
from fairway.layers.engine import Engine
from fairway.layers.leases import TooMuch
from fairway.layers.local import history_frames, presence_frames, protocol
from fairway.layers.local.fields import ProtocolError
from fairway.layers.local.protocol import Answer

MOST_READERS = 10_000
MOST_FOLLOWERS = 10_000
"""Bounds: readers of one peer, and queues that follow groups of one prefix."""

PUT_BACK_EXPIRY = 60.0

TOO_MANY = "too many are present in it to be listed"


class _Reader:
    """A peer's wait for one message of a queue. (`fairway.layers.engine.Reader`)"""

    __slots__ = ("_queue", "_queues")

    def __init__(self, queues: Queues, queue: str) -> None:
        self._queues = queues
        self._queue = queue

    def take(self, data: bytes) -> None:
        self._queues.deliver(self._queue, self, data)


class Queues:
    """The messages of queues that one peer waits for, what it adds, and which queues it lets follow groups."""

    def __init__(self, engine: Engine, tell: Callable[[bytes], None]) -> None:
        self._engine = engine
        self._tell = tell
        self._readers: dict[str, list[_Reader]] = {}
        self._count = 0

    def push(self, queue: str, body: bytes) -> None:
        capacity, expiry, data = protocol.read_push(body)
        try:
            self._engine.push(queue, data, capacity, expiry, time.monotonic())
        except QueueFull:
            self._tell(protocol.frame(Answer.FULL))
        else:
            self._tell(protocol.done())

    def pull(self, queue: str) -> None:
        """Wait for one message more."""
        if self._count >= MOST_READERS:
            raise ProtocolError(f"more than {MOST_READERS} readers")
        reader = _Reader(self, queue)
        self._readers.setdefault(queue, []).append(reader)
        self._count += 1
        self._engine.pull(queue, reader, time.monotonic())

    def stop(self, queue: str) -> None:
        """Wait for one message fewer. Does nothing if there is none to wait for: it is on its way."""
        readers = self._readers.get(queue)
        if readers:
            self._engine.stop_waiting(queue, readers[-1])
            self._forget(queue, readers[-1])

    def deliver(self, queue: str, reader: _Reader, data: bytes) -> None:
        """A reader has got its message."""
        self._forget(queue, reader)
        self._tell(protocol.frame(Answer.ITEM, queue, data))

    def put_back(self, queue: str, body: bytes) -> None:
        try:
            self._engine.push_back(queue, protocol.read_put_back(body), time.monotonic() + PUT_BACK_EXPIRY)
        except QueueFull as error:  # it could not have taken so much
            raise ProtocolError(str(error)) from None

    def follow(self, group: str, body: bytes) -> None:
        seconds, queue = protocol.read_follow(body)
        if self._engine.follower_count >= MOST_FOLLOWERS:
            self._tell(protocol.refused(f"{MOST_FOLLOWERS} queues can be in groups, and no more"))
        else:
            self._engine.follow(group, queue, seconds, time.monotonic())
            self._tell(protocol.done())

    def unfollow(self, group: str, body: bytes) -> None:
        self._engine.unfollow(group, body.decode("ascii", "replace"))
        self._tell(protocol.done())

    def following(self, group: str) -> None:
        """Tell who follows a group, or every group if the name is empty."""
        self._tell(protocol.followers(self._engine.following(time.monotonic(), group or None)))

    def end(self) -> None:
        """The connection has ended: nobody waits any more."""
        for queue, readers in self._readers.items():
            for reader in readers:
                self._engine.stop_waiting(queue, reader)

    def _forget(self, queue: str, reader: _Reader) -> None:
        readers = self._readers[queue]
        readers.remove(reader)
        self._count -= 1
        if not readers:
            del self._readers[queue]


class Holder:
    """The lease of one peer, once it has renewed one."""

    def __init__(self, engine: Engine, tell: Callable[[bytes], None]) -> None:
        self._leases = engine.leases
        self._tell = tell
        self._process = ""
        self._term = 0
        self._linger = 0.0

    def renew(self, process: str, body: bytes) -> None:
        term, ttl, self._linger, swept_within, begins, judges = presence_frames.read_renew(body)
        now = time.monotonic()
        if begins:
            self._leases.begin(process, term, now + ttl)
        stands = begins or self._leases.renew(process, term, now + ttl, now)
        if stands:
            self._process, self._term = process, term
        departed = self._leases.departed(now, swept_within) if judges and stands else ()
        self._tell(presence_frames.renewed(stands, departed))

    def enter(self, subject: str, body: bytes) -> None:
        term, entries = presence_frames.read_enter(body)
        try:
            self._leases.enter(self._process, term, subject, entries)
        except TooMuch as error:
            self._tell(protocol.refused(str(error)))
        else:
            self._tell(protocol.done())

    def depart(self, subject: str, body: bytes) -> None:
        term, keys = presence_frames.read_depart(body)
        self._leases.leave(self._process, term, subject, keys)
        self._tell(protocol.done())

    def list(self, subject: str) -> None:
        try:
            self._tell(presence_frames.listed(self._leases.present(subject, time.monotonic())))
        except ValueError:
            self._tell(protocol.refused(TOO_MANY))

    def count(self, subject: str) -> None:
        self._tell(protocol.done(self._leases.count(subject, time.monotonic())))

    def sweep(self, process: str, body: bytes) -> None:
        self._leases.sweep(process, presence_frames.read_sweep(body), time.monotonic())
        self._tell(protocol.done())

    def end(self) -> None:
        """The connection has ended, and with it the process, as far as one can see."""
        self._leases.shorten(self._process, self._term, time.monotonic() + self._linger)


class Histories:
    """What one peer asks of histories."""

    __slots__ = ("_engine", "_tell")

    def __init__(self, engine: Engine, tell: Callable[[bytes], None]) -> None:
        self._engine = engine
        self._tell = tell

    def append(self, name: str, body: bytes) -> None:
        data, keep, key = history_frames.read_append(body)
        place, message = self._engine.keep(name, data, keep, key, time.monotonic(), time.time())
        if message is not None:
            self._engine.publish(name, protocol.post(name, message))
        self._tell(history_frames.position(place, is_new=message is not None))

    def read(self, name: str, body: bytes) -> None:
        after, limit = history_frames.read_read(body)
        self._tell(history_frames.page(self._engine.histories.read(name, after, limit, time.monotonic())))

    def tops(self, body: bytes) -> None:
        now, histories = time.monotonic(), self._engine.histories
        self._tell(history_frames.positions(histories.top(subject, now) for subject in protocol.read_names(body)))

    def changes(self) -> None:
        self._tell(protocol.done(self._engine.histories.changes % 2**32))
