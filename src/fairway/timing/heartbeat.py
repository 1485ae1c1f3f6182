"""Writes to a stream that has been silent for some time, so that no proxy or client takes it for dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Heartbeat:
    """Runs `beat` whenever nothing has been written for `seconds`. Belongs to the event loop in which it is made.

    A new heartbeat runs at once. Either its timer is armed, or `beat` runs in a task, after which the timer is armed
    again. `stop` lets no further beat begin, and may also be called by `beat` itself. `end` also cancels a beat that
    runs, and must be the last call. A writer uses the heartbeat as a context manager while it writes:

        with heartbeat:
            await write(...)

    Writes are frequent, so they do not move the timer. When it fires, the heartbeat checks how long the stream has been
    silent. While a write is in progress, no beat begins: a client that has not read the last event needs no more bytes.
    """

    __slots__ = ("_beat", "_loop", "_seconds", "_task", "_timer", "_writers", "_written_at")

    def __init__(self, seconds: float, beat: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        # None once the heartbeat is stopped, which breaks the reference cycle with the owner of `beat`.
        self._beat: Callable[[], Coroutine[Any, Any, None]] | None = beat
        self._task: asyncio.Task[None] | None = None
        self._writers = 0
        self._written_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._arm(seconds)

    @property
    def is_over(self) -> bool:
        """Whether the heartbeat is stopped and no beat runs."""
        return self._beat is None and self._task is None

    def __enter__(self) -> None:
        self._writers += 1

    def __exit__(self, *error: object) -> None:
        self._writers -= 1
        self._written_at = self._loop.time()

    def stop(self) -> None:
        """Let no further beat begin."""
        self._beat = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    async def end(self) -> None:
        """Stop, cancel a beat that runs, and wait until it has ended. `beat` itself must not call this."""
        self.stop()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def _arm(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        left = self._written_at + self._seconds - self._loop.time()
        if self._writers:
            self._arm(self._seconds)
        elif left > 0:
            self._arm(left)
        elif self._beat is not None:
            self._timer = None
            self._task = self._loop.create_task(self._run(self._beat))

    async def _run(self, beat: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await beat()
        self._task = None
        if self._beat is not None:
            self._arm(self._seconds)
