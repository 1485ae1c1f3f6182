"""Tools for the tests of applications.

`record_sent` records what is sent over channel layers. `VirtualClock` is a clock that only a test moves.
`ReconnectingCommunicator` and `EventSourceCommunicator` are clients that lose their connection and come back.
`ServerProcess` runs a server in a separate process.

Importing this package does not load the server. Only the serving process does. Fixtures are in
`fairway.testing.pytest`.
"""

from __future__ import annotations

from fairway.testing.clock import VirtualClock
from fairway.testing.process import ServerProcess
from fairway.testing.reconnecting import EventSourceCommunicator, ReconnectingCommunicator
from fairway.testing.sent import Sent, SentMessages, record_sent

__all__ = [
    "EventSourceCommunicator",
    "ReconnectingCommunicator",
    "Sent",
    "SentMessages",
    "ServerProcess",
    "VirtualClock",
    "record_sent",
]
