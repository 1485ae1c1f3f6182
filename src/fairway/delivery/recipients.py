"""Interfaces for sending one payload to many connections in one call, as channel layers see them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from fairway.delivery.payload import Payload


class Recipients(Protocol):
    """An immutable list of connections of one event loop. Each connection has an index."""

    def index_of(self, connection: Any) -> int | None:
        """The index of a connection. None if it is not among the recipients."""

    def __len__(self) -> int: ...


class Fanout(Protocol):
    """Sends one payload to many connections of one event loop in one call. Call it in that loop."""

    loop: asyncio.AbstractEventLoop

    def in_order(self, connections: Iterable[Any]) -> Sequence[Any]:
        """Return these connections in the order in which sending to all of them is cheapest."""

    def recipients_of(self, connections: Sequence[Any]) -> Recipients:
        """Make recipients from open connections (`fairway.delivery.Connection`), in the given order."""

    def broadcast(self, recipients: Any, payload: Payload, without: Collection[int] = ()) -> Sequence[int]:
        """Write the payload to all recipients that are open and whose inbox is parked, except the indices in `without`.

        `recipients` must come from this fanout's `recipients_of`. Returns the indices of the recipients that were not
        ready. The caller must put the payload into their inboxes.
        """
