"""Interfaces through which conversations report to the server: lines for the log, and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from fairway.asgi.types import ScopeView


class EventLog(Protocol):
    """Gets the events of all conversations, for the access log. `enabled` is read once. If false, nothing is called."""

    @property
    def enabled(self) -> bool:
        """Whether anybody wants the lines."""

    def http_finished(self, scope: ScopeView, status: int | None, size: int, seconds: float) -> None:
        """A response with a body of `size` bytes has ended. `status` is None if the client left before it began."""

    def websocket_connecting(self, scope: ScopeView) -> None:
        """A handshake has arrived, and the application is about to get it."""

    def websocket_connected(self, scope: ScopeView) -> None:
        """The application has accepted the handshake."""

    def websocket_rejected(self, scope: ScopeView, status: int) -> None:
        """The handshake was answered with an HTTP response."""

    def websocket_disconnected(self, scope: ScopeView, code: int, seconds: float) -> None:
        """An accepted WebSocket has ended after `seconds`. `code` is the close code that the application got."""


class Counts(Protocol):
    """Counters of all conversations together."""

    dropped_frames: int
    slow_consumers: int

    @property
    def responses(self) -> list[int]:
        """The number of responses by the first digit of their status. Index 0: the client left before it began."""


class Reporter(Protocol):
    """Takes all reports of a conversation."""

    @property
    def access(self) -> EventLog: ...

    @property
    def logs_access(self) -> bool:
        """Whether to call `access`."""

    @property
    def counters(self) -> Counts: ...

    def fault(self, kind: str, scope: ScopeView | None, text: str) -> None:
        """Log a fault of a peer or of the application. The number of lines is limited for each `kind`."""

    def application_error(self, kind: str, scope: ScopeView, error: BaseException) -> None:
        """The application raised an exception. `kind` is what it was serving: "HTTP" or "WebSocket"."""


class Host(Reporter, Protocol):
    """Also runs applications, and has a clock."""

    def touch(self) -> float:
        """The current time in seconds of the clock for deadlines, which is read anew."""

    def run(
        self, scope: Any, receive: Any, send: Any, served: Any, ended: Callable[[asyncio.Task[None]], object]
    ) -> asyncio.Task[None]:
        """Start the application's task. `served` is the exchange that it serves.

        When the task ends, `ended` is called with it, and must call `forget`.
        """

    def forget(self, task: asyncio.Task[None], began: float, weight: int) -> None:
        """A task that began at this time has ended. `weight` is the number of bytes of the bodies that it handled."""
