"""Reports code that blocks the event loop. An application that computes, sleeps or waits there holds up every client.

A timer of the loop is its pulse, and a thread watches it. If there has been no beat for `stall_warning` seconds, one
warning shows the stack of the loop's thread and what it serves. When the pulse beats again, another line says how long
the loop was blocked.

`Pulse` is pure and decides; `watching` measures and logs.
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
"""Seconds that a stopping server waits for the thread to write its last line."""


class Blocked(NamedTuple):
    """The loop has not turned for this many seconds."""

    seconds: float


class Freed(NamedTuple):
    """The loop turns again, after this many seconds."""

    seconds: float


class Pulse:
    """The pulse of one loop. The loop calls `beat` every `interval` seconds; one other thread calls `check` as often.

    Times are in seconds of one monotonic clock. `cpu` is the processor time that the process has used, in seconds.
    """

    def __init__(self, limit: float, now: float, cpu: float) -> None:
        self.interval = min(limit / 4, _LONGEST_INTERVAL)
        self._limit = limit
        self._beat = self._checked = self._counted_from = now
        self._cpu = cpu
        # The thread sets the first; then the loop sets the second; then the thread clears both, in this order.
        self._blocked_since: float | None = None
        self._freed_at: float | None = None

    def beat(self, now: float) -> None:
        """The loop has turned."""
        self._beat = now
        if self._blocked_since is not None and self._freed_at is None:
            self._freed_at = now

    def check(self, now: float, cpu: float) -> Blocked | Freed | None:
        """Return what there is to report. For one stall, each event comes once."""
        gap, used = now - self._checked, cpu - self._cpu
        self._checked, self._cpu = now, cpu
        if gap > 2 * self.interval and used < self.interval + gap / 10:
            # This thread is late too. Either a call held the interpreter, but that would have used the processor; or,
            # as here, the whole process was stopped for a while. Nobody is to blame for that, so start counting anew.
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
    """Inside the block, watch the running loop, which is the context's. No watch if `stall_warning` is 0 or infinite.

    A process forked inside the block is not watched.
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
        # A forked child does not have the thread, which may have held the event's lock during the fork.
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
        # Take the stack last: reading its source lines takes time, in which the loop may go on.
        task = asyncio.current_task(context.loop)
        serves = f", which serves {context.name_of(task)}" if task in context.tasks else ""
        place = whereabouts.of_thread(self._loop_thread)
        stack = whereabouts.stack_of_thread(self._loop_thread, outside=running.__file__)
        record = logger.makeRecord(
            logger.name,
            logging.WARNING,
            __file__,
            0,
            "the event loop has been blocked for %.1f s in %s%s: nobody is served until it turns again",
            (seconds, place, serves),
            None,
            sinfo=stack,
        )
        if logger.isEnabledFor(logging.WARNING):
            logger.handle(record)
