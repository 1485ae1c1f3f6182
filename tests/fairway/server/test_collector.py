"""When to collect what: the schedule by its numbers, and Python's collector run by it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from fairway.server import collector
from fairway.server.access import AccessLog
from fairway.server.collector import (
    DELAY,
    FEWEST,
    FIRST,
    LATE,
    MANY,
    MOST_OBJECTS,
    MOST_OBJECTS_AT_REST,
    QUIET_DELAY,
    SOON,
    TASK_BYTES,
    WALKED,
    YOUNG_BYTES,
    Collector,
    Kind,
    Schedule,
)
from fairway.server.config import Config
from fairway.server.context import ServerContext

MB = 1024 * 1024
LOADED = 50_000  # objects


def end_task(schedule: Schedule, now: float, began: float | None = None, weight: int = 0) -> None:
    if schedule.task_ended(now if began is None else began, weight):
        schedule.begin_period(now)


def collect(
    schedule: Schedule, now: float, found: int = 0, survivors: int = 100, connections: int = 0, tasks: int = 1
) -> tuple[Kind, bool]:
    kind = schedule.kind(now)
    return kind, schedule.collected(kind, now, found, survivors, connections, tasks)


@pytest.mark.parametrize(
    ("weight", "count"), [(MB, 16), (2 * MB, 8), (100 * MB, 1), (0, YOUNG_BYTES // TASK_BYTES), (TASK_BYTES, 128)]
)
def test_young_collections_go_by_the_weight_of_what_has_ended(weight: int, count: int) -> None:
    schedule = Schedule(0.0, LOADED)
    for _ in range(count - 1):
        end_task(schedule, 1.0, weight=weight)
        assert not schedule.is_heavy
    end_task(schedule, 1.0, weight=weight)
    assert schedule.is_heavy

    schedule.young_collected()
    assert not schedule.is_heavy


def test_a_second_after_a_task_has_ended_everything_is_collected_whatever_ends_meanwhile() -> None:
    schedule = Schedule(0.0, LOADED)
    assert schedule.due == QUIET_DELAY
    end_task(schedule, 10.0)
    end_task(schedule, 10.9)
    assert schedule.due == 10.0 + DELAY
    assert collect(schedule, 11.0) == (Kind.FULL, False)


def test_what_a_finally_block_lets_go_of_is_collected_in_one_more_round_and_no_more() -> None:
    schedule = Schedule(0.0, LOADED)
    end_task(schedule, 10.0)
    collect(schedule, 11.0, found=5)
    assert schedule.due == 11.0 + DELAY
    collect(schedule, 12.0, found=5)
    assert schedule.due == 12.0 + QUIET_DELAY


def test_a_quiet_server_collects_now_and_then_and_soon_after_the_next_task() -> None:
    schedule = Schedule(0.0, LOADED)
    collect(schedule, QUIET_DELAY)
    assert schedule.due == 2 * QUIET_DELAY
    end_task(schedule, 70.0)
    assert schedule.due == 70.0 + DELAY
    collect(schedule, 71.0)
    assert schedule.due == 71.0 + QUIET_DELAY


@pytest.mark.parametrize(
    ("each", "step"),
    [(1, MANY), (WALKED // MANY, MANY), (20, WALKED // 20), (WALKED // FEWEST, FEWEST), (10_000, FEWEST)],
)
def test_a_crowd_of_connections_is_frozen_and_the_next_one_is_the_smaller_the_heavier_they_are(
    each: int, step: int
) -> None:
    schedule = Schedule(0.0, LOADED)
    assert schedule.many == FIRST
    assert collect(schedule, 1.0, connections=FIRST - 1) == (Kind.FULL, False)
    assert collect(schedule, 2.0, connections=FIRST + 3, survivors=each * (FIRST + 3)) == (Kind.FULL, True)
    assert schedule.many == FIRST + 3 + step


def test_what_is_frozen_for_its_own_sake_says_nothing_about_connections() -> None:
    schedule = Schedule(0.0, LOADED)
    assert collect(schedule, 1.0, connections=1, survivors=MOST_OBJECTS) == (Kind.FULL, True)
    assert schedule.many == 1 + MANY


@pytest.mark.parametrize(
    ("survivors", "tasks", "frozen"),
    [
        (MOST_OBJECTS - 1, 1, False),
        (MOST_OBJECTS, 1, True),
        (MOST_OBJECTS_AT_REST - 1, 0, False),
        (MOST_OBJECTS_AT_REST, 0, True),
    ],
)
def test_what_stays_is_frozen_sooner_while_nothing_is_under_way(survivors: int, tasks: int, frozen: bool) -> None:
    assert collect(Schedule(0.0, LOADED), 1.0, survivors=survivors, tasks=tasks) == (Kind.FULL, frozen)


def test_when_half_of_the_frozen_have_ended_all_is_thawed_soon() -> None:
    schedule = Schedule(0.0, LOADED)
    collect(schedule, 1.0, connections=1000, survivors=30_000)
    for _ in range(499):
        end_task(schedule, 2.0, began=0.5)
    soon = (LOADED + 30_000) / SOON
    assert schedule.kind(soon) is Kind.FULL
    end_task(schedule, 2.0, began=0.5)
    assert schedule.kind(soon - 0.1) is Kind.FULL
    assert collect(schedule, soon, connections=500, survivors=65_000) == (Kind.THAW, True)

    # From here on 500 are frozen, and 65,000 objects.
    end_task(schedule, 5.0, began=0.5)
    late = soon + 65_000 / LATE
    assert schedule.kind(late - 0.1) is Kind.FULL
    assert schedule.kind(late) is Kind.THAW


def test_no_thaw_for_tasks_that_began_after_the_freeze() -> None:
    schedule = Schedule(0.0, LOADED)
    collect(schedule, 1.0, connections=1000, survivors=30_000)
    for _ in range(2000):
        end_task(schedule, 2.0, began=1.0)
    assert schedule.kind(1e6) is Kind.FULL
    end_task(schedule, 2.0, began=0.9)
    assert schedule.kind(1e6) is Kind.THAW


class Cycle:
    def __init__(self, held: object = None) -> None:
        self.itself = self
        self.held = held


def fate(cycle: Cycle) -> asyncio.Event:
    """Set when the cycle is gone."""
    gone = asyncio.Event()
    weakref.finalize(cycle, gone.set)
    return gone


def leave_cycle(held: object = None) -> asyncio.Event:
    return fate(Cycle(held))


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


async def nothing(scope: object, receive: object, send: object) -> None:
    pass


@pytest.fixture
async def context(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServerContext]:
    """Its collector runs, and its second takes some milliseconds."""
    monkeypatch.setattr(collector, "DELAY", 0.02)
    context = ServerContext(nothing, Config(), asyncio.get_running_loop(), AccessLog(False))
    # Nothing but what the schedule says: the thresholds alone are no proof.
    monkeypatch.setattr(collector, "THRESHOLDS", (0, 0, 0))
    context.collector = Collector(context)
    yield context
    context.close()


async def test_what_a_task_has_left_is_collected_after_it(context: ServerContext) -> None:
    left = leave_cycle()
    context.forget(context.run({}, None, None, None, context.forget), context.now)
    await happens(left)
    assert context.collector is not None
    assert context.collector.counts[Kind.YOUNG] == 0
    assert context.collector.counts[Kind.FULL] >= 1


async def test_what_is_old_when_it_is_left_is_collected_as_well(context: ServerContext) -> None:
    cycle: Cycle | None = Cycle()
    left = fate(cycle)
    gc.collect(1)  # what is alive, is old from here on
    cycle = None
    gc.collect(1)
    assert not left.is_set()
    context.forget(context.run({}, None, None, None, context.forget), context.now)
    await happens(left)


async def test_heavy_bodies_are_collected_at_once(context: ServerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "DELAY", 1000.0)
    left = leave_cycle()
    task = context.run({}, None, None, None, lambda task: context.forget(task, context.now, YOUNG_BYTES))
    await task
    await happens(left)
    assert context.collector is not None
    assert context.collector.counts == {Kind.YOUNG: 1}


async def test_what_hangs_on_something_with_a_finalizer_is_collected_in_the_next_round(context: ServerContext) -> None:
    closed = asyncio.Event()

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.set()

    generator = generate()
    await anext(generator)
    left = leave_cycle(Cycle(generator))
    del generator
    context.forget(context.run({}, None, None, None, context.forget), context.now)
    await happens(left)
    await happens(closed)


async def test_a_crowd_of_connections_is_frozen_at_once(
    context: ServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "DELAY", 1000.0)
    before = gc.get_freeze_count()

    class Connection:
        def drain(self) -> None: ...

        def abort(self) -> None: ...

    left = leave_cycle()
    added = [Connection() for _ in range(MANY)]
    for connection in added:
        context.add(connection)
    await happens(left)
    assert gc.get_freeze_count() >= before + MANY - 50
    assert context.collector is not None
    assert context.collector.counts == {Kind.FULL: 1}


async def test_at_its_end_pythons_collector_is_as_it_was() -> None:
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    context = ServerContext(nothing, Config(), asyncio.get_running_loop(), AccessLog(False))
    context.collector = Collector(context)
    assert gc.get_threshold() == collector.THRESHOLDS
    assert gc.get_freeze_count() > 0
    context.close()
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() <= frozen
    # A task that ends later finds nobody to tell.
    context.forget(asyncio.create_task(asyncio.sleep(0)), 0.0)
