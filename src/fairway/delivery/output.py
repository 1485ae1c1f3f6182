"""What a connection writes its messages into, whatever carries them to the client."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from fairway.delivery.recipients import Fanout


class Output(Protocol):
    """What waits for one client, encoded, in order."""

    @property
    def fanout(self) -> Fanout | None:
        """By what it is written together with others; None if it cannot be."""

    @property
    def size(self) -> int:
        """Bytes that wait."""

    @property
    def high_water(self) -> int:
        """From this size on senders are asked to wait."""

    @property
    def bound(self) -> int:
        """Beyond this size a client that takes nothing is too slow."""

    @property
    def is_over_bound(self) -> bool:
        """Whether too much waits already, before anything is added."""

    def append(self, frame: bytes, is_broadcast: bool = False) -> bool:
        """Add an encoded message; True if so much was there that it was written at once."""

    def append_droppable(self, frame: bytes, key: str) -> None:
        """Add an encoded message that later ones may replace while it waits."""

    def make_room(self, size: int, key: str, only_latest: bool) -> int:
        """Drop the messages that one of this size and key replaces. Return how many were dropped."""

    def drop_waiting(self) -> int:
        """Forget everything except the message whose writing has begun. Return how many were dropped."""

    def drained(self) -> Awaitable[None]:
        """What to await until less than `high_water` waits."""

    def wake_waiters(self) -> None:
        """Let those that await `drained` look again."""

    def write_through_transport(self) -> None:
        """The conversation ends: nothing is to be written past this any more."""
