"""Names whoever keeps the event loop from turning: an application that computes, sleeps or waits in it holds up
everybody.

A timer of the loop is its pulse. A thread looks whether it beats; when it has not for `stall_warning` seconds, one
warning has the stack of the loop's thread, and what is served; when it beats again, a line says how long it took.

`Pulse` is pure and decides, `watching` measures and writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from fairway import running, whereabouts
from fairway.logs import get_logger
from fairway.server.context import ServerContext

logger = get_logger("fairway.server")

_LONGEST_INTERVAL = 60.0

_JOIN_SECONDS = 0.5
"""Seconds that a server, at its end, waits for the thread to write its last line."""


class Blocked(NamedTuple):
    """The loop has not turned for this many seconds."""

    seconds: float


class Freed(NamedTuple):
    """The loop turns again, after this many seconds."""

    seconds: float


class Pulse:
    """Of one loop. `beat` is called in it every `interval` seconds, `check` as often in one other thread.

    Times are seconds of one monotonic clock; `cpu` is what the process has used of the processor.
    """

    def __init__(self, limit: float, now: float, cpu: float) -> None:
        self.interval = min(limit / 4, _LONGEST_INTERVAL)
        self._limit = limit
        self._beat = self._checked = self._counted_from = now
        self._cpu = cpu
        # The thread sets the first, the loop then the second, and the thread takes both back in this order.
        self._blocked_since: float | None = None
        self._freed_at: float | None = None

    def beat(self, now: float) -> None:
        """The loop turns."""
        self._beat = now
        if self._blocked_since is not None and self._freed_at is None:
            self._freed_at = now

    def check(self, now: float, cpu: float) -> Blocked | Freed | None:
        """Return what there is to report: each event once for a stall."""
        gap, used = now - self._checked, cpu - self._cpu
        self._checked, self._cpu = now, cpu
        if gap > 2 * self.interval and used < self.interval + gap / 10:
            # Nobody ran, not even this thread: the process was stopped, sooner or later in an interval. A call that
            # kept the interpreter to itself, the other reason to be late, has used the processor, or its share of it.
            self._counted_from = now
        if self._blocked_since is not None:
            return self._freed(self._blocked_since)
        since = max(self._beat, self._counted_from)
        if now - since < self._limit:
            return None
        self._blocked_since = since
        return Blocked(now - since)

    def _freed(self, since: float) -> Freed | None:
        if self._freed_at is None:
            return None
        seconds = self._freed_at - since
        self._blocked_since = None
        self._freed_at = None
        return Freed(seconds)


@contextlib.contextmanager
def watching(context: ServerContext) -> Iterator[None]:
    """Watch the running loop, which is the context's, inside the block; not at all if `stall_warning` is 0 or infinite.

    A process that is forked inside it is not watched.
    """
    if not 0 < context.limits.stall_warning < math.inf:
        yield
        return
    watchdog = _Watchdog(context)
    try:
        yield
    finally:
        watchdog.close()


class _Watchdog:
    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._process = os.getpid()
        self._loop_thread = threading.get_ident()
        self._pulse = Pulse(context.limits.stall_warning, time.monotonic(), time.process_time())
        self._beat()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fairway watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._timer.cancel()
        # The thread is not in a copy of the process, and may have held the event's lock when that was made.
        if os.getpid() == self._process:
            self._closed.set()
            self._thread.join(_JOIN_SECONDS)

    def _beat(self) -> None:
        self._pulse.beat(time.monotonic())
        self._timer = self._context.loop.call_later(self._pulse.interval, self._beat)

    def _watch(self) -> None:
        while not self._closed.wait(self._pulse.interval):
            self._check()
        self._check()

    def _check(self) -> None:
        match self._pulse.check(time.monotonic(), time.process_time()):
            case Blocked(seconds):
                self._warn(seconds)
            case Freed(seconds):
                logger.warning("the event loop turns again: it was blocked for %.1f s", seconds)

    def _warn(self, seconds: float) -> None:
        context = self._context
        # The stack goes last, because reading its sources lets the loop go on.
        task = asyncio.current_task(context.loop)
        serves = f", which serves {context.name_of(task)}" if task in context.tasks else ""
        place = whereabouts.of_thread(self._loop_thread)
        stack = whereabouts.stack_of_thread(self._loop_thread, outside=running.__file__)
        record = logger.makeRecord(
            logger.name,
            logging.WARNING,
            __file__,
            0,
            "the event loop has been blocked for %.1f s in %s%s: until it ends, nobody is served",
            (seconds, place, serves),
            None,
            sinfo=stack,
        )
        if logger.isEnabledFor(logging.WARNING):
            logger.handle(record)
