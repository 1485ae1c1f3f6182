"""What is known of the end of a WebSocket, from when it begins."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fairway.protocols.websocket.protocol import Closed


class NotClosing:
    """Says that no end has begun. All connections share one, which has no room for anything that could be changed."""

    __slots__ = ()

    at: float | None = None
    """When the application was told."""

    event: Mapping[str, Any] = MappingProxyType({})
    """What it was told."""

    last: Closed | None = None
    """How the connection ended, until the application has seen what came before."""

    until: float | None = None
    """How long the application may take for that."""


class Closing(NotClosing):
    """There is one for each connection that ends."""

    __slots__ = ("at", "event", "last", "until")

    def __init__(self) -> None:
        self.at = self.last = self.until = None
        self.event = {}


NOT_CLOSING = NotClosing()
