"""What a conversation reports to those who run the server: lines for a log, and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from fairway.asgi.types import ScopeView


class EventLog(Protocol):
    """Is told how each conversation goes. Nothing is called unless `enabled`, which is read once."""

    @property
    def enabled(self) -> bool:
        """Whether anybody wants the lines."""

    def http_finished(self, scope: ScopeView, status: int | None, size: int, seconds: float) -> None:
        """A response has ended: `size` bytes of body; status None if the client left before there was one."""

    def websocket_connecting(self, scope: ScopeView) -> None:
        """A handshake has arrived and goes to the application."""

    def websocket_connected(self, scope: ScopeView) -> None:
        """The application has accepted."""

    def websocket_rejected(self, scope: ScopeView, status: int) -> None:
        """The handshake was answered with an HTTP status instead."""

    def websocket_disconnected(self, scope: ScopeView, code: int, seconds: float) -> None:
        """An accepted connection has ended, with the close code that the application saw, after so long."""


class Counts(Protocol):
    """What is counted of all conversations together."""

    dropped_frames: int
    slow_consumers: int

    @property
    def responses(self) -> list[int]:
        """How many there were of each class, which is the first digit of the status; 0: the client left before."""


class Reporter(Protocol):
    """Takes all that a conversation reports."""

    @property
    def access(self) -> EventLog: ...

    @property
    def logs_access(self) -> bool:
        """Whether anybody wants to know of requests."""

    @property
    def counters(self) -> Counts: ...

    def fault(self, kind: str, scope: ScopeView | None, text: str) -> None:
        """One line about a fault of a peer or of the application; `kind` is what the lines are limited by."""

    def application_error(self, kind: str, scope: ScopeView, error: BaseException) -> None:
        """The application raised; `kind` is what it was serving."""


class Host(Reporter, Protocol):
    """Runs applications, too, and knows the time."""

    def touch(self) -> float:
        """The time, by the clock of the deadlines."""

    def run(
        self, scope: Any, receive: Any, send: Any, served: Any, ended: Callable[[asyncio.Task[None]], object]
    ) -> asyncio.Task[None]:
        """Start the application's task; `served` is what it is for. `ended` is called with it, and calls `forget`."""

    def forget(self, task: asyncio.Task[None], began: float, weight: int) -> None:
        """The task, which began at that time, has ended. `weight` is how many bytes of bodies it has handled."""
