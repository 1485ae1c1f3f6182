"""The reference backplane for tests: it implements the contract with the in-memory engine, and needs no service.

    engine = Engine()
    layers = [BackplaneLayer(lambda: InProcessBackplane(engine)) for _ in range(2)]

These layers behave like the layers of two processes, which share nothing but the engine. `lose` begins an outage, and
`recover` ends it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from fairway.layers.backplane import (
    Appended,
    Backplane,
    BackplaneStatistics,
    Departed,
    Events,
    Followers,
    Keep,
    Page,
    Position,
    Presence,
    Present,
    Renewal,
    Streams,
    Unavailable,
)
from fairway.layers.engine import Engine
from fairway.timing.source import IN_FORCE

_numbers = itertools.count(1)


class InProcessBackplane(Backplane):
    """One process's backplane. Backplanes that share an engine may live in different event loops.

    It goes by the clock that is in force: that of `fairway.testing.VirtualClock`, if there is one.
    """

    time = IN_FORCE

    def __init__(self, engine: Engine, is_lost: bool = False) -> None:
        """If `is_lost` is true, the backplane begins in an outage."""
        self.statistics = BackplaneStatistics()
        self.followers = _Followers(engine, self._check)
        self.presence = _Presence(engine, self._check)
        self.streams = _Streams(self, engine, self._check)
        self._engine = engine
        self._events: Events
        self._subjects: dict[str, None] = {}
        self._incoming: deque[tuple[str, bytes]] = deque()
        self._delivering: asyncio.Task[None] | None = None
        self._error: Exception | None = Unavailable("it has not been started yet")
        self._is_lost = is_lost
        self._is_closed = False

    @property
    def is_up(self) -> bool:
        return self._error is None

    def start(self, events: Events) -> None:
        self._events = events
        self._loop = asyncio.get_running_loop()
        if not self._is_lost:
            self.recover()

    async def close(self, drain: float = 1.0) -> None:
        self._engine.leave(self)
        self._error = Unavailable("the channel layer has been closed")
        self._is_closed = True

    def lose(self, error: Exception) -> None:
        """Begin an outage: the engine cannot be reached until `recover`. Sends raise `Unavailable`."""
        self._error = error
        self._engine.leave(self)
        self.statistics.outages += 1
        self._events.down(error)

    def recover(self) -> None:
        """End the outage, and renew all subscriptions. Does nothing after `close`."""
        if self._is_closed:
            return
        self._error = None
        for subject in self._subjects:
            self._engine.subscribe(self, subject)
        self._events.up()

    # Subjects -------------------------------------------------------------------------------------------------

    def post(self, subject: str, data: bytes) -> Awaitable[None] | None:
        if self._error is not None:
            return self._refuse()
        self.statistics.published += 1
        self.statistics.unheard += not self._engine.publish(subject, data)
        return None

    async def publish(self, subject: str, data: bytes) -> int | None:
        self._check()
        self.statistics.published += 1
        return self._engine.publish(subject, data)

    async def subscribe(self, subjects: Sequence[str]) -> None:
        self._check()
        for subject in subjects:
            self._subjects[subject] = None
            self._engine.subscribe(self, subject)

    async def unsubscribe(self, subjects: Sequence[str]) -> None:
        for subject in subjects:
            self._subjects.pop(subject, None)
            self._engine.unsubscribe(self, subject)

    def take(self, subject: str, data: bytes) -> None:
        """A message was published, in any event loop. (`fairway.layers.engine.Subscriber`)"""
        self._incoming.append((subject, data))
        self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        if self._delivering is None and self._incoming:
            self._delivering = self._loop.create_task(self._deliver())

    async def _deliver(self) -> None:
        while self._incoming:
            subject, data = self._incoming.popleft()
            # Discard messages that were under way when their subject was unsubscribed.
            if subject in self._subjects:
                self.statistics.received += 1
                handled = self._events.message(subject, data)
                if handled is not None:
                    await handled
        self._delivering = None

    # Queues ---------------------------------------------------------------------------------------------------

    async def push(self, queue: str, data: bytes, capacity: int, expiry: float) -> None:
        self._check()
        self._engine.push(queue, data, capacity, expiry, IN_FORCE.monotonic())

    async def pull(self, queue: str) -> bytes:
        reader = _Reader()
        self._engine.pull(queue, reader, IN_FORCE.monotonic())
        try:
            await reader.future
        except asyncio.CancelledError:
            self._engine.stop_waiting(queue, reader)
            if reader.data is not None:
                self._engine.push_back(queue, reader.data, IN_FORCE.monotonic() + 60)
            raise
        assert reader.data is not None, "whoever is woken has been given something"
        return reader.data

    async def flush(self) -> None:
        self._check()
        self._engine.flush()

    def _check(self) -> None:
        if self._error is not None:
            self.statistics.unavailable += 1
            raise Unavailable(f"the engine is away: {self._error}")

    async def _refuse(self) -> None:
        self._check()


class _Followers(Followers):
    def __init__(self, engine: Engine, check: Callable[[], None]) -> None:
        self._engine = engine
        self._check = check

    async def add(self, group: str, queue: str, expiry: float) -> None:
        self._check()
        self._engine.follow(group, queue, expiry, IN_FORCE.monotonic())

    async def remove(self, group: str, queue: str) -> None:
        self._check()
        self._engine.unfollow(group, queue)

    async def all(self) -> Sequence[tuple[str, str, float]]:
        self._check()
        return self._engine.following(IN_FORCE.monotonic())


class _Presence(Presence):
    def __init__(self, engine: Engine, check: Callable[[], None]) -> None:
        self.process = f"process-{next(_numbers)}"
        self._leases = engine.leases
        self._check = check
        self._term = 0

    async def enter(self, subject: str, entries: Mapping[str, bytes], term: int) -> None:
        self._check()
        self._leases.enter(self.process, term, subject, entries)

    async def leave(self, subject: str, keys: Collection[str], term: int) -> None:
        self._check()
        self._leases.leave(self.process, term, subject, keys)

    async def present(self, subject: str) -> Sequence[Present]:
        self._check()
        return self._leases.present(subject, IN_FORCE.monotonic())

    async def count(self, subject: str) -> int:
        self._check()
        return self._leases.count(subject, IN_FORCE.monotonic())

    async def renew(self, ttl: float, judges: bool = True) -> Renewal:
        self._check()
        now = IN_FORCE.monotonic()
        if not self._leases.renew(self.process, self._term, now + ttl, now):
            self._term += 1
            self._leases.begin(self.process, self._term, now + ttl)
        return Renewal(self._term, self._leases.departed(now, self.swept_within) if judges else ())

    async def sweep(self, departed: Departed) -> None:
        self._check()
        self._leases.sweep(departed.process, departed.term, IN_FORCE.monotonic())


class _Streams(Streams):
    def __init__(self, backplane: InProcessBackplane, engine: Engine, check: Callable[[], None]) -> None:
        self._backplane = backplane
        self._engine = engine
        self._check = check

    async def append_once(self, subject: str, data: bytes, keep: Keep, key: str) -> Appended:
        self._check()
        position, message = self._engine.keep(subject, data, keep, key, IN_FORCE.monotonic(), IN_FORCE.time())
        if message is not None:
            statistics = self._backplane.statistics
            statistics.published += 1
            statistics.unheard += not self._engine.publish(subject, message)
        return Appended(position, message is not None)

    async def read(self, subject: str, after: Position | float | None, limit: int) -> Page[bytes]:
        self._check()
        return self._engine.histories.read(subject, after, limit, IN_FORCE.monotonic())

    async def tops(self, subjects: Sequence[str]) -> Sequence[Position]:
        self._check()
        return [self._engine.histories.top(subject, IN_FORCE.monotonic()) for subject in subjects]

    async def changes(self) -> str:
        self._check()
        return str(self._engine.histories.changes)


class _Reader:
    """A call of `pull` that waits for a message. (`fairway.layers.engine.Reader`)"""

    def __init__(self) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.data: bytes | None = None

    def take(self, data: bytes) -> None:
        self.data = data
        self.future.get_loop().call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.future.done():
            self.future.set_result(b"")
