"""The sockets of one event loop that are sent to together: what is decided for each message that many are to get.

A message for `Recipients` is not put into every outbox. Most members of a large group get it from a sweep
(`fairway.server.output.sweep`), which writes to their sockets directly. A message goes into the outbox of a connection
whose socket cannot be written to directly, and into all outboxes where a sweep would not pay: for a few recipients, for
long messages, for messages that may be dropped on their way, and while the sweep of other recipients is under way.

Nothing overtakes: whatever is appended to an outbox is preceded by what the sweep would have brought to its socket
later (`bring_forward`), and the sweep bypasses no outbox that holds something.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from fairway.delivery import Payload
from fairway.server.output.outbox import Outbox
from fairway.server.output.recipients import Recipient, Recipients, in_order
from fairway.server.output.scheduler import Flushable
from fairway.server.output.sweep import Sweep

# For fewer a sweep is not worth setting up.
FEW = 32

# At most so many bytes are under way: a socket is given them in one piece (`fairway.server.output.lanes.CHUNK_BYTES`).
# What is kept beside the frames counts too: for each message, and for each index that it leaves out.
UNDER_WAY_BYTES = 65536
MESSAGE_BYTES = 64
LEFT_OUT_BYTES = 16


class Fanout:
    """Belongs to one loop; everything is called in that loop only. (`fairway.delivery.Fanout`)

    `wake` is called when there will be something to write, and nothing was.
    """

    __slots__ = ("_wake", "delivered", "indirect", "is_busy", "loop", "outboxes", "sweep")

    delivered: int
    """How many recipients messages for many have gone straight to, one by one and over all messages."""

    is_busy: bool
    """Whether something is to be written: `write` is to be called."""

    outboxes: deque[Flushable]
    """Those that a broadcast has made dirty."""

    indirect: set[Outbox]
    """Outboxes that nothing may bypass even when they are empty: their connections are blocked, or closing."""

    sweep: Sweep | None
    """The one that is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self.loop = loop
        self.delivered = 0
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
        """Have it brought by a sweep; None, and nothing done, if that is not possible now."""
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
        """Those whose consumers wait, but which are not open any more: they are among the indirect ones."""
        connections = recipients.connections
        if len(self.indirect) > len(connections):
            return [index for index, one in enumerate(connections) if not one.is_open and one.inbox.parked]
        indices = [index for index in map(recipients.indices.get, self.indirect) if index is not None]
        return [index for index in indices if not connections[index].is_open and connections[index].inbox.parked]

    def sweep_to(self, recipients: Recipients, payload: Payload, weight: int, left_out: Collection[int]) -> bool:
        """Have the sweep bring a payload to all recipients but those left out; False if that is not possible now."""
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
        """Put it into the outboxes; the indices of those that were not ready."""
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
                    # As `Outbox.append` does: most members of small groups come here.
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
        """Put into this outbox what the sweep would have brought to it later: something else is about to follow."""
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
        """Write to so many sockets. However many outboxes wait, the sweep goes on: a quarter is for it."""
        outboxes = self.outboxes
        sweep = self.sweep
        for _ in range(min(len(outboxes), count if sweep is None else count - count // 4)):
            outboxes.popleft().flush()
            count -= 1
        while sweep is not None and count > 0:
            count -= sweep.run(count)
            if not sweep.under_way:
                sweep = self.sweep = None
        self.is_busy = self.sweep is not None or bool(outboxes)
