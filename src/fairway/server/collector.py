"""When Python's cyclic collector runs in a process that serves, and what it need not walk.

The server's own objects free themselves by reference counts. Those of applications do not: each request of Django is a
cycle, and holds its body, its files, its generators. How soon that has to go depends on its weight, and the collector
does not know weights: it counts objects. So the server says when.

Theory of operation. `Schedule` is pure and decides, `Collector` measures and does. There are four occasions:

* *Weight.* A finished application task weighs what its bodies did, and something for itself. When enough has come
  together, the young generations are collected: what short requests leave is there, and it costs what they are.
* *Time.* A second after a task has ended, all generations are collected: what lived longer, a stream, a consumer, is in
  the old one. When that found something, once more: a `finally` block that it ran may have let go of more. Then nothing
  for a minute, in which only what ends without a task can become garbage: of messages, threads, background tasks.
* *Number.* A collection of all generations has to walk everything that is alive, and connections are many. So whenever
  there are some hundreds more, they are collected while they are few, and frozen: no later collection walks them.
* *Thaw.* What was alive at that moment of applications is frozen too. When tasks have ended that were, everything is
  thawed and collected: soon if they are half of the connections, else the later the more there is to walk.

Automatic collections go on, by number of objects, for what is left by messages; they never walk what is frozen.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections import Counter
from collections.abc import Callable, Collection
from enum import Enum
from typing import Protocol

THRESHOLDS = (10_000, 10, 10)
"""Python's (700, 10, 10) examines most objects of a new connection three times before they come to rest."""

YOUNG_BYTES = 16 * 1024 * 1024
"""Bytes of finished bodies: one collection for sixteen requests of 1 MB, some tenths of a millisecond for each."""

TASK_BYTES = 64 * 1024
"""Bytes that a finished task counts for besides its bodies. 256 tasks without bodies may have left files, or memory of
their own.
"""

DELAY = 1.0
"""Seconds from the end of a task to the collection that finds whatever it left."""

QUIET_DELAY = 60.0
"""Seconds to the next collection where no task ends."""

MANY = 500
"""New connections, with 26 objects each, until the next freeze: 6 ms for one walk. Fewer would mean more freezes, more
would mean longer stops.
"""

MOST_OBJECTS = 40_000
"""Objects that each collection may walk again before they are frozen: 20 ms a second. Most of them are caches of the
application.
"""

MOST_OBJECTS_AT_REST = 5_000
"""The same while no task is under way and nothing of one can be frozen: these are modules that were imported late."""

SOON, LATE = 20_000, 2_000
"""Objects that may be thawed for each second since the last time: 1 % and 0.1 % of the time, at 0.5 µs each."""


class Kind(Enum):
    """What a collection examines."""

    YOUNG = "young"
    FULL = "full"
    THAW = "thaw"


class Schedule:
    """Decides when to collect what. Pure: times are seconds of one monotonic clock, and arguments."""

    def __init__(self, now: float, frozen_objects: int) -> None:
        self.due = now + QUIET_DELAY
        """When the next collection has to take place."""
        self.many = MANY
        """With how many connections it has to take place at once."""
        self._weight = 0
        self._ended = False
        self._frozen_at = -math.inf
        self._frozen_objects = frozen_objects
        self._frozen_connections = 0
        self._frozen_ended = 0  # tasks
        self._thawed_at = now

    def task_ended(self, began: float, weight: int) -> bool:
        """Note that a task has ended which began at that time, with bodies of so many bytes.

        True for the first one since the last collection: `begin_period` has to follow.
        """
        self._weight += TASK_BYTES + weight
        if began < self._frozen_at:
            self._frozen_ended += 1
        return not self._ended

    def begin_period(self, now: float) -> None:
        """Whatever the ended tasks have left has to be found within a second."""
        self._ended = True
        self.due = min(self.due, now + DELAY)

    @property
    def is_heavy(self) -> bool:
        """Whether the young generations have to be collected at once."""
        return self._weight >= YOUNG_BYTES

    def young_collected(self) -> None:
        """They were."""
        self._weight = 0

    def kind(self, now: float) -> Kind:
        """What a collection at this time has to examine."""
        pace = SOON if 2 * self._frozen_ended >= self._frozen_connections else LATE
        is_time = now >= self._thawed_at + self._frozen_objects / pace
        return Kind.THAW if self._frozen_ended and is_time else Kind.FULL

    def collected(self, kind: Kind, now: float, found: int, survivors: int, connections: int, tasks: int) -> bool:
        """Note a collection that found this many objects to be garbage, and left the survivors. Return whether to
        freeze these. There are so many connections now, and tasks that have not ended.
        """
        self._weight = 0
        self.due = now + (DELAY if self._ended and found else QUIET_DELAY)
        self._ended = False
        if kind is Kind.THAW:
            self._thawed_at = now
            self._frozen_objects = self._frozen_ended = 0
        elif connections < self.many and survivors < (MOST_OBJECTS if tasks else MOST_OBJECTS_AT_REST):
            return False
        self._frozen_at = now
        self._frozen_objects += survivors
        self._frozen_connections = connections
        self.many = connections + MANY
        return True


class Population(Protocol):
    """What lives in the event loop. (`fairway.server.context.ServerContext`)"""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def connections(self) -> Collection[object]: ...

    @property
    def tasks(self) -> Collection[object]:
        """Of applications, that have not ended."""

    def touch(self) -> float:
        """The time of the loop."""


class Collector:
    """Runs Python's collector from one event loop, until `close`. One at a time in a process."""

    def __init__(self, context: Population) -> None:
        """Collect and freeze what is there: what is loaded by now lives as long as the process."""
        self._context = context
        self._thresholds = gc.get_threshold()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self.counts: Counter[Kind] = Counter()
        """How many collections of each kind there were, besides Python's own."""
        gc.set_threshold(*THRESHOLDS)
        gc.collect()
        self._schedule = Schedule(context.touch(), _survivors())
        gc.freeze()
        self._arm()

    def close(self) -> None:
        """Leave Python's collector as it was."""
        for handle in (self._timer, self._soon):
            if handle is not None:
                handle.cancel()
        gc.unfreeze()
        gc.set_threshold(*self._thresholds)

    def task_ended(self, began: float, weight: int) -> None:
        """A task of the application has ended that began at that time (of the loop), with bodies of so many bytes."""
        schedule = self._schedule
        if schedule.task_ended(began, weight):
            schedule.begin_period(self._context.touch())
            self._arm()
        if schedule.is_heavy:
            # Not within the end of the task: what it has left is still being released.
            self._call_soon(self._collect_young)

    def connection_added(self) -> None:
        """There is one more connection."""
        if len(self._context.connections) >= self._schedule.many:
            self._call_soon(self._collect)

    def _call_soon(self, collect: Callable[[], None]) -> None:
        if self._soon is None:
            self._soon = self._context.loop.call_soon(collect)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._context.loop.call_at(self._schedule.due, self._collect)

    def _collect_young(self) -> None:
        self._soon = None
        self.counts[Kind.YOUNG] += 1
        gc.collect(1)
        self._schedule.young_collected()

    def _collect(self) -> None:
        self._soon = None
        context, schedule = self._context, self._schedule
        kind = schedule.kind(context.touch())
        self.counts[kind] += 1
        if kind is Kind.THAW:
            gc.unfreeze()
        found = gc.collect()
        # Brings the coarse clock up to date, too: a task that begins after this does not look older than it.
        now = context.touch()
        if schedule.collected(kind, now, found, _survivors(), len(context.connections), len(context.tasks)):
            gc.freeze()
        self._arm()


def _survivors() -> int:
    """How many objects a collection has just walked, and left."""
    return len(gc.get_objects(generation=2))
