"""`Heartbeat`: when it beats, and that it ends. The loop's clock is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.fairway.loops import passes

from fairway.timing.heartbeat import Heartbeat


class HandClock:
    """In the place of the loop's clock: time passes when `sleep` is called."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 100.0
        self._timers: list[tuple[float, Callable[[], object], asyncio.TimerHandle]] = []
        self._loop = loop
        monkeypatch.setattr(loop, "time", lambda: self._now)
        monkeypatch.setattr(loop, "call_later", self._call_later)

    def _call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self._now + seconds, callback, (), self._loop)
        self._timers.append((self._now + seconds, callback, handle))
        return handle

    async def sleep(self, seconds: float) -> None:
        until = self._now + seconds
        while due := [timer for timer in self._timers if timer[0] <= until and not timer[2].cancelled()]:
            timer = min(due, key=lambda timer: timer[0])
            self._timers.remove(timer)
            self._now = timer[0]
            timer[1]()
            await passes()
        self._now = until

    @property
    def armed(self) -> int:
        return sum(not handle.cancelled() for _, _, handle in self._timers)


class Beats:
    """Counts the beats; each ends at once, or only when `gate` is set."""

    def __init__(self) -> None:
        self.count = 0
        self.was_cancelled = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> None:
        self.count += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    return HandClock(asyncio.get_running_loop(), monkeypatch)


async def test_it_beats_after_each_silence(clock: HandClock):
    beats = Beats()
    heartbeat = Heartbeat(15, beats)
    await clock.sleep(14)
    assert beats.count == 0
    await clock.sleep(1)
    assert beats.count == 1
    await clock.sleep(30)
    assert beats.count == 3
    await heartbeat.end()


async def test_silence_counts_from_the_last_writing(clock: HandClock):
    beats = Beats()
    heartbeat = Heartbeat(15, beats)
    for _ in range(10):
        await clock.sleep(10)
        with heartbeat:
            pass
    assert beats.count == 0
    await clock.sleep(14)
    assert beats.count == 0
    await clock.sleep(1)
    assert beats.count == 1
    await heartbeat.end()


async def test_it_does_not_beat_while_something_is_written(clock: HandClock):
    beats = Beats()
    heartbeat = Heartbeat(15, beats)
    with heartbeat:
        await clock.sleep(100)
    assert beats.count == 0
    await clock.sleep(15)
    assert beats.count == 1
    await heartbeat.end()


async def test_one_beat_after_the_other(clock: HandClock):
    beats = Beats()
    beats.gate.clear()
    heartbeat = Heartbeat(15, beats)
    await clock.sleep(100)
    assert (beats.count, clock.armed) == (1, 0)
    beats.gate.set()
    await passes()
    assert clock.armed == 1
    await heartbeat.end()


async def test_no_beat_begins_after_the_stop(clock: HandClock):
    beats = Beats()
    heartbeat = Heartbeat(15, beats)
    heartbeat.stop()
    assert (heartbeat.is_over, clock.armed) == (True, 0)
    await clock.sleep(100)
    assert beats.count == 0


async def test_a_beat_may_stop_it(clock: HandClock):
    async def stop() -> None:
        heartbeat.stop()

    heartbeat = Heartbeat(15, stop)
    await clock.sleep(15)
    assert (heartbeat.is_over, clock.armed) == (True, 0)


async def test_the_end_is_the_end_of_a_beat_too(clock: HandClock):
    beats = Beats()
    beats.gate.clear()
    heartbeat = Heartbeat(15, beats)
    await clock.sleep(15)
    heartbeat.stop()
    assert not heartbeat.is_over
    await heartbeat.end()
    assert (beats.was_cancelled, heartbeat.is_over, clock.armed) == (True, True, 0)
