"""The interface that a connection writes its messages to, whatever protocol carries them to the client."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from fairway.delivery.payload import Unfinished
from fairway.delivery.recipients import Fanout


class Output(Protocol):
    """Encoded messages that wait to be sent to one client, in order. Belongs to the connection's event loop."""

    @property
    def fanout(self) -> Fanout | None:
        """The fanout that can write to this and other outputs in one call. None if there is none."""

    @property
    def size(self) -> int:
        """Bytes that wait to be sent."""

    @property
    def high_water(self) -> int:
        """From this size on, in bytes, senders have to wait."""

    @property
    def bound(self) -> int:
        """Bytes that may wait before the client counts as too slow: see `is_over_bound`."""

    @property
    def is_over_bound(self) -> bool:
        """Whether the client is too slow to be sent more. What waits before anything is added counts, but a single long
        message does not.
        """

    def append(self, frame: bytes | Unfinished, is_broadcast: bool = False) -> bool:
        """Add an encoded message. True if so much was waiting that it was written at once."""

    def append_droppable(self, frame: bytes, key: str) -> None:
        """Add an encoded message that later messages may replace while it waits."""

    def make_room(self, size: int, key: str, only_latest: bool) -> int:
        """Drop the waiting messages that a new one of this size and key may replace. Return how many were dropped."""

    def drop_waiting(self) -> int:
        """Drop all messages except the one that was partly written. Return how many were dropped."""

    def drained(self) -> Awaitable[None]:
        """Return an awaitable that ends once less than `high_water` bytes wait."""

    def wake_waiters(self) -> None:
        """Let everybody who awaits `drained` check the size again."""

    def write_through_transport(self) -> None:
        """The WebSocket is about to close: from now on, write through the transport only, never past it."""
