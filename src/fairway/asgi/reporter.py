"""What a conversation has to say to those who run the server: lines for a log, and counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Scope = Mapping[str, Any]


class WebSocketLog(Protocol):
    """Told of the stations of each WebSocket."""

    def websocket_connecting(self, scope: Scope) -> None:
        """A handshake has arrived and goes to the application."""

    def websocket_connected(self, scope: Scope) -> None:
        """The application has accepted."""

    def websocket_rejected(self, scope: Scope, status: int) -> None:
        """The handshake was answered with an HTTP status instead."""

    def websocket_disconnected(self, scope: Scope, code: int, seconds: float) -> None:
        """An accepted connection has ended, with the close code that the application saw, after so long."""


class Counts(Protocol):
    """What is counted of all conversations together."""

    dropped_frames: int
    slow_consumers: int


class Reporter(Protocol):
    """Hands all of it on."""

    @property
    def access(self) -> WebSocketLog: ...

    @property
    def counters(self) -> Counts: ...

    def fault(self, kind: str, scope: Scope | None, text: str) -> None:
        """One line about a fault of a peer or of the application; `kind` is what the lines are limited by."""

    def application_error(self, kind: str, scope: Scope, error: BaseException) -> None:
        """The application raised; `kind` is what it was serving."""
