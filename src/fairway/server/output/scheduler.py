"""What an outbox asks of those that decide when it is written: `Batch` and `Fanout`, which stand above it."""

from __future__ import annotations

from typing import Any, Protocol

from fairway import delivery


class Flushable(Protocol):
    """An outbox, as those see it that write many."""

    def flush(self) -> None:
        """Write what there is, as far as the socket takes it."""


class Fanout(delivery.Fanout, Protocol):
    """What writes to many sockets at once, as an outbox sees it. (`fairway.server.output.fanout.Fanout`)"""

    indirect: set[Any]
    """Outboxes that nothing may bypass even when they are empty: their sockets are full, or their connections close."""

    @property
    def sweep(self) -> object | None:
        """Whatever is under way that writes past outboxes; None for nothing."""

    def add(self, outbox: Flushable) -> None:
        """Remember an outbox that a broadcast has made dirty: it is written in one of the next passes."""

    def bring_forward(self, outbox: Any) -> None:
        """Append to this outbox what would have been written past it later: something else is about to follow."""


class Scheduler(Protocol):
    """Says when the outboxes of one event loop are written. (`fairway.server.output.batch.Batch`)"""

    @property
    def fanout(self) -> Fanout: ...

    @property
    def carriers(self) -> Scheduler:
        """The same for outboxes that others are flushed into: those are written first."""

    def add(self, outbox: Flushable) -> None:
        """Remember an outbox that has become dirty: it is written at the end of the pass at the latest."""

    def flush_alone(self, outbox: Flushable) -> None:
        """Write this outbox now if it is the only dirty one."""
