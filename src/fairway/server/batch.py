"""The outboxes of one event loop that have something to send: one write for each socket and pass of the loop.

What an outbox gets during a pass is written when the pass ends, so that several messages for one client cost one
system call. Two things do not wait for the end. A crowd of dirty sockets is written at once: its first would wait for
its last. And when the last of the consumers that were woken has nothing left to do (`parked`), no more will come in
this pass: so coalescing does not cost a lone echo its latency. Writing in crowds is cheaper than writing one by one,
because the kernel's code stays in the cache: bench/micro/batch.py.
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

    __slots__ = ("_dirty", "_loop", "_scheduled", "awake")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: list[Outbox] = []
        self._scheduled = False
        self.awake = 0  # consumers woken and not back yet, as far as known (`fairway.delivery.Tally`)

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
        # Who is still awake waits for something else than its inbox, and is not waited for.
        self.awake = 0
        if self._dirty:
            self.flush()

    def flush(self) -> None:
        """Write everything now."""
        dirty = self._dirty
        self._dirty = []
        for outbox in dirty:
            outbox.flush()

    def parked(self) -> None:
        """A consumer has nothing left to do: if it was the last of those awake, write everything now."""
        awake = self.awake - 1
        if awake > 0:
            self.awake = awake
            return
        self.awake = 0
        if self._dirty:
            self.flush()

    def flush_alone(self, outbox: Outbox) -> None:
        """Write this outbox now if it is the only dirty one."""
        dirty = self._dirty
        if len(dirty) == 1 and dirty[0] is outbox:
            dirty.clear()
            outbox.flush()
