"""A clock that stands still until a test moves it, for tests of what expires, lingers, or waits for its time.

    with VirtualClock() as clock:
        client = WebsocketCommunicator(application, "/lobby/")
        await client.connect()
        ...
        await clock.advance(300)            # five minutes later, at once

Under the clock are the layers of this process and the applications that communicators run, from their first step on:
`asyncio.sleep`, time-outs, and timers of the event loop, in all tasks that an application starts. The test itself is
not, nor are its communicators: whoever waits for a message that does not come fails after a second, as ever. Otherwise
the test would wait for a clock that only the test can move.

*How.* The layers ask `fairway.timing.source`. For applications, the event loop's methods `time`, `call_later` and
`call_at` are replaced in the loop object. In the context of an application they go by the clock, in any other context
by the loop.
"""

from __future__ import annotations

import asyncio
import datetime
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, TypeVar

from fairway.timing import source
from fairway.timing.source import SYSTEM, applications

SETTLED = 3
"""Passes of an event loop in which nothing happens, after which nothing more is expected to."""

PATIENCE = 1000
"""Passes after which `advance` waits no longer for that, at each moment at which something was due. While threads work,
a pass takes a millisecond. Passes count, and not seconds, because a busy machine may take seconds for one.
"""

A_LITTLE = 1e-6
"""Seconds that each move takes longer, so that what is due exactly then is due however the numbers were rounded."""

T = TypeVar("T")


class VirtualClock:
    """A clock that a test moves. It begins with the present time. There is one at a time. (`TimeSource`)"""

    def __init__(self) -> None:
        self._began = self._now = self._began_at = 0.0
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}

    def __enter__(self) -> VirtualClock:
        self._began = self._now = SYSTEM.monotonic()
        self._began_at = time.time()
        source.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        source.end()
        for loop in self._loops.values():
            loop.restore()
        self._loops.clear()
        for when, _, timer in self._timers:
            timer.leave_to_loop(when - self._now)
        self._timers.clear()

    async def __aenter__(self) -> VirtualClock:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    # What time it is ------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        """Seconds of a clock that only `advance` and `skip` move."""
        return self._now

    def time(self) -> float:
        """The time of day under this clock, in seconds since 1970."""
        return self._began_at + self._now - self._began

    def datetime(self) -> datetime.datetime:
        """The time of day under this clock, in UTC."""
        return datetime.datetime.fromtimestamp(self.time(), datetime.UTC)

    # Moving it ------------------------------------------------------------------------------------------------

    async def advance(self, seconds: float) -> None:
        """Move the clock, and let happen what is due until then, each at its time and in order.

        It returns when nothing more happens in this event loop and in the threads that work for it. It does not wait
        for the network.
        """
        goal = self._goal(seconds)
        await self._settle()
        while (when := self._next()) <= goal:
            self._now = when
            self._fire()
            await self._settle()
        self._now = goal
        await self._settle()

    def skip(self, seconds: float) -> None:
        """Move the clock at once, for code without an event loop. What is due happens when the loops run again."""
        self._now = self._goal(seconds)
        self._fire()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine under the clock, in a task: a loop of one's own that ticks, a view that waits."""

        async def hosted() -> T:
            self.host()
            return await work

        return asyncio.get_running_loop().create_task(hosted())

    def _goal(self, seconds: float) -> float:
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a clock moves forward, not by {seconds!r} seconds")
        return self._now + seconds + A_LITTLE

    def _next(self) -> float:
        with self._lock:
            while self._timers and self._timers[0][2].cancelled():
                heapq.heappop(self._timers)
            return self._timers[0][0] if self._timers else math.inf

    def _fire(self) -> None:
        """Hand the timers that are due to their loops."""
        while self._next() <= self._now:
            with self._lock:
                _, _, timer = heapq.heappop(self._timers)
            timer.ring()

    async def _settle(self) -> None:
        loop = self._adopt(asyncio.get_running_loop())
        passes = quiet = 0
        while quiet < SETTLED and passes < PATIENCE:
            passes += 1
            calls = loop.calls
            await asyncio.sleep(0 if not loop.in_threads else 0.001)
            is_quiet = loop.calls <= calls + 1 and not loop.in_threads  # one call is this task's own
            quiet = quiet + 1 if is_quiet else 0

    # Who goes by it (`TimeSource`) ----------------------------------------------------------------------------

    def call_later(
        self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[..., object], *arguments: Any
    ) -> asyncio.TimerHandle:
        """Call a function in an event loop, when the clock has moved so far."""
        return self.call_at(loop, self._now + max(0.0, seconds), callback, arguments, None)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved so far."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = self.call_later(loop, seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    def host(self) -> None:
        """The running task belongs to an application: it goes by the clock from here on, with all that it starts."""
        self._adopt(asyncio.get_running_loop())
        applications.set(self)

    def call_at(
        self,
        loop: asyncio.AbstractEventLoop,
        when: float,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        context: Context | None,
    ) -> asyncio.TimerHandle:
        """Set a timer. For the event loops that were adopted."""
        timer = _Timer(when, callback, arguments, loop, context or copy_context())
        if when <= self._now:
            timer.ring()
        else:
            with self._lock:
                heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> _Loop:
        adopted = self._loops.get(loop)
        if adopted is None:
            adopted = self._loops[loop] = _Loop(loop, self)
        return adopted


class _Timer(asyncio.TimerHandle):
    """A timer of an event loop that knows nothing of it."""

    __slots__ = ("_home", "_own_context", "_work")

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context,
    ) -> None:
        super().__init__(when, callback, arguments, loop, context)
        self._work: tuple[Callable[..., object], tuple[Any, ...]] | None = callback, arguments
        self._home = loop
        self._own_context = context

    def cancel(self) -> None:
        self._work = None
        asyncio.Handle.cancel(self)  # that of a `TimerHandle` tells the loop

    def ring(self) -> None:
        """It is time."""
        with suppress(RuntimeError):  # the loop is closed
            self._home.call_soon_threadsafe(self._run_it, context=self._own_context)

    def leave_to_loop(self, seconds: float) -> None:
        """The clock is in force no longer: ring when the loop says so."""

        def set_timer() -> None:
            self._home.call_later(max(0.0, seconds), self._run_it, context=self._own_context)

        if not self.cancelled():
            with suppress(RuntimeError):
                self._home.call_soon_threadsafe(set_timer)

    def _run_it(self) -> None:
        if self._work is not None:
            callback, arguments = self._work
            callback(*arguments)


class _Loop:
    """An event loop whose timers go by the clock in applications, and which counts what happens in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: VirtualClock) -> None:
        self.calls = 0
        self.in_threads = 0
        self._loop = loop
        self._clock = clock
        self._time = loop.time
        self._call_at = loop.call_at
        self._call_later = loop.call_later
        self._call_soon = loop.call_soon
        self._call_soon_threadsafe = loop.call_soon_threadsafe
        self._run_in_executor = loop.run_in_executor
        for name in _REPLACED:
            setattr(loop, name, getattr(self, name))

    def restore(self) -> None:
        for name in _REPLACED:
            self._loop.__dict__.pop(name, None)

    def time(self) -> float:
        return self._clock.monotonic() if self._is_hosted() else self._time()

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if self._is_hosted():
            return self._clock.call_at(self._loop, when, callback, args, context)
        return self._call_at(when, callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if self._is_hosted():
            return self._clock.call_at(self._loop, self._clock.monotonic() + max(0.0, delay), callback, args, context)
        return self._call_later(delay, callback, *args, context=context)

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        self.calls += 1
        return self._call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self.calls += 1
        return self._call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        self.in_threads += 1
        future = self._run_in_executor(executor, func, *args)
        future.add_done_callback(self._has_run)
        return future

    def _has_run(self, future: asyncio.Future[Any]) -> None:
        self.in_threads -= 1

    def _is_hosted(self) -> bool:
        return applications.get() is self._clock


_REPLACED = ("time", "call_at", "call_later", "call_soon", "call_soon_threadsafe", "run_in_executor")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
