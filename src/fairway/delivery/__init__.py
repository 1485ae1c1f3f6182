"""The common vocabulary of the server, the channel layers, the transports and the consumers.

* A `Payload` is a message for many clients.
* An `Inbox` holds what waits for one consumer.
* A `Member` is a consumer that a channel layer can reach.
* A `Connection` is the server's end of a WebSocket.

The server does not know the layers, and the layers do not know sockets. Both use this package, which imports only the
standard library.

Each object belongs to one event loop, and may only be called from that loop. `Member.deliver`, `Member.broadcast` and
the statistics may be called from any thread.
"""

from __future__ import annotations

from fairway.delivery.connection import Connection, Reader, connection_of, reader_of
from fairway.delivery.inbox import LONG_MESSAGE, WAKES_PER_PASS, Inbox, Sleeper, Source, Waker
from fairway.delivery.lane import Lane
from fairway.delivery.loops import NEXT_PASS, Passes, running_loop_or_none
from fairway.delivery.member import Member, MemberOwner
from fairway.delivery.output import Output
from fairway.delivery.payload import Encoder, Message, Payload, SlowPolicy, Unfinished
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
    "Lane",
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
    "Unfinished",
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
