"""Tools for the tests of applications.

`record_sent` records what is sent over channel layers. `VirtualClock` is a clock that only a test moves.
`ReconnectingCommunicator` and `EventSourceCommunicator` are clients that lose their connection and come back.
`ServerProcess` runs a server in a separate process.

Importing this package does not load the server. Only the serving process does. That process does not load the clients,
which stand on `channels.testing`: they are loaded when they are asked for. Fixtures are in `fairway.testing.pytest`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fairway.testing.clock import VirtualClock
from fairway.testing.process import ServerProcess
from fairway.testing.sent import Sent, SentMessages, record_sent

if TYPE_CHECKING:
    from fairway.testing.reconnecting import EventSourceCommunicator, ReconnectingCommunicator

__all__ = [
    "EventSourceCommunicator",
    "ReconnectingCommunicator",
    "Sent",
    "SentMessages",
    "ServerProcess",
    "VirtualClock",
    "record_sent",
]

_LAZY = {"EventSourceCommunicator", "ReconnectingCommunicator"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("fairway.testing.reconnecting"), name)
