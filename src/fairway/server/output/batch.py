"""Work that one event loop puts off: sockets with something to send, and consumers that are yet to be woken. So a pass
of the loop stays short, and a socket gets one write for several messages.

Whatever an outbox gets during a pass is written when the pass ends. There are two exceptions. If many sockets are
dirty, they are written at once, because the first would wait for the last. And if the last of the woken consumers has
nothing left to do (`parked`), nothing more will be sent in this pass, so everything is written then: a single echo is
not delayed.

A message for a large group makes many sockets dirty, or wakes many consumers, in one call. Its writes and wake-ups are
spread over several passes. Meanwhile the loop reads, and the answers of single consumers go out first. Messages that
are sent to the group in the meantime share the writes that are still to come.

A batch is idle, or it is *scheduled*. Then `_end_of_pass` is in the loop's queue, and schedules itself again while
there is anything left to write or to wake, or a woken consumer has not come back. So an idle loop costs nothing, and
nothing that was put off is forgotten: every method that adds something to an idle batch schedules it.

The outbox of an HTTP/2 stream is flushed into the outbox of its connection. So writing has two stages. The second stage
holds the outboxes of such connections, and writes each of them once, after the outboxes of the first stage.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from fairway.delivery import NEXT_PASS, WAKES_PER_PASS, Inbox, Passes, Sleeper
from fairway.server.output.fanout import Fanout
from fairway.server.output.scheduler import Flushable
from fairway.server.output.workshop import Workshop

# With this many dirty sockets, they are written without waiting for the end of the pass (bench/micro/batch.py).
MAX_DIRTY = 64

# How many sockets of a group are written in the first pass. Each later pass writes twice as many as the one before, up
# to `MOST_WRITES`: 1.5 ms, at 6 µs for each. So a message that comes a little later still shares most writes: with 4
# messages in flight there are 0.25 writes for each delivery, against 0.29 with 128 writes in each pass. And a long
# fanout needs few passes, each of which has a cost of its own.
FIRST_WRITES = 16
MOST_WRITES = 256

# The same while a request is under way: 0.4 ms. A page of Django takes a dozen passes.
WRITES_BESIDE_REQUESTS = 64

# How many consumers are told in one pass that their client has left: 1.5 ms, at 100 µs for the end of each. And while a
# request is under way.
ENDINGS_PER_PASS = 16
ENDINGS_BESIDE_REQUESTS = 4

# How many bytes of long messages are handled in one pass: a millisecond, at 10 µs for a KiB of JSON. A step with a
# longer message, such as decoding a megabyte in five milliseconds, is the only one of its pass.
LONG_PER_PASS = 1 << 17

# After such a step, others have the loop for themselves before the next long one: for so many seconds for each byte,
# 4 ms for a megabyte, about as long as the step has taken. Whoever needs several passes, such as a view that goes to a
# thread and back a few times, would otherwise wait for a long message in each of them. A shorter rest than that is
# none.
LONG_REST = 4e-9
SHORTEST_REST = 0.00125

# While a request is under way, it may need the loop a dozen times, for two or three milliseconds in all. So they pass
# between two steps with a long message, such as joining, decoding and encoding: so many seconds for each byte, 4 ms for
# a megabyte. A shorter rest than that is none.
STEP_REST = 4e-9
SHORTEST_STEP_REST = 0.001

# Behind a step that takes a whole pass, such as decoding a megabyte, what has arrived meanwhile goes first: it is read
# in one pass, handled in the next, and written in the third.
SHORT_ONES_FIRST = Passes(3)

# How many other consumers are woken in each pass, however many are woken by their clients. While a request is under
# way, no more than that.
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
        "_sleepers",
        "carriers",
        "fanout",
        "is_filling",
        "is_scheduled",
        "received",
        "streams",
        "workshop",
        "written",
    )

    is_filling: bool
    """Whether the outboxes of the first stage are being flushed, perhaps into those of the second stage."""

    is_scheduled: bool
    """Whether something will be written at the end of this pass. Read-only for others."""

    received: int
    """How many bytes the connections of the first stage have read. They count this themselves."""

    def __init__(self, loop: asyncio.AbstractEventLoop, has_requests: Callable[[], bool] = lambda: False) -> None:
        """`has_requests` says whether a request is under way for which others should make room."""
        self._loop = loop
        self._dirty: list[Flushable] = []
        self.fanout = Fanout(loop, self.schedule)
        self.fanout.pace = FIRST_WRITES
        self.workshop = Workshop(loop)
        self.carriers = SecondStage(self)
        self.streams = StreamStage(self)
        self._sleepers: deque[Inbox] = deque()
        self._leavers = _Turns(ENDINGS_PER_PASS, ENDINGS_BESIDE_REQUESTS, 0.0, has_requests)
        self._long = _Turns(LONG_PER_PASS, LONG_PER_PASS, LONG_REST, has_requests)
        self.is_scheduled = self.is_filling = False
        self.received = self.written = 0
        # How many consumers were woken and have not parked yet: since the last end of a pass, and before it. `parked`
        # does not say which consumer it is, so the older ones are assumed to park first.
        self._awake = 0
        self._late = 0

    @property
    def is_asked(self) -> bool:
        """Whether a request is under way for which others should make room."""
        return self._long.has_requests()

    def add(self, outbox: Flushable) -> None:
        """Remember an outbox that has become dirty."""
        dirty = self._dirty
        dirty.append(outbox)
        if not self.is_scheduled:
            self._schedule()
        elif len(dirty) >= MAX_DIRTY:
            # Flushing in between is harmless: an outbox that is appended to again is added again.
            self._flush_first()

    def woken(self) -> None:
        self._awake += 1
        if not self.is_scheduled:
            self._schedule()

    def may_wake(self) -> bool:
        # Not before those that have waited longer: late consumers would always be woken first.
        return self._awake < WAKES_PER_PASS and not self._sleepers

    def wake_later(self, inbox: Inbox) -> None:
        # No `schedule`: `may_wake` was false, so others are awake or waiting, and the batch is scheduled already.
        self._sleepers.append(inbox)

    def wake_to_end(self, sleeper: Sleeper) -> None:
        self._leavers.add(sleeper)
        self.schedule()

    def may_take_long(self, size: int) -> bool:
        self.schedule()
        return self._long.take(size)

    def wake_for_long(self, sleeper: Sleeper, size: int) -> None:
        rest = self._long.step_rest(size)
        if rest:
            self._loop.call_later(rest, self._wake_rested, sleeper, size)
        else:
            self._wake_rested(sleeper, size)

    def _wake_rested(self, sleeper: Sleeper, size: int) -> None:
        self._long.add(sleeper, size)
        self.schedule()

    def rest(self, size: int) -> Awaitable[None]:
        if not (self._long.is_contended or self._long.step_rest(size)):
            return NEXT_PASS if size < LONG_PER_PASS else SHORT_ONES_FIRST
        step = _Step(self._loop.create_future(), self._long)
        self.wake_for_long(step, size)
        return step.turn

    def parked(self) -> None:
        """A consumer has nothing left to do. If it was the last one awake, flush all single sockets."""
        if self._late:
            self._late -= 1
        elif self._awake:
            self._awake -= 1
        # Not the fanout: it keeps its own pace, or this consumer would have to wait for the writes of a whole group.
        if not (self._late or self._awake):
            if self._dirty:
                self._flush_first()
            if self.carriers.dirty:
                self.carriers.flush()

    def schedule(self) -> None:
        """Flush at the end of this pass."""
        if not self.is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self.is_scheduled = True
        self._loop.call_soon(self._end_of_pass)

    def _end_of_pass(self) -> None:
        # The first consumer that was woken scheduled this call, which runs after it. If it was the only one, it has
        # parked by now, and no further pass is needed. Otherwise this is called again in the next pass, after all of
        # them have run. A consumer that has not parked by then waits for something other than its inbox, and does not
        # count any more.
        self._late = self._awake
        self._awake = 0
        # Wake first, then write. The woken consumers run after both, so their answers share the next flush.
        sleepers = self._sleepers
        if sleepers:
            _wake(sleepers, FEWEST_WAKES if self.is_asked else max(WAKES_PER_PASS - self._late, FEWEST_WAKES))
        endings, long = self._leavers.next_pass(), self._long.next_pass()
        if self._long.rest:
            self._loop.call_later(self._long.rest, self._end_rest)
            self._long.rest = 0.0
        self.flush()
        left = self._dirty or self.carriers.dirty or self.fanout.is_busy
        if left or self._late or self._awake or sleepers or endings or long:
            self._loop.call_soon(self._end_of_pass)
        else:
            self.is_scheduled = False

    def _end_rest(self) -> None:
        self._long.is_resting = False
        self.schedule()

    def flush(self) -> None:
        """Write everything for single sockets, and a part of the fanout."""
        if self._dirty:
            self._flush_first()
        fanout = self.fanout
        if fanout.is_busy:
            # A burst begins with few writes, so that a small group does not delay the others in its first pass.
            pace = fanout.pace
            if pace > WRITES_BESIDE_REQUESTS and self.is_asked:
                pace = WRITES_BESIDE_REQUESTS
            fanout.write(pace)
            fanout.pace = min(2 * pace, MOST_WRITES) if fanout.is_busy else FIRST_WRITES
        if self.carriers.dirty:
            self.carriers.flush()

    def flush_dirty(self) -> None:
        """Write everything for single sockets."""
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


class StreamStage:
    """The scheduler of outboxes of streams. They belong to the first stage, but their bytes are those of connections in
    the second, and are counted there. (`fairway.server.output.scheduler.Scheduler`)
    """

    __slots__ = ("_batch", "carriers", "fanout", "received", "workshop", "written")

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.fanout = batch.fanout
        self.workshop = batch.workshop
        self.carriers = batch.carriers
        self.received = self.written = 0  # nobody looks at these

    def add(self, outbox: Flushable) -> None:
        """Remember an outbox that has become dirty."""
        self._batch.add(outbox)

    def flush_alone(self, outbox: Flushable) -> None:
        """Write this outbox now if it is the only dirty one."""
        self._batch.flush_alone(outbox)


class SecondStage:
    """The scheduler of outboxes into which others are flushed. (`fairway.server.output.scheduler.Scheduler`)"""

    __slots__ = ("_batch", "carriers", "dirty", "fanout", "received", "workshop", "written")

    dirty: list[Flushable]
    """Read-only for others."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.fanout = batch.fanout
        self.workshop = batch.workshop
        self.carriers = self
        self.dirty = []
        self.received = self.written = 0

    def add(self, outbox: Flushable) -> None:
        """Remember an outbox that has become dirty."""
        dirty, batch = self.dirty, self._batch
        dirty.append(outbox)
        if not batch.is_scheduled:
            batch.schedule()
        elif len(dirty) >= MAX_DIRTY and not batch.is_filling:
            batch.flush_dirty()

    def flush(self) -> None:
        """Flush all dirty outboxes."""
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


class _Step:
    """A consumer's wait for its next step with a long message. (`fairway.delivery.Sleeper`)

    Until then no other message begins: each holds several times its size between its steps, and what one leaves behind
    is still warm for the next.
    """

    __slots__ = ("_turns", "turn")

    def __init__(self, turn: asyncio.Future[None], turns: _Turns) -> None:
        self.turn = turn
        self._turns = turns
        turns.begun += 1

    def wake(self) -> None:
        self._turns.begun -= 1
        if not self.turn.done():
            self.turn.set_result(None)


class _Turns:
    """Sleepers with weights. Each pass wakes some, until their weights reach `most`, or `beside` while a request is
    under way. The last one may exceed it.

    While others wait, or a request is under way, a heavy pass is followed by a rest: `resting` seconds for each unit of
    its weight.
    """

    __slots__ = (
        "_beside",
        "_most",
        "_resting",
        "_waiting",
        "_weight",
        "begun",
        "has_requests",
        "is_resting",
        "rest",
    )

    begun: int
    """How many wait for their next step, and go before those that have not begun."""

    rest: float
    """Seconds of the rest that `next_pass` has begun; 0 if it has not. The batch ends it, and sets both back."""

    is_resting: bool
    """Whether nobody has a turn now."""

    def __init__(self, most: int, beside: int, resting: float, has_requests: Callable[[], bool]) -> None:
        self._most = most
        self._beside = beside
        self.has_requests = has_requests
        self._resting = resting
        self._waiting: deque[tuple[Sleeper, int]] = deque()
        self._weight = self.begun = 0
        self.rest = 0.0
        self.is_resting = False

    def _has_room(self) -> bool:
        """Whether the weight of this pass may grow."""
        return self._weight < self._beside or (self._weight < self._most and not self.has_requests())

    @property
    def is_contended(self) -> bool:
        """Whether somebody waits for a turn, or nobody has one."""
        return bool(self._waiting) or self.is_resting

    def step_rest(self, weight: int) -> float:
        """Seconds that others need before or after a step with so much. 0 for none."""
        rest = weight * STEP_REST
        return rest if rest >= SHORTEST_STEP_REST and self.has_requests() else 0.0

    def take(self, weight: int) -> bool:
        """Take a turn in this pass, for a consumer that is awake. False if none is left, or if others wait for one."""
        if self._waiting or self.begun:
            return False
        return self._take(weight)

    def _take(self, weight: int) -> bool:
        if self.is_resting or not self._has_room():
            return False
        self._weight += weight
        return True

    def add(self, sleeper: Sleeper, weight: int = 1) -> None:
        """Wake the sleeper now if there is a turn left, otherwise in a later pass."""
        if type(sleeper) is _Step:
            if self._take(weight):
                sleeper.wake()
            else:
                self._waiting.appendleft((sleeper, weight))
        elif self.take(weight):
            sleeper.wake()
        else:
            self._waiting.append((sleeper, weight))

    def next_pass(self) -> bool:
        """Begin a pass: wake those whose turn it is. True if there were any."""
        if self.is_resting:
            return False
        rest = self._weight * self._resting
        self._weight = 0
        if rest >= SHORTEST_REST and (self._waiting or self.has_requests()):
            self.rest = rest
            self.is_resting = True
            return False
        while self._waiting and self._has_room():
            if self.begun and type(self._waiting[0][0]) is not _Step:
                break
            sleeper, weight = self._waiting.popleft()
            self._weight += weight
            sleeper.wake()
        return self._weight > 0


def _wake(sleepers: deque[Any], most: int) -> int:
    """Wake up to `most` sleepers, and return how many."""
    count = min(len(sleepers), most)
    for _ in range(count):
        sleepers.popleft().wake()
    return count
