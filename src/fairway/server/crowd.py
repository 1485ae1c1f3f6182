"""The sockets of one event loop that are sent to together, and what is on its way to them.

A message for an `Audience` is not laid into each outbox: it goes aboard a sweep (`fairway.server.sweep`), by which most
of a large group get it. An outbox gets it where a socket cannot be written to directly, and where a sweep would not
pay: for a few, for long messages, for what may be dropped on its way, or while another audience's sweep is under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from fairway.delivery import Connection, Encoder, Payload
from fairway.server.sweep import Sweep

if TYPE_CHECKING:
    from socket import socket

    from fairway.server.outbox import Outbox
    from fairway.server.sending import SendingHalf

# For fewer a sweep is not worth setting up.
FEW = 32

# So much is aboard at most: a socket is given it in one piece (`fairway.server.outbox.CHUNK_BYTES`). What is kept
# beside the frames counts too: for a message, and for each place that it leaves out.
ABOARD_BYTES = 65536
MESSAGE_BYTES = 64
LEFT_OUT_BYTES = 16


class Crowd:
    """Belongs to one loop; everything is called in that loop only. (`fairway.delivery.Crowd`)

    `wake` is called when there will be something to write, and nothing was.
    """

    __slots__ = ("_wake", "aside", "loop", "outboxes", "sweep")

    outboxes: deque[Outbox]
    """Those that a broadcast has made dirty."""

    aside: set[Outbox]
    """Those past which nothing may be written even when they are empty: their connections are full, or closing."""

    sweep: Sweep | None
    """The one that is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self.loop = loop
        self.aside = set()
        self.sweep = None
        self.outboxes = deque()
        self._wake = wake

    def __bool__(self) -> bool:
        return self.sweep is not None or bool(self.outboxes)

    def seat(self, connections: Sequence[Connection]) -> Audience:
        return Audience(self, cast("Sequence[SendingHalf]", connections))

    def add(self, outbox: Outbox) -> None:
        """Remember an outbox that has become dirty."""
        outboxes = self.outboxes
        if not outboxes and self.sweep is None:
            self._wake()
        outboxes.append(outbox)

    def board(self, audience: Audience, payload: Payload, weight: int, left_out: Collection[int]) -> bool:
        """Have the sweep bring a payload to all but some places; False if that is not possible now."""
        sweep = self.sweep
        if weight + (sweep.weight if sweep is not None else 0) > ABOARD_BYTES:
            return False
        if sweep is None:
            if not self.outboxes:
                self._wake()
            sweep = self.sweep = Sweep(audience)
        elif sweep.audience is not audience:
            return False
        sweep.board(payload, weight, left_out)
        return True

    def settle(self, outbox: Outbox) -> None:
        """Put into this outbox what the sweep has for it still: something else is to follow."""
        sweep = self.sweep
        if sweep is not None:
            place = sweep.audience.places.get(outbox)
            if place is not None:
                sweep.settle(place)

    def write(self, count: int) -> None:
        """Write to so many sockets. However many outboxes wait, the sweep goes on: a quarter is for it."""
        outboxes = self.outboxes
        sweep = self.sweep
        for _ in range(min(len(outboxes), count if sweep is None else count - count // 4)):
            outboxes.popleft().flush()
            count -= 1
        while sweep is not None and count > 0:
            count -= sweep.run(count)
            if not sweep.aboard:
                sweep = self.sweep = None


class Audience:
    """Connections that are sent to together; a *place* is the number of one. (`fairway.delivery.Audience`)"""

    __slots__ = ("_places", "connections", "crowd", "endpoints", "inboxes", "parts")

    parts: list[tuple[int, Encoder]]
    """Where those with one encoder end."""

    def __init__(self, crowd: Crowd, connections: Sequence[SendingHalf]) -> None:
        self.crowd = crowd
        self.connections = connections
        self.inboxes = [one.inbox for one in connections]
        self.endpoints = [cast("socket", one.outbox.endpoint) for one in connections]
        self.parts = [
            (place, before.encoder)
            for place, (before, after) in enumerate(pairwise(connections), 1)
            if before.encoder is not after.encoder
        ]
        self.parts.append((len(connections), connections[-1].encoder))
        self._places: dict[Outbox, int] | None = None

    def __len__(self) -> int:
        return len(self.connections)

    def place_of(self, connection: Connection) -> int | None:
        return self.places.get(cast("SendingHalf", connection).outbox)

    @property
    def places(self) -> dict[Outbox, int]:
        places = self._places
        if places is None:
            places = self._places = {one.outbox: place for place, one in enumerate(self.connections)}
        return places

    def broadcast(self, payload: Payload, without: Collection[int] = ()) -> list[int]:
        if len(self.connections) >= FEW and not payload.is_droppable:
            others = self._board(payload, without)
            if others is not None:
                return others
        return self._place(payload, without)

    def _board(self, payload: Payload, without: Collection[int]) -> list[int] | None:
        """Have it brought by a sweep; None, and nothing done, if that is not possible now."""
        longest = max([len(payload.form(encoder)) for _, encoder in self.parts])
        others = [place for place, inbox in enumerate(self.inboxes) if not inbox.parked]
        if self.crowd.aside:
            others += self._closing()
        left_out = {*others, *without}
        if len(self.connections) - len(left_out) < FEW:
            return None
        if not self.crowd.board(self, payload, longest + MESSAGE_BYTES + LEFT_OUT_BYTES * len(left_out), left_out):
            return None
        return [place for place in others if place not in without] if without else others

    def _closing(self) -> list[int]:
        connections = self.connections
        places = self.to_pass_by(0, len(connections))
        return [place for place in places if not connections[place].is_open and connections[place].inbox.parked]

    def _place(self, payload: Payload, without: Collection[int]) -> list[int]:
        """Put it into the outboxes."""
        others: list[int] = []
        sweep = self.crowd.sweep
        swept: Collection[Outbox] = sweep.audience.places if sweep is not None else ()
        add = self.crowd.add
        begin = 0
        for end, encoder in self.parts:
            frame = payload.form(encoder)
            size = len(frame)
            is_plain = not payload.is_droppable and size <= ABOARD_BYTES
            for place, connection in enumerate(self.connections[begin:end], begin):
                outbox = connection.outbox
                if place in without:
                    pass
                elif not (connection.is_open and connection.inbox.parked):
                    others.append(place)
                elif is_plain and outbox._frames is None and outbox not in swept:
                    # As `Outbox.append` does: most members of small groups come here.
                    outbox._frames = frame
                    outbox.size = size
                    add(outbox)
                else:
                    connection.broadcast(payload)
            begin = end
        return others

    def to_pass_by(self, begin: int, end: int) -> list[int]:
        """At which of these places a socket is not to be written to past its outbox."""
        aside = self.crowd.aside
        if self.crowd.outboxes or len(aside) > end - begin:
            outboxes = [one.outbox for one in self.connections[begin:end]]
            return [place for place, one in enumerate(outboxes, begin) if one.size or one in aside]
        places = map(self.places.get, aside)
        return [place for place in places if place is not None and begin <= place < end]
