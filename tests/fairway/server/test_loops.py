"""A busy loop gives way to the threads that it gives work to: `fairway.server.loops`."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

if sys.platform == "win32":
    pytest.skip("uvloop does not exist for Windows", allow_module_level=True)

from fairway.server import loops
from fairway.server.loops import BUSY, WINDOW, Busy, Loop


def test_a_loop_is_busy_when_it_has_used_the_processor_for_most_of_the_time() -> None:
    busy = Busy()
    assert not busy.is_busy(100.0, 5.0)
    assert busy.is_busy(100.1, 5.0 + 0.1 * BUSY + 1e-9)
    assert not busy.is_busy(100.2, 5.1)


def test_moments_are_too_short_to_be_judged() -> None:
    busy = Busy()
    busy.is_busy(100.0, 5.0)
    assert not busy.is_busy(100.0 + WINDOW / 2, 5.0 + WINDOW / 2)
    assert busy.is_busy(100.0 + WINDOW * 1.5, 5.0 + WINDOW * 1.5), "the moment before was forgotten"
    assert busy.is_busy(100.0 + WINDOW * 1.6, 5.0 + WINDOW * 1.5), "a moment of rest was enough"


@pytest.fixture
def yields(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that have given way."""
    names: list[str] = []
    monkeypatch.setattr(loops, "give_way", lambda: names.append(threading.current_thread().name))
    return names


@pytest.mark.parametrize(("share", "given"), [(0.5, 0), (0.95, 3)])
def test_only_a_busy_loop_gives_way(
    yields: list[str], monkeypatch: pytest.MonkeyPatch, share: float, given: int
) -> None:
    times = iter(range(100))
    monkeypatch.setattr(loops, "monotonic", lambda: 50.0 + next(times))
    monkeypatch.setattr(loops, "thread_time", lambda: next(times) * share)

    async def hops(executor: ThreadPoolExecutor) -> list[int]:
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(executor, abs, -number) for number in range(4)]

    with asyncio.Runner(loop_factory=Loop) as runner, ThreadPoolExecutor(1) as executor:
        assert runner.run(hops(executor)) == [0, 1, 2, 3]
    assert yields == [threading.current_thread().name] * given


def test_errors_of_the_executor_are_raised() -> None:
    async def hop() -> None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        await asyncio.get_running_loop().run_in_executor(executor, int)

    with asyncio.Runner(loop_factory=Loop) as runner, pytest.raises(RuntimeError, match="after shutdown"):
        runner.run(hop())


def test_giving_way_returns() -> None:
    loops.give_way()
