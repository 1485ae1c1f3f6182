"""Connections of one event loop that are sent to together, as data: who is reached, through what, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, cast

from fairway.delivery import Encoder, Inbox, Payload
from fairway.server.output.outbox import Outbox

if TYPE_CHECKING:
    from socket import socket


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


class Recipients:
    """Each of the connections is known by its index. Nothing here changes. (`fairway.delivery.Recipients`)"""

    __slots__ = ("_indices", "connections", "endpoints", "inboxes", "parts")

    connections: Sequence[Recipient]

    inboxes: list[Inbox]
    endpoints: list[socket]
    """Of each connection the one object that is looked at for each message, so that no other memory is touched."""

    parts: list[tuple[int, Encoder]]
    """Where those with one encoder end."""

    def __init__(self, connections: Sequence[Recipient]) -> None:
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

    def index_of(self, connection: Recipient) -> int | None:
        return self.indices.get(connection.outbox)

    @property
    def indices(self) -> dict[Outbox, int]:
        """The indices of the connections by their outboxes; made when first asked for."""
        indices = self._indices
        if indices is None:
            indices = self._indices = {one.outbox: index for index, one in enumerate(self.connections)}
        return indices
