"""The sockets of one event loop that are sent to together, and what is on its way to them.

A message for `Recipients` is not put into every outbox. Most members of a large group get it from a sweep
(`fairway.server.output.sweep`), which writes to their sockets directly. A message goes into the outbox of a connection
whose socket cannot be written to directly, and into all outboxes where a sweep would not pay: for a few recipients, for
long messages, for messages that may be dropped on their way, and while the sweep of other recipients is under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from fairway.delivery import Connection, Encoder, Payload
from fairway.server.output.sweep import Sweep

if TYPE_CHECKING:
    from socket import socket

    from fairway.server.output.outbox import Outbox
    from fairway.server.websocket.exchange import WebSocketExchange

# For fewer a sweep is not worth setting up.
FEW = 32

# At most so many bytes are under way: a socket is given them in one piece (`fairway.server.output.outbox.CHUNK_BYTES`).
# What is kept beside the frames counts too: for each message, and for each index that it leaves out.
UNDER_WAY_BYTES = 65536
MESSAGE_BYTES = 64
LEFT_OUT_BYTES = 16


class Fanout:
    """Belongs to one loop; everything is called in that loop only. (`fairway.delivery.Fanout`)

    `wake` is called when there will be something to write, and nothing was.
    """

    __slots__ = ("_wake", "indirect", "loop", "outboxes", "sweep")

    outboxes: deque[Outbox]
    """Those that a broadcast has made dirty."""

    indirect: set[Outbox]
    """Outboxes that nothing may bypass even when they are empty: their connections are blocked, or closing."""

    sweep: Sweep | None
    """The one that is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self.loop = loop
        self.indirect = set()
        self.sweep = None
        self.outboxes = deque()
        self._wake = wake

    def __bool__(self) -> bool:
        return self.sweep is not None or bool(self.outboxes)

    def recipients_of(self, connections: Sequence[Connection]) -> Recipients:
        return Recipients(self, cast("Sequence[WebSocketExchange]", connections))

    def add(self, outbox: Outbox) -> None:
        """Remember an outbox that has become dirty."""
        outboxes = self.outboxes
        if not outboxes and self.sweep is None:
            self._wake()
        outboxes.append(outbox)

    def sweep_to(self, recipients: Recipients, payload: Payload, weight: int, left_out: Collection[int]) -> bool:
        """Have the sweep bring a payload to all recipients but those left out; False if that is not possible now."""
        sweep = self.sweep
        if weight + (sweep.weight if sweep is not None else 0) > UNDER_WAY_BYTES:
            return False
        if sweep is None:
            if not self.outboxes:
                self._wake()
            sweep = self.sweep = Sweep(recipients)
        elif sweep.recipients is not recipients:
            return False
        sweep.add(payload, weight, left_out)
        return True

    def bring_forward(self, outbox: Outbox) -> None:
        """Put into this outbox what the sweep would have brought to it later: something else is about to follow."""
        sweep = self.sweep
        if sweep is not None:
            index = sweep.recipients.indices.get(outbox)
            if index is not None:
                sweep.bring_forward(index)

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


class Recipients:
    """Connections that are sent to together, each known by its index. (`fairway.delivery.Recipients`)"""

    __slots__ = ("_indices", "connections", "endpoints", "fanout", "inboxes", "parts")

    parts: list[tuple[int, Encoder]]
    """Where those with one encoder end."""

    def __init__(self, fanout: Fanout, connections: Sequence[WebSocketExchange]) -> None:
        self.fanout = fanout
        self.connections = connections
        self.inboxes = [one.inbox for one in connections]
        self.endpoints = [cast("socket", one.outbox.endpoint) for one in connections]
        self.parts = [
            (index, before.encoder)
            for index, (before, after) in enumerate(pairwise(connections), 1)
            if before.encoder is not after.encoder
        ]
        self.parts.append((len(connections), connections[-1].encoder))
        self._indices: dict[Outbox, int] | None = None

    def __len__(self) -> int:
        return len(self.connections)

    def index_of(self, connection: Connection) -> int | None:
        return self.indices.get(cast("WebSocketExchange", connection).outbox)

    @property
    def indices(self) -> dict[Outbox, int]:
        indices = self._indices
        if indices is None:
            indices = self._indices = {one.outbox: index for index, one in enumerate(self.connections)}
        return indices

    def broadcast(self, payload: Payload, without: Collection[int] = ()) -> list[int]:
        if len(self.connections) >= FEW and not payload.is_droppable:
            others = self._sweep(payload, without)
            if others is not None:
                return others
        return self._place(payload, without)

    def _sweep(self, payload: Payload, without: Collection[int]) -> list[int] | None:
        """Have it brought by a sweep; None, and nothing done, if that is not possible now."""
        longest = max([len(payload.form(encoder)) for _, encoder in self.parts])
        others = [index for index, inbox in enumerate(self.inboxes) if not inbox.parked]
        if self.fanout.indirect:
            others += self._closing()
        left_out = {*others, *without}
        if len(self.connections) - len(left_out) < FEW:
            return None
        if not self.fanout.sweep_to(self, payload, longest + MESSAGE_BYTES + LEFT_OUT_BYTES * len(left_out), left_out):
            return None
        return [index for index in others if index not in without] if without else others

    def _closing(self) -> list[int]:
        connections = self.connections
        indices = self.indirect_in(0, len(connections))
        return [index for index in indices if not connections[index].is_open and connections[index].inbox.parked]

    def _place(self, payload: Payload, without: Collection[int]) -> list[int]:
        """Put it into the outboxes; the indices of those that were not ready."""
        others: list[int] = []
        sweep = self.fanout.sweep
        swept: Collection[Outbox] = sweep.recipients.indices if sweep is not None else ()
        add = self.fanout.add
        begin = 0
        for end, encoder in self.parts:
            frame = payload.form(encoder)
            size = len(frame)
            is_plain = not payload.is_droppable and size <= UNDER_WAY_BYTES
            for index, connection in enumerate(self.connections[begin:end], begin):
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

    def indirect_in(self, begin: int, end: int) -> list[int]:
        """The indices in this range whose sockets may only be written to through their outboxes."""
        indirect = self.fanout.indirect
        if self.fanout.outboxes or len(indirect) > end - begin:
            outboxes = [one.outbox for one in self.connections[begin:end]]
            return [index for index, one in enumerate(outboxes, begin) if one.size or one in indirect]
        indices = map(self.indices.get, indirect)
        return [index for index in indices if index is not None and begin <= index < end]
