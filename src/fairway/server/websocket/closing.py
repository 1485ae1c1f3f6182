"""What is known of the end of a WebSocket, from when it begins."""

from __future__ import annotations

from fairway.delivery import Message
from fairway.protocols.websocket.protocol import Closed


class Closing:
    """There is one for each connection that ends; all others share one that says nothing."""

    __slots__ = ("at", "event", "is_lingering", "last", "linger_until")

    def __init__(self) -> None:
        self.at: float | None = None
        """When the application was told."""
        self.event: Message = {}
        """What it was told."""
        self.last: Closed | None = None
        """How the connection ended, until the application has seen what came before."""
        self.is_lingering = False
        self.linger_until: float | None = None


NOT_CLOSING = Closing()
"""To be read only."""
