"""Work that one event loop puts off: sockets with something to send, and consumers that are yet to be woken. So a pass
of the loop stays short, and a socket gets one write for several messages.

Whatever an outbox gets during a pass is written when the pass ends. There are two exceptions. When many sockets are
dirty they are written at once, because the first would wait for the last. And when the last of the woken consumers has
nothing left to do (`parked`), nothing more will come in this pass, so everything is written then: coalescing does not
cost a lone echo its latency.

A message for a large group makes many sockets dirty, or wakes many consumers, in one call. Its writes and wake-ups are
spread over several passes. Meanwhile the loop reads, and the answers of single consumers go out first. Messages that
are sent to the group in the meantime share the writes that are still to come.

A batch is idle, or it is *scheduled*. Then `_end_of_pass` is in the loop's queue, and schedules itself again while
there is anything left to write or to wake, or a woken consumer has not come back. So an idle loop costs nothing, and
nothing that was put off can be forgotten: whoever adds something to an idle batch schedules it.

An outbox may be flushed into another one, which carries several. So writing has two stages. The second stage holds the
carrying outboxes, and writes each of them once, when all outboxes of the first stage have been flushed into it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from fairway.delivery import WAKES_PER_PASS, Inbox, Sleeper
from fairway.server.output.fanout import Fanout
from fairway.server.output.scheduler import Flushable

# So many dirty sockets are written without waiting for the end of the pass. Measured by bench/micro/batch.py.
MAX_DIRTY = 64

# Of the sockets of a group so many are written in one pass, twice as many in the next, and so on up to 1.5 ms, at 6 µs
# each. What comes a little later still shares the write of most: with 4 in flight 0.25 writes a delivery, against 0.29
# with 128 in each pass. And a long fanout is not cut into many passes, each of which has a cost of its own.
FIRST_WRITES = 16
MOST_WRITES = 256

# How many consumers hear in one pass that their client has left: 1.5 ms, at 100 µs for the end of one and its task.
ENDINGS_PER_PASS = 16

# How many bytes of long messages are handled in one pass: a millisecond, at 10 µs for a KiB of JSON. A message beyond
# this may take ten milliseconds, as a megabyte does; then it is the only one.
LONG_PER_PASS = 1 << 17

# How many other consumers are woken in each pass, however many are woken by their clients.
FEWEST_WAKES = WAKES_PER_PASS // 4


class Batch:
    """The batch of one event loop. Call everything in that loop only. (`fairway.delivery.Waker`; outboxes see a
    `fairway.server.output.scheduler.Scheduler`)
    """

    __slots__ = (
        "_awake",
        "_dirty",
        "_late",
        "_leavers",
        "_long",
        "_loop",
        "_scheduled",
        "_sleepers",
        "_writes",
        "carriers",
        "fanout",
        "is_filling",
    )

    is_filling: bool
    """Whether outboxes are being flushed that may be carried by others."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: list[Flushable] = []
        self.fanout = Fanout(loop, self.schedule)
        self.carriers = SecondStage(self)
        self._sleepers: deque[Inbox] = deque()
        self._leavers = _Turns(ENDINGS_PER_PASS)
        self._long = _Turns(LONG_PER_PASS)
        self._writes = FIRST_WRITES
        self._scheduled = self.is_filling = False
        # Consumers that were woken and are not back yet, as far as known: since the last end of a pass, and before. Two
        # numbers, because `parked` does not say whose turn it was: the older ones are taken to be back first.
        self._awake = 0
        self._late = 0

    def add(self, outbox: Flushable) -> None:
        """Remember an outbox that has become dirty."""
        dirty = self._dirty
        dirty.append(outbox)
        if not self._scheduled:
            self._schedule()
        elif len(dirty) >= MAX_DIRTY:
            # Nobody is told that the batch was flushed in between: an outbox that is appended to again is dirty again.
            self._flush_first()

    def woken(self) -> None:
        self._awake += 1
        if not self._scheduled:
            self._schedule()

    def may_wake(self) -> bool:
        # Not before those that have waited longer, or who comes late would always be woken first.
        return self._awake < WAKES_PER_PASS and not self._sleepers

    def wake_later(self, inbox: Inbox) -> None:
        # Needs no `schedule`: this is called only while others are awake, or asleep already, so the batch is scheduled.
        self._sleepers.append(inbox)

    def wake_to_end(self, sleeper: Sleeper) -> None:
        self._leavers.add(sleeper)
        self.schedule()

    def may_take_long(self, size: int) -> bool:
        self.schedule()
        return self._long.take(size)

    def wake_for_long(self, sleeper: Sleeper, size: int) -> None:
        self._long.add(sleeper, size)
        self.schedule()

    def parked(self) -> None:
        """A consumer has nothing left to do: if it was the last of those awake, write what there is."""
        if self._late:
            self._late -= 1
        elif self._awake:
            self._awake -= 1
        # Only single sockets: what waits for a whole group keeps its own pace, or one consumer would pay for all.
        if not (self._late or self._awake):
            if self._dirty:
                self._flush_first()
            if self.carriers.dirty:
                self.carriers.flush()

    def schedule(self) -> None:
        """Flush at the end of this pass."""
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._end_of_pass)

    def _end_of_pass(self) -> None:
        # It was scheduled by the first consumer that was woken, behind it: if that one was alone, nobody is awake any
        # more, and the loop need not make another pass. Else it is called again at the beginning of the next, when all
        # those have had their turn: who is late then waits for something else than its inbox, and is not waited for.
        self._late = self._awake
        self._awake = 0
        # Waking comes before writing, and what is woken runs after both: its answers share the next flush, and not
        # this.
        sleepers = self._sleepers
        if sleepers:
            _wake(sleepers, max(WAKES_PER_PASS - self._late, FEWEST_WAKES))
        endings, long = self._leavers.next_pass(), self._long.next_pass()
        self.flush()
        left = self._dirty or self.carriers.dirty or self.fanout.is_busy
        if left or self._late or self._awake or sleepers or endings or long:
            self._loop.call_soon(self._end_of_pass)
        else:
            self._scheduled = False

    def flush(self) -> None:
        """Write what waits for single sockets, and a part of what waits for a fanout."""
        if self._dirty:
            self._flush_first()
        fanout = self.fanout
        if fanout.is_busy:
            # A burst begins with few writes, so that a small group does not delay the others in its first pass.
            fanout.write(self._writes)
            self._writes = min(2 * self._writes, MOST_WRITES) if fanout.is_busy else FIRST_WRITES
        if self.carriers.dirty:
            self.carriers.flush()

    def flush_dirty(self) -> None:
        """Write what waits for single sockets."""
        if self._dirty:
            self._flush_first()
        if self.carriers.dirty:
            self.carriers.flush()

    def _flush_first(self) -> None:
        # A new list first: flushing may wake senders, which append to outboxes again.
        dirty = self._dirty
        self._dirty = []
        self.is_filling = True
        for outbox in dirty:
            outbox.flush()
        self.is_filling = False

    def flush_alone(self, outbox: Flushable) -> None:
        """Write this outbox now if it is the only dirty one."""
        dirty = self._dirty
        carriers = self.carriers
        if len(dirty) == 1 and dirty[0] is outbox and not carriers.dirty:
            dirty.clear()
            outbox.flush()
            if carriers.dirty:
                carriers.flush()

    @property
    def is_clean(self) -> bool:
        """Whether no outbox of the first stage is dirty."""
        return not self._dirty


class SecondStage:
    """A batch as outboxes see it that carry others. (`fairway.server.output.scheduler.Scheduler`)"""

    __slots__ = ("_batch", "carriers", "dirty", "fanout")

    dirty: list[Flushable]
    """To be looked at only."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.fanout = batch.fanout
        self.carriers = self
        self.dirty = []

    def add(self, outbox: Flushable) -> None:
        """Remember an outbox that has become dirty."""
        self.dirty.append(outbox)
        if len(self.dirty) >= MAX_DIRTY and not self._batch.is_filling:
            self._batch.flush_dirty()
        else:
            self._batch.schedule()

    def flush(self) -> None:
        """Write them all."""
        dirty = self.dirty
        self.dirty = []
        for outbox in dirty:
            outbox.flush()

    def flush_alone(self, outbox: Flushable) -> None:
        """Write this outbox now if it is the only dirty one."""
        dirty = self.dirty
        if len(dirty) == 1 and dirty[0] is outbox and self._batch.is_clean:
            dirty.clear()
            outbox.flush()


class _Turns:
    """Sleepers that are woken until their weights have come to so much in a pass. One may weigh more than that."""

    __slots__ = ("_most", "_waiting", "_weight")

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[tuple[Sleeper, int]] = deque()
        self._weight = 0

    def take(self, weight: int) -> bool:
        """Whether there is a turn left in this pass for one that is awake."""
        if self._weight >= self._most or self._waiting:
            return False
        self._weight += weight
        return True

    def add(self, sleeper: Sleeper, weight: int = 1) -> None:
        """Wake it now, or in its turn."""
        if self.take(weight):
            sleeper.wake()
        else:
            self._waiting.append((sleeper, weight))

    def next_pass(self) -> bool:
        """Wake those whose turn it is; whether there were any."""
        self._weight = 0
        while self._waiting and self._weight < self._most:
            sleeper, weight = self._waiting.popleft()
            self._weight += weight
            sleeper.wake()
        return self._weight > 0


def _wake(sleepers: deque[Any], most: int) -> int:
    """Wake some; how many."""
    count = min(len(sleepers), most)
    for _ in range(count):
        sleepers.popleft().wake()
    return count
