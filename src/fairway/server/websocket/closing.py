"""What a connection knows of its end, from when it begins, beside what the application was told."""

from __future__ import annotations

from fairway.asgi import websocket
from fairway.protocols.websocket.protocol import Closed


class NotClosing(websocket.NotClosing):
    """Says that no end has begun. All connections share one, which has no room for anything that could be changed."""

    __slots__ = ()

    last: Closed | None = None
    """How the connection ended, until the application has seen what came before."""

    until: float | None = None
    """How long the application may take for that."""


class Closing(websocket.Closing):
    """There is one for each connection that ends."""

    __slots__ = ("last", "until")

    def __init__(self) -> None:
        super().__init__()
        self.last: Closed | None = None
        self.until: float | None = None


NOT_CLOSING = NotClosing()
