"""Deadlines on an event loop: the timer, and what becomes of a handler that raises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fairway.timing.clock import CALLS_PER_PASS, Clock
from fairway.timing.wheel import Wheel


class Entry:
    def __init__(self, answer: float | None = None) -> None:
        self.wheel_slot: int | None = None
        self.called = asyncio.Event()
        self._answer = answer

    def handle_deadline(self, now: float) -> float | None:
        self.called.set()
        return self._answer


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.stop()


async def test_a_deadline_is_handled_and_the_timer_rests_when_there_is_none(clock: Clock) -> None:
    entry = Entry()
    clock.schedule(entry, clock.touch() + 0.01)
    assert clock.is_armed
    async with asyncio.timeout(5.0):
        await entry.called.wait()
    assert not clock.is_armed
    assert len(clock.wheel) == 0


async def test_a_handler_that_raises_stops_neither_the_others_nor_the_clock(clock: Clock) -> None:
    class Raising(Entry):
        def handle_deadline(self, now: float) -> float | None:
            raise ArithmeticError("on purpose")

    reported: list[Any] = []
    clock.loop.set_exception_handler(lambda _, details: reported.append(details["exception"]))
    entries = [Raising(), Entry()]
    for entry in entries:
        clock.schedule(entry, clock.touch() + 0.01)
    async with asyncio.timeout(5.0):
        await entries[1].called.wait()
    later = Entry()
    clock.schedule(later, clock.touch() + 0.01)
    async with asyncio.timeout(5.0):
        await later.called.wait()
    assert len(reported) == 1


async def test_many_deadlines_of_one_tick_leave_room_for_others(clock: Clock) -> None:
    called: list[int] = []

    class Noting(Entry):
        def handle_deadline(self, now: float) -> float | None:
            called[-1] += 1
            return super().handle_deadline(now)

    clock.wheel = Wheel(clock.now, tick=0.001)
    entries = [Noting() for _ in range(10 * CALLS_PER_PASS)]
    deadline = clock.touch()
    for entry in entries:
        clock.schedule(entry, deadline)
    async with asyncio.timeout(5.0):
        while len(clock.wheel):
            called.append(0)
            await asyncio.sleep(0)
    assert max(called) == CALLS_PER_PASS
    assert sum(called) == len(entries)


async def test_a_clock_that_was_stopped_calls_nobody(clock: Clock) -> None:
    clock.stop()
    clock.schedule(Entry(), clock.touch() + 1.0)
    assert not clock.is_armed


async def test_the_coarse_clock_stands_still_until_somebody_looks_and_never_goes_back(clock: Clock) -> None:
    before = clock.now
    await asyncio.sleep(0)
    assert clock.now == before
    assert clock.touch() == clock.now >= before
    clock.now = ahead = clock.now + 1000.0
    assert clock.touch() == ahead


async def test_it_is_told_of_every_tick_even_if_a_handler_raises() -> None:
    ticks = asyncio.Queue[float]()

    class Telling(Clock):
        def ticked(self) -> None:
            ticks.put_nowait(self.now)

    class Raising(Entry):
        def handle_deadline(self, now: float) -> float | None:
            raise ArithmeticError("on purpose")

    clock = Telling(asyncio.get_running_loop())
    clock.loop.set_exception_handler(lambda _, details: None)
    clock.schedule(Raising(), clock.touch() + 0.01)
    async with asyncio.timeout(5.0):
        assert await ticks.get() == clock.now
    assert not clock.is_armed
