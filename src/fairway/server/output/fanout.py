"""Broadcasts of one event loop: decides for each message to many recipients how it gets to their sockets.

* *Sweep.* Most members of a large group get a message from a sweep (`fairway.server.output.sweep`), which writes to
  their sockets directly. If a socket cannot be written to directly, the sweep uses its outbox.
* *Outboxes.* A message goes into all outboxes if a sweep would not pay or cannot be used: for few recipients, for long
  messages, for messages that may be dropped on their way, and while a sweep to other recipients is under way.
* *Consumers.* A recipient whose consumer is busy, or which is not open, gets nothing here. `broadcast` returns the
  indices of these, and the caller delivers to their consumers.

No message overtakes another. Before anything is appended to an outbox, `bring_forward` appends what the sweep still
owes it; and a sweep never bypasses an outbox that holds something.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from fairway.delivery import Payload
from fairway.server.output.outbox import Outbox
from fairway.server.output.recipients import Recipient, Recipients, in_order
from fairway.server.output.scheduler import Flushable
from fairway.server.output.sweep import BYTES_PER_WRITE, Sweep

# For fewer a sweep is not worth setting up.
FEW = 32

# The most bytes under way. A socket gets them in one write, hence the size (`fairway.server.output.lanes.CHUNK_BYTES`).
# The objects beside the frames count too: for each message, and for each index that it leaves out.
UNDER_WAY_BYTES = 65536
MESSAGE_BYTES = 64
LEFT_OUT_BYTES = 16


class Fanout:
    """The broadcasts of one event loop. Call everything in that loop only. (`fairway.delivery.Fanout`)

    `wake` is called when `is_busy` becomes true. After that, `write` must be called in each pass while it is true.
    """

    __slots__ = ("_wake", "delivered", "indirect", "is_busy", "loop", "outboxes", "pace", "sweep", "written")

    delivered: int
    """How many times a broadcast has gone to a recipient without its consumer, summed over all broadcasts."""

    is_busy: bool
    """Whether there is something to write."""

    outboxes: deque[Flushable]
    """The outboxes that a broadcast has made dirty."""

    indirect: set[Outbox]
    """Outboxes that nothing may bypass even when they are empty: their sockets are full, or their connections close."""

    pace: int
    """How many sockets to write to in the next pass. It belongs to the batch."""

    sweep: Sweep | None
    """The sweep under way. There is at most one."""

    written: int
    """How many bytes sweeps have written past the outboxes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self.loop = loop
        self.delivered = self.written = 0
        self.is_busy = False
        self.indirect = set()
        self.sweep = None
        self.outboxes = deque()
        self._wake = wake

    # What is sent to many -------------------------------------------------------------------------------------

    def in_order(self, connections: Iterable[Recipient]) -> list[Recipient]:
        return in_order(connections)

    def recipients_of(self, connections: Sequence[Recipient]) -> Recipients:
        return Recipients(connections)

    def broadcast(self, recipients: Recipients, payload: Payload, without: Collection[int] = ()) -> list[int]:
        others = None
        if len(recipients.connections) >= FEW and not payload.is_droppable:
            others = self._sweep(recipients, payload, without)
        if others is None:
            others = self._append(recipients, payload, without)
        self.delivered += len(recipients.connections) - len(others) - len(without)
        return others

    def _sweep(self, recipients: Recipients, payload: Payload, without: Collection[int]) -> list[int] | None:
        """Give the payload to a sweep, and return the indices of recipients with busy consumers. None, and nothing is
        done, if that is not possible now.
        """
        longest = max([len(payload.form(encoder)) for _, encoder, _ in recipients.parts])
        others = [index for index, inbox in enumerate(recipients.inboxes) if not inbox.parked]
        if self.indirect:
            others += self._closing(recipients)
        left_out = {*others, *without}
        if len(recipients.connections) - len(left_out) < FEW:
            return None
        weight = longest + MESSAGE_BYTES + LEFT_OUT_BYTES * len(left_out)
        if not self.sweep_to(recipients, payload, weight, left_out):
            return None
        return [index for index in others if index not in without] if without else others

    def _closing(self, recipients: Recipients) -> list[int]:
        """The indices of recipients that are not open any more while their consumers wait. All of them are indirect."""
        connections = recipients.connections
        if len(self.indirect) > len(connections):
            return [index for index, one in enumerate(connections) if not one.is_open and one.inbox.parked]
        indices = [index for index in map(recipients.indices.get, self.indirect) if index is not None]
        return [index for index in indices if not connections[index].is_open and connections[index].inbox.parked]

    def sweep_to(self, recipients: Recipients, payload: Payload, weight: int, left_out: Collection[int]) -> bool:
        """Let a sweep write a payload to all recipients except those left out. False if that is not possible now: too
        much is under way, or a sweep to other recipients is.
        """
        sweep = self.sweep
        if weight + (sweep.weight if sweep is not None else 0) > UNDER_WAY_BYTES:
            return False
        if sweep is None:
            self._rouse()
            sweep = self.sweep = Sweep(recipients, self.indirect, self.outboxes)
        elif sweep.recipients is not recipients:
            return False
        sweep.add(payload, weight, left_out)
        return True

    def _append(self, recipients: Recipients, payload: Payload, without: Collection[int]) -> list[int]:
        """Put the payload into the outboxes. Return the indices of recipients that are not open or whose consumers are
        busy.
        """
        others: list[int] = []
        sweep = self.sweep
        swept: Collection[Outbox] = sweep.recipients.indices if sweep is not None else ()
        add = self.add
        begin = 0
        for end, encoder, _ in recipients.parts:
            frame = payload.form(encoder)
            size = len(frame)
            is_plain = not payload.is_droppable and size <= UNDER_WAY_BYTES
            for index, connection in enumerate(recipients.connections[begin:end], begin):
                outbox = connection.outbox
                if index in without:
                    pass
                elif not (connection.is_open and connection.inbox.parked):
                    others.append(index)
                elif is_plain and outbox.frames is None and outbox not in swept:
                    # A shorter form of `Outbox.append`, for speed: most members of small groups take this branch.
                    outbox.frames = frame
                    outbox.size = size
                    add(outbox)
                else:
                    connection.broadcast(payload)
            begin = end
        return others

    # For outboxes (`fairway.server.output.scheduler.Fanout`) --------------------------------------------------

    def add(self, outbox: Flushable) -> None:
        """Remember an outbox that has become dirty."""
        if not self.is_busy:
            self._rouse()
        self.outboxes.append(outbox)

    def bring_forward(self, outbox: Outbox) -> None:
        """Append to this outbox what the sweep still owes it, because something else is about to be appended."""
        sweep = self.sweep
        if sweep is not None:
            index = sweep.recipients.indices.get(outbox)
            if index is not None:
                sweep.bring_forward(index)

    # For the batch --------------------------------------------------------------------------------------------

    def _rouse(self) -> None:
        if not self.is_busy:
            self.is_busy = True
            self._wake()

    def write(self, count: int) -> None:
        """Write to about `count` sockets, or fewer if there is much for each.

        A quarter of them is for the sweep, however many outboxes wait.
        """
        outboxes = self.outboxes
        sweep = self.sweep
        most = count if sweep is None else count - count // 4
        cost = 0
        while outboxes and cost < most:
            outbox = outboxes.popleft()
            cost += 1 + outbox.size // BYTES_PER_WRITE
            outbox.flush()
        count -= min(cost, most)
        while sweep is not None and count > 0:
            count -= sweep.run(count)
            self.written += sweep.written
            sweep.written = 0
            if not sweep.under_way:
                sweep = self.sweep = None
        self.is_busy = self.sweep is not None or bool(outboxes)
