"""The contracts that an outbox has with `Batch` and `Fanout`, which decide when it is written."""

from __future__ import annotations

from typing import Any, Protocol

from fairway import delivery
from fairway.server.output.workshop import Workshop


class Flushable(Protocol):
    """The part of an outbox that its schedulers use."""

    @property
    def size(self) -> int:
        """How many bytes wait."""

    def flush(self) -> None:
        """Write the frames until the socket is full."""


class Fanout(delivery.Fanout, Protocol):
    """The part of `fairway.server.output.fanout.Fanout` that an outbox uses."""

    indirect: set[Any]
    """Outboxes that nothing may bypass even when they are empty: their sockets are full, or their connections close."""

    @property
    def sweep(self) -> object | None:
        """The sweep under way, which may bypass outboxes; None if there is none."""

    def add(self, outbox: Flushable) -> None:
        """Note an outbox that a broadcast has made dirty. It is flushed in this pass or one of the next."""

    def bring_forward(self, outbox: Any) -> None:
        """Append to this outbox what the sweep still owes it, because something else is about to be appended."""


class Scheduler(Protocol):
    """Decides when the outboxes of one event loop are flushed. (`fairway.server.output.batch.Batch`)"""

    received: int
    """How many bytes the connections of its outboxes have read. They count this themselves."""

    written: int
    """How many bytes its outboxes have written. They count this themselves."""

    @property
    def fanout(self) -> Fanout: ...

    @property
    def workshop(self) -> Workshop: ...

    @property
    def carriers(self) -> Scheduler:
        """The scheduler of outboxes into which others are flushed. It flushes them after those others."""

    def add(self, outbox: Flushable) -> None:
        """Note an outbox that has become dirty. It is flushed at the end of this pass at the latest."""

    def flush_alone(self, outbox: Flushable) -> None:
        """Flush this outbox now if it is the only dirty one."""
