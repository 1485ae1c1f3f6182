"""A room in one process, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
from tests.fairway.rooms.clock import run

from fairway.layers.backplane import Unavailable
from fairway.logs import ErrorLog, FaultLog
from fairway.rooms import Room, runner
from fairway.rooms.counters import counters
from fairway.rooms.restarts import Restarts
from fairway.rooms.runner import MOST_WAITING, Outcome, Runner


class Counting(Room):
    """Notes what happens to it, in the class: an error makes another instance."""

    step = 0.1
    notes: ClassVar[list[Any]] = []

    def __init__(self, name: str, layer: Any = None) -> None:
        super().__init__(name, layer)
        self.ticks = 0

    async def begin(self, saved: Any) -> None:
        self.ticks = saved or 0
        self.notes.append(("begin", saved))

    async def tick(self, seconds: float) -> None:
        assert seconds == 0.1
        self.ticks += 1

    async def receive(self, message: Any) -> None:
        self.notes.append((message, self.ticks))
        if message == "nonsense":
            raise LookupError("no such thing")

    def save(self) -> Any:
        return self.ticks

    async def end(self) -> None:
        self.notes.append(("end", self.ticks))


@pytest.fixture(autouse=True)
def begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was logged for other tests does not count."""
    monkeypatch.setattr(runner, "_faults", FaultLog(runner.logger, per_second=1))
    monkeypatch.setattr(runner, "errors", ErrorLog(runner.logger))
    Counting.notes.clear()


class Site:
    def __init__(self, room: Room) -> None:
        self.restarts = Restarts()
        self.may_run = True
        self.saves: list[Any] = []
        self.told: list[float | None] = []
        self.before = counters.statistics()
        self.runner = Runner(room, self.restarts, lambda: self.may_run, self.save, self.tell)

    async def save(self, saved: Any) -> None:
        self.saves.append(saved)

    async def tell(self, pause: float | None) -> None:
        self.told.append(pause)

    def counted(self, name: str) -> int:
        return counters.statistics()[name] - self.before[name]


def in_site(room_class: type[Room], work: Callable[[Site], Awaitable[None]]) -> Site:
    async def main() -> Site:
        site = Site(room_class("room"))
        await work(site)
        await site.runner.stop()
        return site

    return run(main())


def test_a_room_ticks_in_steps_and_saves_now_and_then() -> None:
    async def work(site: Site) -> None:
        await asyncio.sleep(3.05)

    site = in_site(Counting, work)

    assert Counting.notes == [("begin", None), ("end", 30)]
    assert (site.counted("ticks"), site.counted("missed_ticks"), site.counted("running")) == (30, 0, 0)
    assert site.saves == [10, 20, 30]
    assert site.restarts.saved == 30


def test_a_message_comes_at_once_and_in_order_between_ticks() -> None:
    async def work(site: Site) -> None:
        await asyncio.sleep(0.25)
        for number in range(3):
            site.runner.put(number)
        await asyncio.sleep(0.01)
        assert Counting.notes[1:] == [(0, 2), (1, 2), (2, 2)]

    in_site(Counting, work)


def test_more_messages_than_a_room_takes_are_dropped_and_counted() -> None:
    async def work(site: Site) -> None:
        for number in range(MOST_WAITING + 5):
            site.runner.put(number)
        await asyncio.sleep(0.01)
        assert len(Counting.notes) == 1 + MOST_WAITING

    assert in_site(Counting, work).counted("dropped_messages") == 5


def test_a_bad_message_ends_itself_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def work(site: Site) -> None:
        for message in ("nonsense", "nonsense", "sense"):
            site.runner.put(message)
        await asyncio.sleep(0.15)

    site = in_site(Counting, work)

    assert ("sense", 0) in Counting.notes
    assert Counting.notes[-1] == ("end", 1)
    assert (site.counted("failed_messages"), site.counted("failures"), site.told) == (2, 0, [])
    assert caplog.text.count("Traceback") == 1
    assert "Room room could not receive a message" in caplog.text


class Failing(Counting):
    """Fails at its 15th tick, with whatever it has begun."""

    fails_at = 15

    async def tick(self, seconds: float) -> None:
        await super().tick(seconds)
        if self.ticks == self.fails_at:
            raise ZeroDivisionError("the fifteenth")


def test_an_error_restarts_the_room_with_what_it_saved_and_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    async def work(site: Site) -> None:
        await asyncio.sleep(1.55)
        site.runner.put("while it pauses")
        await asyncio.sleep(1)

    site = in_site(Failing, work)

    # It fails at 1.5, begins again at 2.0 with 10 ticks, and fails at 2.5 before it has saved anything else.
    assert Failing.notes == [("begin", None), ("begin", 10), ("while it pauses", 10)]
    assert site.told == [0.5, 1.0]
    assert site.counted("failures") == 2
    assert caplog.text.count("Traceback") == 1
    assert "Room room has failed, and begins again in 0.5 s" in caplog.text
    assert "ZeroDivisionError: the fifteenth" in caplog.text


def test_a_room_that_fails_with_what_it_saved_begins_with_nothing() -> None:
    async def work(site: Site) -> None:
        await asyncio.sleep(4)

    in_site(Failing, work)
    assert Failing.notes[:3] == [("begin", None), ("begin", 10), ("begin", None)]


class Ending(Failing):
    on_error = "end"


def test_an_error_ends_a_room_that_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def work(site: Site) -> None:
        assert await site.runner.task is Outcome.ENDED

    site = in_site(Ending, work)

    assert (Ending.notes, site.told) == ([("begin", None)], [None])
    assert "Room room has failed, and has ended" in caplog.text


class Unheard(Counting):
    async def publish(self) -> None:
        raise Unavailable("the service is away")


def test_a_service_that_is_away_is_no_fault_of_the_room(caplog: pytest.LogCaptureFixture) -> None:
    async def work(site: Site) -> None:
        await asyncio.sleep(0.55)

    site = in_site(Unheard, work)

    assert (site.counted("unpublished"), site.counted("failures"), site.counted("ticks")) == (5, 0, 5)
    assert caplog.text.count("Room room could not tell its visitors: the service is away") == 1


def test_a_room_that_may_not_run_any_more_stops_and_has_saved() -> None:
    async def work(site: Site) -> None:
        await asyncio.sleep(0.25)
        site.may_run = False
        assert await site.runner.task is Outcome.LAPSED

    site = in_site(Counting, work)

    assert (site.restarts.saved, Counting.notes) == (2, [("begin", None)])


class Chess(Counting):
    """Tells a move at once, and no clock."""

    step = 60

    async def receive(self, message: Any) -> None:
        self.ticks += 1
        self.changed()
        if message == "nonsense":
            raise LookupError("no such move")

    async def publish(self) -> None:
        self.notes.append(("told", self.ticks))
        if self.ticks == 13:
            raise ZeroDivisionError("thirteen")


class Board(Site):
    async def save(self, saved: Any) -> None:
        self.notes.append(("saved", saved))

    notes = Chess.notes


def on_a_board(work: Callable[[Site], Awaitable[None]]) -> list[Any]:
    async def main() -> None:
        site = Board(Chess("room"))
        await asyncio.sleep(0.01)
        await work(site)
        await site.runner.stop()

    run(main())
    return Chess.notes


def test_a_change_is_saved_and_then_told_without_waiting_for_a_tick() -> None:
    async def work(site: Site) -> None:
        for moves in (1, 2):
            for _ in range(moves):
                site.runner.put("a move")
            await asyncio.sleep(0.01)
        assert site.restarts.saved == 3

    notes = on_a_board(work)
    assert notes == [("begin", None), ("saved", 1), ("told", 1), ("saved", 3), ("told", 3), ("end", 3)]


def test_a_change_that_cannot_be_told_is_not_what_the_room_begins_with() -> None:
    async def work(site: Site) -> None:
        site.runner.put("a move")
        await asyncio.sleep(0.01)
        for _ in range(12):
            site.runner.put("a move")
        await asyncio.sleep(0.6)

    assert ("begin", 1) in on_a_board(work)


def test_a_message_that_fails_keeps_no_change_back() -> None:
    async def work(site: Site) -> None:
        site.runner.put("nonsense")
        await asyncio.sleep(0.01)

    assert ("told", 1) in on_a_board(work)


class Late(Counting):
    async def tick(self, seconds: float) -> None:
        await super().tick(seconds)
        if self.ticks == 1:
            await asyncio.sleep(60)


def test_a_late_room_leaves_out_what_it_cannot_make_up_for() -> None:
    async def work(site: Site) -> None:
        await asyncio.sleep(60.25)

    site = in_site(Late, work)

    assert site.counted("ticks") == 1 + Late.catch_up + 1
    assert site.counted("missed_ticks") == 595


class Stuck(Counting):
    async def tick(self, seconds: float) -> None:
        await asyncio.Event().wait()


def test_a_room_that_does_not_finish_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def work(site: Site) -> None:
        await asyncio.sleep(0.15)
        await site.runner.stop()
        assert site.runner.task.cancelled()

    in_site(Stuck, work)
    assert "Room room did not finish within 2 s: it is cancelled" in caplog.text


class Waiting(Counting):
    """Waits for a task that is cancelled."""

    async def tick(self, seconds: float) -> None:
        await super().tick(seconds)
        task = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task


def test_a_cancelled_task_that_a_room_waits_for_is_an_error_of_the_room(caplog: pytest.LogCaptureFixture) -> None:
    async def work(site: Site) -> None:
        await asyncio.sleep(1)
        assert not site.runner.task.done()

    assert in_site(Waiting, work).counted("failures") == 2  # the pause after the second one lasts a second
    assert "Room room has failed, and begins again in 0.5 s\nTraceback" in caplog.text
