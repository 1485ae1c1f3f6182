"""The state of an HTTP/2 connection, and what happens to the connection as a whole. See `Http2Protocol`."""

from __future__ import annotations

import enum

from fairway.protocols.http2.errors import ConnectionFault, ErrorCode, StreamFault
from fairway.protocols.http2.events import Event, StreamReset, Terminated
from fairway.protocols.http2.frames import DEFAULT_WINDOW, goaway_frame, rst_stream_frame, window_update_frame
from fairway.protocols.http2.heads import HeadReader
from fairway.protocols.http2.limits import Http2Limits
from fairway.protocols.http2.patience import FAULT, Budget
from fairway.protocols.http2.streams import Stream, StreamNumbers

# How many recently reset streams are remembered at least.
_REMEMBERED = 64

_MAX_DEBUG_BYTES = 200


class Phase(enum.Enum):
    """What the peer has to send next. Phases only move forward."""

    PREFACE = enum.auto()
    SETTINGS = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class ConnectionState:
    """Whatever the peer's frames and the server's calls change. (`fairway.protocols.http2.streams.StreamHost`)"""

    __slots__ = (
        "budget",
        "heads",
        "inbound",
        "initial_window",
        "limits",
        "lingering",
        "numbers",
        "out",
        "phase",
        "prefix",
        "settings_acknowledged",
        "streams",
        "unread",
        "window",
    )

    streams: dict[int, Stream]
    """The open streams by number. Others may only read it."""

    lingering: int
    """How many applications still run whose streams are gone. The server keeps it up to date: see `is_full`."""

    window: int
    """How much content may be sent on all streams together. Code that writes many frames updates it directly."""

    settings_acknowledged: bool
    """Whether the peer has our settings (RFC 9113 section 6.5.3)."""

    unread: int
    """How much content has been reported, but not credited yet."""

    initial_window: int
    """How much content may be sent on a new stream."""

    inbound: int
    """How much content the peer may still send on all streams together."""

    out: bytes
    """What the protocol itself has to send. Others may look at it; `data_to_send` takes it."""

    def __init__(self, limits: Http2Limits, now: float) -> None:
        self.limits = limits
        self.streams = {}
        self.lingering = 0
        self.window = self.initial_window = DEFAULT_WINDOW
        self.inbound = max(limits.connection_window, DEFAULT_WINDOW)
        self.settings_acknowledged = False
        self.unread = 0
        self.prefix = b""
        self.out = limits.greeting
        self.phase = Phase.PREFACE
        self.budget = Budget(limits.patience, now)
        self.heads = HeadReader(limits)
        self.numbers = StreamNumbers(max(_REMEMBERED, limits.max_streams))

    @property
    def is_full(self) -> bool:
        """Whether a new stream is refused (RFC 9113 section 5.1.2).

        A client may open its next stream as soon as another has ended, while that one's application is still finishing.
        So applications that outlive their streams do not count as streams, but together they have a bound of their own.
        The same read may reset streams and open others: the applications of the former count as running.
        """
        count = len(self.streams)
        most = self.limits.max_streams
        return count >= most or count + self.lingering + self.budget.departed >= 2 * most

    def take_prefix(self) -> bytes:
        prefix, self.prefix = self.prefix, b""
        return prefix

    def credit_due(self, least: int | None = None) -> bytes:
        """The connection's WINDOW_UPDATE, or nothing if it is not due. It is due for half a window, or for `least`
        bytes, unless too much content is waiting to be taken.
        """
        whole = max(self.limits.connection_window, DEFAULT_WINDOW)
        due = whole - self.inbound
        if due < (whole / 2 if least is None else least) or self.unread > self.limits.held_bytes:
            return b""
        self.inbound = whole
        return window_update_frame(0, due)

    def spend(self, cost: int) -> None:
        if not self.budget.spend(cost):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too much that costs too much: RFC 9113 section 10.5")

    def forget(self, stream: Stream, was_reset: bool) -> bytes:
        """The stream is gone. Its waiting content counts as taken. Returns the WINDOW_UPDATE that is due for it."""
        if self.streams.pop(stream.number, None) is None:
            return b""
        if was_reset:
            self.numbers.remember(stream.number)
        unread = stream.unread
        stream.close()
        if not unread:
            return b""
        self.unread -= unread
        return self.credit_due()

    def is_late(self, stream: Stream, now: float) -> bool:
        """Whether content has been arriving for too long after the end of its response."""
        since = stream.discarding_since
        return since is not None and now >= since + self.limits.discard_timeout

    def cut_late(self, now: float) -> bytes:
        """Reset streams whose content goes on arriving too long after their response. Call it now and then."""
        return b"".join(
            [stream.reset(ErrorCode.NO_ERROR) for stream in list(self.streams.values()) if self.is_late(stream, now)]
        )

    def lose(self, stream: Stream, was_reset: bool) -> bytes:
        """The stream has been reset in this read: `forget` it, and count what may run on for it."""
        if stream.owner is not None:
            self.budget.departed += 1
        return self.forget(stream, was_reset)

    def fail_stream(self, number: int, fault: StreamFault, events: list[Event]) -> None:
        """Reset a stream because of what the peer did (RFC 9113 section 5.4.2)."""
        if number > self.numbers.highest:
            # A stream that has not begun cannot be reset.
            raise ConnectionFault(fault.code, fault.reason)
        stream = self.streams.get(number)
        self.out += rst_stream_frame(number, fault.code)
        if stream is not None:
            self.out += self.lose(stream, True)
            events.append(StreamReset(stream, fault.code, fault.reason))
        self.out += self.credit_due()  # if the frame was DATA: the windows of other streams must not shrink
        self.spend(FAULT)

    def fail(self, fault: ConnectionFault, events: list[Event]) -> None:
        """End the connection because of what the peer did (RFC 9113 section 5.4.1)."""
        self.out += self.end(fault.code, fault.reason)
        events.append(Terminated(fault.code, fault.reason))

    def end(self, code: ErrorCode, reason: str) -> bytes:
        """Forget all streams, accept nothing more, and return the GOAWAY that says why."""
        self.phase = Phase.CLOSED
        self.heads.partial = None
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.close()
        self.unread = 0
        last = self.numbers.highest if self.numbers.last is None else self.numbers.last
        return goaway_frame(last, code, reason.encode("ascii", "replace")[:_MAX_DEBUG_BYTES])
