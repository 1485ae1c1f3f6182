"""Connections of one event loop that are sent to together, as data: who is reached, through what, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from fairway.delivery import Encoder, Inbox, Payload
from fairway.server.output.lanes import Lane, lane_of
from fairway.server.output.outbox import Outbox


class Recipient(Protocol):
    """A connection, as far as those may know it that send to many."""

    @property
    def outbox(self) -> Outbox: ...

    @property
    def encoder(self) -> Encoder: ...

    @property
    def inbox(self) -> Inbox: ...

    @property
    def is_open(self) -> bool: ...

    def broadcast(self, payload: Payload) -> None:
        """Put the payload into the outbox, by all the rules for a client that may be slow."""

    def check_bound(self) -> None:
        """Drop the client if too much waits for it."""


class Part(NamedTuple):
    """Recipients that follow each other and get the same bytes, in the same way."""

    end: int
    """The index behind the last."""

    encoder: Encoder
    lane: Lane | None
    """None for those whose connections have let go of their endpoints: nothing is sent on these directly."""


def in_order(recipients: Iterable[Recipient]) -> list[Recipient]:
    """The same, as few parts as possible; in each of them, those that share a write follow each other."""
    parts: dict[tuple[Lane | None, Encoder], list[Recipient]] = {}
    for one in recipients:
        parts.setdefault((lane_of(one.outbox.endpoint), one.encoder), []).append(one)
    for (lane, _), some in parts.items():
        neighbours = lane.neighbours if lane is not None else None
        if neighbours is not None:
            some.sort(key=lambda one: id(neighbours(one.outbox.endpoint)))
    return [one for some in parts.values() for one in some]


class Recipients:
    """Each of the connections is known by its index. Nothing here changes. (`fairway.delivery.Recipients`)"""

    __slots__ = ("_indices", "connections", "endpoints", "inboxes", "parts")

    connections: Sequence[Recipient]

    inboxes: list[Inbox]
    endpoints: list[Any]
    """Of each connection the one object that is looked at for each message, so that no other memory is touched."""

    parts: list[Part]
    """From the first connection to the last."""

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
        """The indices of the connections by their outboxes; made when first asked for."""
        indices = self._indices
        if indices is None:
            indices = self._indices = {one.outbox: index for index, one in enumerate(self.connections)}
        return indices
