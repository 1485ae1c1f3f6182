"""When to collect what: the schedule by its numbers, and Python's collector run by it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable

import pytest

from fairway.server import collector
from fairway.server.access import AccessLog
from fairway.server.collector import (
    DELAY,
    FEWEST,
    FIRST,
    LAST,
    LATE,
    MANY,
    MOST_OBJECTS,
    MOST_OBJECTS_AT_REST,
    MUCH,
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
    schedule: Schedule,
    now: float,
    found: int = 0,
    survivors: int = 100,
    connections: int = 0,
    tasks: int = 1,
    frozen: int | None = None,
) -> tuple[Kind, bool]:
    kind = schedule.kind(now, connections, tasks, counting(frozen))
    return kind, schedule.collected(kind, now, found, survivors, connections, tasks)


def counting(objects: int | None) -> Callable[[], int]:
    """Counts so many frozen objects; without a number, counting is a mistake."""

    def count() -> int:
        assert objects is not None, "objects were counted, and this takes long"
        return objects

    return count


CROWD = 1000
EACH = 30  # objects


def crowded(now: float = 1.0) -> Schedule:
    """One in which a crowd of connections, each with a task, has been frozen."""
    schedule = Schedule(0.0, LOADED)
    collect(schedule, now, connections=CROWD, tasks=CROWD, survivors=EACH * CROWD)
    return schedule


def leave(schedule: Schedule, count: int, now: float, weight: int = 0) -> None:
    """Tasks end that began before the crowd was frozen."""
    for _ in range(count):
        end_task(schedule, now, began=0.5, weight=weight)


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


THAWED_SOON = (LOADED + EACH * CROWD) / SOON
THAWED_LATE = (LOADED + EACH * CROWD) / LATE


def test_when_half_of_a_crowd_has_gone_and_its_objects_have_stayed_all_is_thawed_soon() -> None:
    schedule = crowded()
    leave(schedule, CROWD // 2 - 1, 2.0)
    assert schedule.kind(THAWED_SOON, CROWD // 2, CROWD // 2, counting(None)) is Kind.FULL
    leave(schedule, 1, 2.0)
    assert schedule.kind(THAWED_SOON - 0.1, CROWD // 2, CROWD // 2, counting(None)) is Kind.FULL
    frozen = LOADED + EACH * CROWD
    assert collect(schedule, THAWED_SOON, connections=500, tasks=500, survivors=65_000, frozen=frozen) == (
        Kind.THAW,
        True,
    )

    # From here on 500 are frozen, and 65,000 objects.
    leave(schedule, 1, 5.0)
    late = THAWED_SOON + 65_000 / LATE
    assert schedule.kind(late - 0.1, 499, 499, counting(None)) is Kind.FULL
    assert schedule.kind(late, 499, 499, counting(65_000)) is Kind.THAW


@pytest.mark.parametrize(("part", "kind"), [(MUCH * 0.9, Kind.FULL), (MUCH * 1.1, Kind.THAW)])
def test_what_decides_is_how_many_objects_have_stayed_of_those_who_have_gone(part: float, kind: Kind) -> None:
    schedule = crowded()
    leave(schedule, 800, 2.0)
    stayed = LOADED + EACH * 200 + round(part * EACH * 800)
    assert schedule.kind(THAWED_SOON, 200, 200, counting(stayed)) is kind


def test_a_crowd_that_has_left_nothing_is_forgotten_and_the_next_one_is_judged_alone() -> None:
    schedule = crowded()
    leave(schedule, 800, 2.0)
    left = LOADED + EACH * 200 + 100
    assert collect(schedule, THAWED_SOON, connections=200, tasks=200, frozen=left) == (Kind.FULL, False)
    assert schedule.many == 200 + round(WALKED / EACH)

    more = schedule.many - 200
    assert collect(schedule, 10.0, connections=schedule.many, tasks=schedule.many, survivors=more * EACH) == (
        Kind.FULL,
        True,
    )
    for _ in range(more):
        end_task(schedule, 11.0, began=9.0)
    # All of the second crowd have gone, and all of its objects are still there.
    assert schedule.kind(10.0 + THAWED_LATE, 200, 200, counting(left + more * EACH)) is Kind.THAW


def test_a_thaw_that_is_too_soon_takes_place_by_itself_even_if_no_other_task_ends() -> None:
    schedule = crowded()
    leave(schedule, CROWD, 1.5)
    collect(schedule, 2.5, found=5)
    assert schedule.due == 2.5 + DELAY
    collect(schedule, 3.5, found=5)
    assert schedule.due == THAWED_SOON
    frozen = LOADED + EACH * CROWD
    assert collect(schedule, schedule.due, survivors=LOADED, frozen=frozen) == (Kind.THAW, True)
    assert schedule.due == THAWED_SOON + QUIET_DELAY


def test_the_objects_are_not_counted_while_connections_outlive_their_tasks() -> None:
    schedule = crowded()
    leave(schedule, 800, 2.0)
    assert schedule.kind(THAWED_SOON, CROWD, 200, counting(None)) is Kind.FULL
    # Most of them are gone; the rest keeps its objects.
    left = LOADED + EACH * 300
    assert schedule.kind(THAWED_SOON + 1, 300, 200, counting(left)) is Kind.FULL


def test_heavy_bodies_are_thawed_however_few_objects_there_are() -> None:
    schedule = crowded()
    leave(schedule, CROWD // 2, 2.0, weight=2 * YOUNG_BYTES // CROWD - 1)
    assert schedule.kind(THAWED_SOON, CROWD // 2, CROWD // 2, counting(LOADED + EACH * CROWD // 2)) is Kind.FULL
    schedule = crowded()
    leave(schedule, CROWD // 2, 2.0, weight=2 * YOUNG_BYTES // CROWD + 1)
    schedule.young_collected()
    assert schedule.kind(THAWED_SOON, CROWD // 2, CROWD // 2, counting(None)) is Kind.THAW


def test_at_last_all_is_thawed_even_if_next_to_nothing_has_stayed() -> None:
    schedule = crowded()
    leave(schedule, 1, 1000.0)
    left = LOADED + EACH * (CROWD - 1)
    assert collect(schedule, 1001.0, connections=CROWD - 1, tasks=CROWD - 1, frozen=left) == (Kind.FULL, False)
    last = 1001.0 + left / LAST
    assert schedule.kind(last - 0.1, CROWD - 1, CROWD - 1, counting(None)) is Kind.FULL
    assert schedule.kind(last, CROWD - 1, CROWD - 1, counting(None)) is Kind.THAW


def test_what_was_loaded_late_is_no_garbage_of_the_crowd_that_goes_after_it() -> None:
    schedule = Schedule(0.0, LOADED)
    # Modules, imported by the first requests.
    assert collect(schedule, 1.0, survivors=MOST_OBJECTS_AT_REST, tasks=0) == (Kind.FULL, True)
    assert collect(schedule, 2.0, connections=CROWD, tasks=CROWD, survivors=EACH * CROWD) == (Kind.FULL, True)
    leave(schedule, CROWD, 3.0)
    assert schedule.kind(20.0, 0, 0, counting(LOADED + MOST_OBJECTS_AT_REST)) is Kind.FULL


def test_after_a_thaw_the_objects_of_those_who_stay_are_told_from_what_lasts() -> None:
    schedule = crowded()
    leave(schedule, CROWD // 2, 2.0)
    survivors = LOADED + EACH * CROWD // 2
    everything = LOADED + EACH * CROWD
    thawing = collect(schedule, 10.0, connections=500, tasks=500, survivors=survivors, frozen=everything)
    assert thawing == (Kind.THAW, True)
    leave(schedule, CROWD // 2, 11.0)
    assert schedule.kind(20.0, 0, 0, counting(LOADED)) is Kind.FULL


def test_no_thaw_for_tasks_that_began_after_the_freeze() -> None:
    schedule = crowded()
    for _ in range(2 * CROWD):
        end_task(schedule, 2.0, began=1.0)
    assert schedule.kind(1e6, CROWD, CROWD, counting(None)) is Kind.FULL
    leave(schedule, 1, 1e6)
    assert schedule.kind(1e6, CROWD, CROWD - 1, counting(None)) is Kind.FULL
    assert schedule.kind(2e6, CROWD, CROWD - 1, counting(None)) is Kind.THAW


def test_a_crowd_of_idle_connections_that_has_gone_does_not_put_off_the_next_freeze() -> None:
    schedule = Schedule(0.0, LOADED)
    collect(schedule, 1.0, connections=9000, tasks=1, survivors=5 * 9000)
    collect(schedule, 2.0, connections=2, tasks=1)
    assert schedule.many == 2 + MANY


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


def full_collection() -> asyncio.Event:
    """Set when the next one is over."""
    over = asyncio.Event()

    def note(phase: str, information: dict[str, int]) -> None:
        if phase == "stop" and information["generation"] == 2:
            gc.callbacks.remove(note)
            over.set()

    gc.callbacks.append(note)
    return over


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


class Client:
    """A connection whose task waits until the client leaves, with some objects, which it may leave in cycles."""

    def __init__(self, context: ServerContext, is_careless: bool) -> None:
        self._context = context
        self._is_careless = is_careless
        self.leaves = asyncio.Event()
        self._began = context.now
        context.run({}, self, None, None, self._ended)

    async def __call__(self) -> None:
        held = [Cycle() for _ in range(30)]
        await self.leaves.wait()
        if not self._is_careless:
            for cycle in held:
                cycle.itself = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._context.remove(self)
        self._context.forget(task, self._began)

    def drain(self) -> None: ...

    def abort(self) -> None: ...


async def hold(scope: object, receive: Client, send: object) -> None:
    await receive()


@pytest.mark.slow
@pytest.mark.parametrize(("is_careless", "thaws"), [(True, 1), (False, 0)])
async def test_a_crowd_that_has_gone_is_thawed_if_it_has_left_its_objects(
    context: ServerContext, monkeypatch: pytest.MonkeyPatch, is_careless: bool, thaws: int
) -> None:
    monkeypatch.setattr(collector, "SOON", 1e12)  # this process has far more objects than a site
    context.app = hold
    clients = [Client(context, is_careless) for _ in range(2 * FIRST)]
    await asyncio.sleep(0)
    for client in clients:
        context.add(client)
    await happens(full_collection())
    for client in clients:
        client.leaves.set()
    clients.clear()
    await happens(full_collection())
    assert context.collector is not None
    assert context.collector.counts[Kind.THAW] == thaws
    assert context.collector.counts.total() == 2
    assert not context.tasks


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
