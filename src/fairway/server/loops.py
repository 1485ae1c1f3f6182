"""The event loop of a server: uvloop's, which gives way to threads while it is busy.

A page of Django goes to a thread and back two or three times, and does next to nothing there. But a thread that gets
work from a busy loop has to wait twice. It waits for a processor if the loop occupies the only one. And it waits for
Python's lock: uvloop releases the lock many times in a pass of the loop, and has taken it again before the thread is
awake; each time, Python's switch interval of 5 ms begins anew. So the thread waits for 3 to 10 ms, however short the
passes are. Therefore a busy loop yields the processor once, right after it has given work to a thread. Nearly always
the thread has done its work, and waits again, when the loop goes on.

A loop that is not busy is about to wait for its sockets anyway. Nor is it busy if other processes use the processor:
yielding would give them the loop's share of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from time import monotonic, thread_time
from typing import TypeVar, TypeVarTuple

import uvloop

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")

WINDOW = 0.001
"""Seconds over which the use of the processor is measured, at least."""

BUSY = 0.92
"""The share of the time from which on the loop is busy, if its thread has used the processor for so long. Beside floods
and storms of connections it is 0.97 and more. With nothing to do but pages of Django it is below 0.9, since their
threads need the processor too; then giving way would only cost changes of threads.
"""


class Busy:
    """Whether the thread of a loop is busy. Pure: times are arguments, in seconds."""

    __slots__ = ("_is_busy", "_since", "_used")

    def __init__(self) -> None:
        self._is_busy = False
        self._since = self._used = 0.0

    def is_busy(self, now: float, used: float) -> bool:
        """`used` is the processor time of the thread. Judged is the time since the last call, or some calls ago."""
        passed = now - self._since
        if passed >= WINDOW:
            self._is_busy = used - self._used >= BUSY * passed
            self._since, self._used = now, used
        return self._is_busy


class Loop(uvloop.Loop):
    """A loop of uvloop that gives way to the threads of `run_in_executor` while it is busy."""

    def __init__(self) -> None:
        super().__init__()
        self._busy = Busy()

    def run_in_executor(  # type: ignore[override]  # uvloop's stubs call the future a coroutine
        self, executor: Executor | None, func: Callable[[*_Arguments], _Result], *args: *_Arguments
    ) -> asyncio.Future[_Result]:
        future = super().run_in_executor(executor, func, *args)
        if self._busy.is_busy(monotonic(), thread_time()):
            give_way()
        return future  # type: ignore[return-value]  # as above


def _yielding() -> Callable[[], object]:
    # Not `os.sched_yield`, which keeps Python's lock.
    try:
        import ctypes  # some builds of Python lack it

        return ctypes.CDLL(None).sched_yield
    except (ImportError, AttributeError, OSError):
        return lambda: None


give_way = _yielding()
"""Let another thread run on this processor, and have Python's lock, if one is waiting."""
