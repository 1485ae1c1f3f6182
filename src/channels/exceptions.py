"""The exceptions that consumers and channel layers raise.

Three of them steer a consumer (`AcceptConnection`, `DenyConnection`, `StopConsumer`) and are not
errors. `RequestAborted`, `RequestTimeout` and `MessageTooLarge` are raised by nothing in this
package; applications and channel layers import them.
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
    """The client went away while its request was still being received."""


class RequestTimeout(RequestAborted):
    """The client did not finish its request in time."""


class AcceptConnection(Exception):
    """Raised in `connect()`, accepts the WebSocket."""


class DenyConnection(Exception):
    """Raised in `connect()`, rejects the WebSocket."""
