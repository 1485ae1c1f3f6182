"""When Python's cyclic collector runs in a serving process, and which objects it need not walk.

The server's own objects are freed by reference counting. Applications' objects often are not: every Django request is a
reference cycle, which holds its body, its files and its generators. How soon that garbage must go depends on its
weight. But the collector does not know weights, it counts objects. So the server decides when it runs.

Theory of operation. `Schedule` is pure and decides; `Collector` measures and acts. There are four occasions:

* *Weight.* A finished application task weighs as much as its bodies, plus a constant. When enough weight has come
  together, the young generations are collected. The garbage of short requests is there, and little else.
* *Time.* One second after a task has ended, all generations are collected, because the garbage of longer tasks, such
  as consumers, is in the old one. If that found garbage, it happens once more: a `finally` block that it ran may have
  released more. After that there is a pause of a minute, in which only messages, threads and background tasks can leave
  garbage.
* *Number.* A full collection walks every live object, and connections are many. So whenever there are some hundreds of
  new connections, fewer if applications make them heavy, they are collected while they are few, and then frozen: no
  later collection walks them.
* *Thaw.* Freezing also freezes whatever of the application is alive at that moment. Once some of those tasks have
  ended, everything can be thawed and collected, which is one long pause. But nearly always reference counting has freed
  what they had. So the frozen objects are counted first, soon if half of the connections have gone, otherwise the
  later, the more there are. They are thawed if much has stayed, or if the bodies were heavy; and at last in any case.

Automatic collections, by number of objects, stay on for the garbage of messages. They never walk frozen objects.
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
"""With Python's (700, 10, 10), most objects of a new connection are walked three times before they reach the old
generation.
"""

YOUNG_BYTES = 16 * 1024 * 1024
"""Weight of finished tasks, in bytes, at which the young generations are collected: once for sixteen requests of 1 MB,
at some tenths of a millisecond for each.
"""

TASK_BYTES = 64 * 1024
"""Bytes that a finished task counts for in addition to its bodies: even 256 tasks without bodies may have left files or
memory behind.
"""

DELAY = 1.0
"""Seconds from the end of a task to the collection that finds its garbage."""

QUIET_DELAY = 60.0
"""Seconds to the next collection if no task ends."""

WALKED = 5_000
"""Objects of new connections that one collection may walk before it freezes them: 3 to 5 ms, and as much again once a
second for those of the newest connections that are not frozen yet. Fewer would mean more freezes.
"""

FIRST, FEWEST, MANY = 64, 32, 500
"""New connections until the first freeze, which shows how many objects there are for each, and the bounds for the next
ones. An idle connection has 26, one that is in a consumer behind Django's middleware can have several hundred.
"""

MOST_OBJECTS = 40_000
"""Survivors of a collection, mostly the application's caches, above which they are frozen: walking so many objects once
a second takes 20 ms of it.
"""

MOST_OBJECTS_AT_REST = 5_000
"""The same bound while no task runs. Then no task's objects can get frozen: the survivors are modules imported late."""

SOON, LATE = 20_000, 2_000
"""How many objects may be thawed, or counted, per second since the last time: at 0.7 µs for each that is thawed, 1.4 %
and 0.14 % of the time. Counting takes a seventh of that.
"""

LAST = 500
"""The same for a thaw that takes place although little seems to have stayed: it may be what a `finally` block waits
for. It is counted from the first task that has ended since the last thaw.
"""

MUCH = 1 / 8
"""The part of the objects of those who have gone from which on it is much that has stayed. When nothing stays, their
number is estimated within 3 %.
"""


class Kind(Enum):
    """What a collection examines."""

    YOUNG = "young"
    FULL = "full"
    THAW = "thaw"


class Schedule:
    """Decides when to collect what. Pure: times are arguments, in seconds of one monotonic clock."""

    def __init__(self, now: float, frozen_objects: int) -> None:
        self.due = now + QUIET_DELAY
        """When the next collection has to take place."""
        self.many = FIRST
        """With how many connections it has to take place at once."""
        self._step = MANY
        self._known = 0  # connections that are not new
        self._weight = 0
        self._ended = False
        self._frozen_at = -math.inf
        self._frozen_objects = frozen_objects
        self._lasting = float(frozen_objects)  # those of them that no connection had
        self._frozen_connections = 0
        self._frozen_resting = 0  # connections without a task
        self._frozen_ended = 0  # tasks
        self._frozen_weight = 0  # of their bodies
        self._first_ended_at = math.inf
        self._looked_at = now  # thawed or counted

    def task_ended(self, began: float, weight: int) -> bool:
        """Note the end of a task that began at this time. `weight`: the bytes of its bodies.

        True for the first task since the last collection. Then call `begin_period`.
        """
        self._weight += TASK_BYTES + weight
        if began < self._frozen_at:
            self._frozen_ended += 1
            self._frozen_weight += weight
        return not self._ended

    def begin_period(self, now: float) -> None:
        """Tasks have ended: collect their garbage within a second."""
        self._ended = True
        self.due = min(self.due, now + DELAY)

    @property
    def is_heavy(self) -> bool:
        """Whether to collect the young generations now."""
        return self._weight >= YOUNG_BYTES

    def young_collected(self) -> None:
        """The young generations have been collected."""
        self._weight = 0

    def kind(self, now: float, connections: int, tasks: int, count: Callable[[], int]) -> Kind:
        """What a collection at this time examines. `connections` and `tasks` are the numbers that exist now; `count`
        counts the frozen objects, which takes long, and is called only if it decides.
        """
        if self._frozen_ended:
            self._first_ended_at = min(self._first_ended_at, now)
        if now >= self._first_ended_at + self._frozen_objects / LAST:
            return Kind.THAW
        if now < self._next_look:
            return Kind.FULL
        if self._frozen_weight >= YOUNG_BYTES:
            return Kind.THAW
        # A connection that outlives its task keeps what it has.
        gone = self._frozen_ended - max(0, connections - tasks - self._frozen_resting)
        return Kind.THAW if gone > 0 and self._leave_much(now, gone, count()) else Kind.FULL

    @property
    def _next_look(self) -> float:
        """When all may be thawed, or counted, again."""
        if not self._frozen_ended:
            return math.inf
        pace = SOON if 2 * self._frozen_ended >= self._frozen_connections else LATE
        return self._looked_at + self._frozen_objects / pace

    def _leave_much(self, now: float, gone: int, left: int) -> bool:
        """Whether much has stayed of so many connections that were frozen and have gone. If not, forget them. `left` is
        how many objects are frozen now.
        """
        self._looked_at = now
        crowd = self._frozen_objects - self._lasting
        had = crowd * min(1.0, gone / max(1, self._frozen_connections))
        stayed = had - (self._frozen_objects - left)
        if stayed > MUCH * had:
            return True
        self._frozen_objects = left
        self._lasting += stayed
        self._frozen_connections = max(0, self._frozen_connections - gone)
        self._frozen_ended -= gone
        self._frozen_weight = 0
        return False

    def collected(self, kind: Kind, now: float, found: int, survivors: int, connections: int, tasks: int) -> bool:
        """Note a collection, and return whether to freeze its survivors.

        `found` and `survivors` are numbers of objects; `connections` and `tasks` are the numbers that exist now.
        """
        self._weight = 0
        self.due = now + (DELAY if self._ended and found else QUIET_DELAY)
        self._ended = False
        if kind is Kind.FULL and now < self._next_look:
            self.due = min(self.due, self._next_look)
        if connections < self._known:
            self._known = connections
            self.many = connections + self._step
        if kind is Kind.THAW:
            self._thawed(now, survivors, connections)
        elif connections >= self.many:
            each = survivors / (connections - self._known)
            self._step = round(min(MANY, max(FEWEST, WALKED / max(each, 1))))
        elif survivors < (MOST_OBJECTS if tasks else MOST_OBJECTS_AT_REST):
            return False
        elif not tasks:
            self._lasting += survivors
        self._frozen_at = now
        self._frozen_objects += survivors
        self._frozen_connections += connections - self._known
        self._frozen_resting = max(0, connections - tasks)
        self._known = connections
        self.many = connections + self._step
        return True

    def _thawed(self, now: float, survivors: int, connections: int) -> None:
        """Everything has been thawed and collected. Nothing is frozen now, and all connections are new."""
        each = (self._frozen_objects - self._lasting) / max(1, self._frozen_connections)
        self._lasting = max(0.0, survivors - each * connections)
        self._frozen_objects = self._frozen_connections = self._known = 0
        self._frozen_ended = self._frozen_weight = 0
        self._first_ended_at = math.inf
        self._looked_at = now


class Population(Protocol):
    """What lives in the event loop. (`fairway.server.context.ServerContext`)"""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def connections(self) -> Collection[object]: ...

    @property
    def tasks(self) -> Collection[object]:
        """The application's tasks that have not ended."""

    def touch(self) -> float:
        """The time of the loop's clock, which this brings up to date."""


class Collector:
    """Runs Python's collector from one event loop, until `close`. A process may have only one at a time."""

    def __init__(self, context: Population) -> None:
        """Collect, and freeze everything alive: whatever has been loaded by now lives as long as the process."""
        self._context = context
        self._thresholds = gc.get_threshold()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self.counts: Counter[Kind] = Counter()
        """The number of collections of each kind, without Python's automatic ones."""
        gc.set_threshold(*THRESHOLDS)
        gc.collect()
        gc.freeze()
        # Not only those that were just frozen: a worker is forked from a process that has frozen what it had.
        self._schedule = Schedule(context.touch(), gc.get_freeze_count())
        self._arm()

    def close(self) -> None:
        """Restore Python's collector to what it was before."""
        for handle in (self._timer, self._soon):
            if handle is not None:
                handle.cancel()
        gc.unfreeze()
        gc.set_threshold(*self._thresholds)

    def task_ended(self, began: float, weight: int) -> None:
        """A task of the application has ended. It `began` at this time of the loop; `weight`: bytes of its bodies."""
        schedule = self._schedule
        if schedule.task_ended(began, weight):
            schedule.begin_period(self._context.touch())
            self._arm()
        if schedule.is_heavy:
            # Not right now: the task is still releasing its objects.
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
        kind = schedule.kind(context.touch(), len(context.connections), len(context.tasks), gc.get_freeze_count)
        self.counts[kind] += 1
        if kind is Kind.THAW:
            gc.unfreeze()
        found = gc.collect()
        # Read after the collection, so that a task that begins from now on cannot look older than it.
        now = context.touch()
        if schedule.collected(kind, now, found, _survivors(), len(context.connections), len(context.tasks)):
            gc.freeze()
        self._arm()


def _survivors() -> int:
    """How many objects the full collection that has just ended has left."""
    return len(gc.get_objects(generation=2))
