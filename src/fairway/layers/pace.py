"""How fast messages for groups are delivered: to large groups in slices, and with no sender far ahead of the members.

A message for many thousands of members is delivered in slices, one in each pass of the event loop, so that everything
else gets its turn in between. Messages sent to the same group meanwhile, in the same loop, wait behind it: the messages
of a group keep their order. A sender that has delivered to more members than the loop can wake in one pass is asked to
wait.

All of this happens in the sender's event loop. A sender without a loop, in its own thread, is neither sliced nor held
back: the members of each event loop get a message of it in one call (`Parcels`).
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, get_running_loop
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain, islice

from fairway.delivery import WAKES_PER_PASS, Passes
from fairway.layers.channel_queue import finish
from fairway.layers.drops import Drops

SLICE = 4096
"""How many consumers get a message in one pass of the event loop: about 2 ms, at 0.5 µs each. The consequences, waking
and writing, are spread over further passes by the loop's `Waker` and by the server.
"""

AHEAD = 4096
"""How many deliveries may be made in one pass. A sender that makes more waits until the members have had their turn. A
group smaller than `LEAST` counts as `LEAST`, so that no sender uses up a member's capacity in one pass.
"""

LEAST = 64

NAMES = 256
"""For how many channels without a consumer a message is queued in one pass."""

Deliver = Callable[[int, int], int]
"""Delivers a message to the members from one index up to another. Returns how many had no room for it."""

Enqueue = Callable[[Sequence[str]], int]
"""Queues a message for channels without a consumer. Returns how many were full."""


class Pace:
    """Decides when the messages for one hub's groups are delivered. Reports channels that were full to `drops`."""

    __slots__ = ("_ahead", "_drops", "_rounds")

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        # The messages being delivered in slices, by group and by the event loop that delivers them.
        self._rounds: dict[tuple[str, AbstractEventLoop], deque[_Round]] = {}
        self._ahead = 0

    def needs_slices(self, group: str, loop: AbstractEventLoop | None, members: int, names: int) -> bool:
        """Whether a message for this many members and names, sent now, has to be delivered partly after the call."""
        if loop is None:
            return False
        return members > SLICE or names > NAMES or (bool(self._rounds) and (group, loop) in self._rounds)

    def delivered(
        self, group: str, loop: AbstractEventLoop | None, everybody: int, left_out: int
    ) -> Awaitable[None] | None:
        """Note that a message without slices was delivered. `left_out` of the `everybody` channels were full.

        `loop` is the running loop. Await the result, if there is one, before sending more.
        """
        if left_out:
            self._drops.left_out(group, left_out, everybody)
        return None if loop is None else self._turn_of_members(everybody, loop)

    def deliver_in_slices(
        self, group: str, members: int, names: Sequence[str], deliver: Deliver, enqueue: Enqueue
    ) -> Awaitable[None]:
        """Deliver a message to this number of members, and to the names without a member.

        Await the result before sending more. Cancelling the wait does not stop the delivery.
        """
        loop = get_running_loop()
        this = _Round(members, names, deliver, enqueue, loop.create_future())
        rounds = self._rounds.get((group, loop))
        if rounds is None:
            self._rounds[group, loop] = deque([this])
            self._next_slice(group, loop)
        else:
            rounds.append(this)
        return this.done

    def _next_slice(self, group: str, loop: AbstractEventLoop) -> None:
        rounds = self._rounds[group, loop]
        this = rounds[0]
        try:
            this.deliver_slice()
        finally:
            if this.remaining <= 0:
                rounds.popleft()
                if this.left_out:
                    self._drops.left_out(group, this.left_out, this.everybody)
                finish(this.done)
            if rounds:
                loop.call_soon(self._next_slice, group, loop)
            else:
                del self._rounds[group, loop]

    def _turn_of_members(self, count: int, loop: AbstractEventLoop) -> Awaitable[None] | None:
        """What a sender must await after a message for `count` channels, or None."""
        if not self._ahead and count > LEAST:
            loop.call_soon(self._forget_ahead)
        self._ahead += count if count > LEAST else LEAST
        if self._ahead <= AHEAD:
            return None
        self._ahead = 0
        return Passes(1 + count // WAKES_PER_PASS)

    def _forget_ahead(self) -> None:
        self._ahead = 0


class _Round:
    """One message on its way to the members and names that its group had when it was sent."""

    __slots__ = ("_slices", "done", "everybody", "left_out", "remaining")

    def __init__(
        self, members: int, names: Sequence[str], deliver: Deliver, enqueue: Enqueue, done: Future[None]
    ) -> None:
        attended, unattended = range(0, members, SLICE), range(0, len(names), NAMES)
        self._slices = chain(
            (partial(deliver, begin, begin + SLICE) for begin in attended),
            (partial(enqueue, names[begin : begin + NAMES]) for begin in unattended),
        )
        self.remaining = len(attended) + len(unattended)
        self.everybody = members + len(names)
        self.done = done
        self.left_out = 0

    def deliver_slice(self) -> None:
        self.remaining -= 1
        for deliver in islice(self._slices, 1):
            self.left_out += deliver()
