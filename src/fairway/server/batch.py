"""The outboxes of one event loop that have something to send: one write for each socket and pass of the loop.

What an outbox gets during a pass is written when the pass ends, so that several messages for one client cost one
system call. Two things do not wait for the end: a crowd of dirty sockets (their data would grow cold in the cache,
and the first of them wait for the last), and a socket that is the only dirty one when its consumer has nothing
left to do (`flush_alone`: coalescing must not cost a lone echo its latency).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairway.server.outbox import Outbox

# So many dirty sockets are written without waiting for the end of the pass: bench/micro/batch.py.
MAX_DIRTY = 64


class Batch:
    """Belongs to one loop; `add` and the flushes are called in that loop only."""

    __slots__ = ("_dirty", "_loop", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: list[Outbox] = []
        self._scheduled = False

    def add(self, outbox: Outbox) -> None:
        """Remember an outbox that has become dirty."""
        dirty = self._dirty
        dirty.append(outbox)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_of_pass)
        elif len(dirty) >= MAX_DIRTY:
            self.flush()

    def _end_of_pass(self) -> None:
        self._scheduled = False
        if self._dirty:
            self.flush()

    def flush(self) -> None:
        """Write everything now."""
        dirty = self._dirty
        self._dirty = []
        for outbox in dirty:
            outbox.flush()

    def flush_alone(self, outbox: Outbox) -> None:
        """Write this outbox now if it is the only dirty one."""
        dirty = self._dirty
        if len(dirty) == 1 and dirty[0] is outbox:
            dirty.clear()
            outbox.flush()
