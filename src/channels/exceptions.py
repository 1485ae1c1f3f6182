"""The exceptions that consumers and channel layers raise.

`AcceptConnection`, `DenyConnection` and `StopConsumer` are not errors: handlers raise them to control their consumer.
This package never raises `RequestAborted`, `RequestTimeout` and `MessageTooLarge`. They exist for applications and
channel layers that import them.
"""

from __future__ import annotations

from fairway.consumers.errors import StopConsumer
from fairway.layers.errors import ChannelFull, InvalidChannelLayerError, MessageTooLarge

__all__ = [
    "AcceptConnection",
    "ChannelFull",
    "DenyConnection",
    "InvalidChannelLayerError",
    "MessageTooLarge",
    "RequestAborted",
    "RequestTimeout",
    "StopConsumer",
]


class RequestAborted(Exception):
    """The client has gone before its request was complete."""


class RequestTimeout(RequestAborted):
    """The client has not completed its request in time."""


class AcceptConnection(Exception):
    """Raised in `connect()` to accept the WebSocket."""


class DenyConnection(Exception):
    """Raised in `connect()` to reject the WebSocket."""
