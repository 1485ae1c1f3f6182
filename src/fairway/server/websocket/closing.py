"""What a WebSocket connection knows about its end, beside what it has told the application."""

from __future__ import annotations

from fairway.asgi import websocket
from fairway.protocols.websocket.protocol import Closed


class NotClosing(websocket.NotClosing):
    """The state of a connection whose end has not begun. All share one instance, which cannot be changed."""

    __slots__ = ()

    last: Closed | None = None
    """How the connection ended, while the application has not taken all that the client said before."""

    until: float | None = None
    """When the application is told of `last` even if it has not taken everything."""


class Closing(websocket.Closing):
    """The state of a connection whose end has begun. Each such connection has its own."""

    __slots__ = ("last", "until")

    def __init__(self) -> None:
        super().__init__()
        self.last: Closed | None = None
        self.until: float | None = None


NOT_CLOSING = NotClosing()
