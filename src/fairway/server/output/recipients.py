"""The recipients of a broadcast, as data: connections of one event loop, in the order in which they are written to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from fairway.delivery import Encoder, Inbox, Payload
from fairway.server.output.lanes import Lane, lane_of
from fairway.server.output.outbox import Outbox


class Recipient(Protocol):
    """The part of a connection that broadcasts use."""

    @property
    def outbox(self) -> Outbox: ...

    @property
    def encoder(self) -> Encoder: ...

    @property
    def inbox(self) -> Inbox: ...

    @property
    def is_open(self) -> bool: ...

    def broadcast(self, payload: Payload) -> None:
        """Put the payload into the outbox, subject to all rules for slow clients."""

    def check_bound(self) -> None:
        """Drop the client if too much waits for it."""


class Part(NamedTuple):
    """Consecutive recipients that get the same bytes on the same lane."""

    end: int
    """The index after the last one."""

    encoder: Encoder
    lane: Lane | None
    """None if nothing may be sent to these recipients directly."""


def in_order(recipients: Iterable[Recipient]) -> list[Recipient]:
    """Sort recipients so that they form as few parts as possible, and that those that share a write are neighbours."""
    parts: dict[tuple[Lane | None, Encoder], list[Recipient]] = {}
    for one in recipients:
        parts.setdefault((lane_of(one.outbox.endpoint), one.encoder), []).append(one)
    for (lane, _), some in parts.items():
        neighbours = lane.neighbours if lane is not None else None
        if neighbours is not None:
            some.sort(key=lambda one: id(neighbours(one.outbox.endpoint)))
    return [one for some in parts.values() for one in some]


class Recipients:
    """Connections, each known by its index. Immutable. (`fairway.delivery.Recipients`)"""

    __slots__ = ("_indices", "connections", "endpoints", "inboxes", "parts")

    connections: Sequence[Recipient]

    inboxes: list[Inbox]
    endpoints: list[Any]
    """Lists of their own for the two objects of a connection that each message needs: no other memory is touched."""

    parts: list[Part]
    """All parts, in order."""

    def __init__(self, connections: Sequence[Recipient]) -> None:
        self.connections = connections
        self.inboxes = [one.inbox for one in connections]
        self.endpoints = [one.outbox.endpoint for one in connections]
        kinds = [(one.encoder, lane_of(endpoint)) for one, endpoint in zip(connections, self.endpoints, strict=True)]
        ends = [index for index, (before, after) in enumerate(pairwise(kinds), 1) if before != after]
        self.parts = [Part(end, *kinds[end - 1]) for end in (*ends, len(connections))]
        self._indices: dict[Outbox, int] | None = None

    def __len__(self) -> int:
        return len(self.connections)

    def index_of(self, connection: Recipient) -> int | None:
        return self.indices.get(connection.outbox)

    @property
    def indices(self) -> dict[Outbox, int]:
        """The indices of the connections by their outboxes. Made on first use."""
        indices = self._indices
        if indices is None:
            indices = self._indices = {one.outbox: index for index, one in enumerate(self.connections)}
        return indices
