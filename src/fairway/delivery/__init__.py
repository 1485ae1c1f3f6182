"""Where server, channel layers, transports and consumers meet.

A message for a client is a `Payload`; what waits for one consumer lies in its `Inbox`; a consumer that can be
reached through a channel layer is a `Member`; a server's own end of a socket is a `Connection`. The server knows
nothing of layers and the layers nothing of sockets: both know this module, and this module knows only the
standard library.

Everything here belongs to one event loop and is called from it, except `Member.deliver` and
`Member.broadcast`, which may be called from any thread.
"""

from __future__ import annotations

from fairway.delivery.counting import Statistics, note_detour, statistics
from fairway.delivery.inbox import WAKES_PER_PASS, Inbox, Sleeper, Source, Waker
from fairway.delivery.members import Audience, Connection, Crowd, Keeper, Member, connection_of
from fairway.delivery.passes import Passes, get_running_loop
from fairway.delivery.payload import Encoder, Message, Payload, SlowPolicy
from fairway.delivery.pump import Pump, SourceFailed

__all__ = [
    "WAKES_PER_PASS",
    "Audience",
    "Connection",
    "Crowd",
    "Encoder",
    "Inbox",
    "Keeper",
    "Member",
    "Message",
    "Passes",
    "Payload",
    "Pump",
    "Sleeper",
    "SlowPolicy",
    "Source",
    "SourceFailed",
    "Statistics",
    "Waker",
    "connection_of",
    "get_running_loop",
    "note_detour",
    "statistics",
]
