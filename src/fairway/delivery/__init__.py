"""Where server, channel layers, transports and consumers meet.

A message for a client is a `Payload`; what waits for one consumer lies in its `Inbox`; a consumer that can be
reached through a channel layer is a `Member`; a server's own end of a socket is a `Connection`. The server knows
nothing of layers and the layers nothing of sockets: both know this module, and this module knows only the
standard library.

Everything here belongs to one event loop and is called from it, except `Member.deliver`,
`Member.broadcast` and what concerns statistics, which may be called from any thread.
"""

from __future__ import annotations

from fairway.delivery.connection import Connection, Reader, connection_of, reader_of
from fairway.delivery.inbox import LONG_MESSAGE, WAKES_PER_PASS, Inbox, Sleeper, Source, Waker
from fairway.delivery.loops import NEXT_PASS, Passes, running_loop_or_none
from fairway.delivery.member import Member, MemberOwner
from fairway.delivery.output import Output
from fairway.delivery.payload import Encoder, Message, Payload, SlowPolicy
from fairway.delivery.pump import Pump, SourceFailed
from fairway.delivery.recipients import Fanout, Recipients
from fairway.delivery.serving import is_serving, serving, when_serving
from fairway.delivery.statistics import (
    CounterSet,
    Probe,
    ProcessStatistics,
    Record,
    Statistics,
    StatisticsSource,
    note_detour,
    process_statistics,
    register_probe,
    register_source,
    statistics,
)

__all__ = [
    "LONG_MESSAGE",
    "NEXT_PASS",
    "WAKES_PER_PASS",
    "Connection",
    "CounterSet",
    "Encoder",
    "Fanout",
    "Inbox",
    "Member",
    "MemberOwner",
    "Message",
    "Output",
    "Passes",
    "Payload",
    "Probe",
    "ProcessStatistics",
    "Pump",
    "Reader",
    "Recipients",
    "Record",
    "Sleeper",
    "SlowPolicy",
    "Source",
    "SourceFailed",
    "Statistics",
    "StatisticsSource",
    "Waker",
    "connection_of",
    "is_serving",
    "note_detour",
    "process_statistics",
    "reader_of",
    "register_probe",
    "register_source",
    "running_loop_or_none",
    "serving",
    "statistics",
    "when_serving",
]
