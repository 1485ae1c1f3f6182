"""What layers may know of connections that are sent to together."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from fairway.delivery.payload import Payload


class Recipients(Protocol):
    """Connections of one event loop that can be given the same payload in one call, each known by its index."""

    def index_of(self, connection: Any) -> int | None:
        """The index of a connection; None if it is not among these."""

    def __len__(self) -> int: ...


class Fanout(Protocol):
    """The connections of one event loop that can be sent to together."""

    loop: asyncio.AbstractEventLoop

    def in_order(self, connections: Iterable[Any]) -> Sequence[Any]:
        """The connections in the order in which sending to them together costs least."""

    def recipients_of(self, connections: Sequence[Any]) -> Recipients:
        """Recipients from open connections (`fairway.delivery.Connection`), in the order given."""

    def broadcast(self, recipients: Any, payload: Payload, without: Collection[int] = ()) -> Sequence[int]:
        """Write the payload to every connection that is open and whose inbox is parked, except those in `without`.
        `recipients` are its own (`recipients_of`). Return the indices of the connections that were not ready: their
        consumers get it through their inboxes.
        """
