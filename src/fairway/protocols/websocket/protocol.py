"""One WebSocket after the handshake, without I/O: the closing handshake, pings, and when to give up.

States: OPEN -> CLOSING (our Close is sent, the peer's is awaited) -> CLOSED. The peer's Close, a broken rule, a lost
connection or a missed deadline leads to CLOSED from either. Bytes come in through `receive_data`; messages and at most
one `Closed` come out; what the protocol itself has to say lies in `data_to_send`. Time is an argument, in seconds of
any monotonic clock: `next_deadline` says when `handle_deadline` wants to be called.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from math import inf
from typing import TypeAlias

from fairway.protocols.websocket.decoder import Decoder, Item
from fairway.protocols.websocket.events import Close, Failure, Ping, Pong
from fairway.protocols.websocket.frames import (
    ABNORMAL_CLOSURE,
    FIN,
    NO_STATUS_RECEIVED,
    POLICY_VIOLATION,
    PONG,
    close_frame,
    is_valid_close_code,
    ping_frame,
    pong_frame,
)


class LocalProtocolError(Exception):
    """The application asked for something that the protocol does not allow in this state."""


class Closed:
    """The connection has ended: the code and reason for the application, and whether the peer broke a rule."""

    __slots__ = ("code", "fault", "reason")

    def __init__(self, code: int, reason: str, fault: bool = False) -> None:
        self.code = code
        self.reason = reason
        self.fault = fault


class State(enum.IntEnum):
    OPEN = 0
    CLOSING = 1
    CLOSED = 2


OPEN, CLOSING, CLOSED = State.OPEN, State.CLOSING, State.CLOSED

Event: TypeAlias = str | bytes | Closed

MESSAGE_TOO_SLOW = "message stopped arriving, or arrives too slowly"
"""Why a connection is closed whose peer does not go on with a message that it has begun."""

_NOTHING: Sequence[Event] = ()
_PING = ping_frame()
_EMPTY_PONG = bytes((FIN | PONG, 0x80))  # the rest of it is the mask


class WebSocketProtocol:
    """The server's end of one WebSocket. `now` is the time of the handshake; `phase`, from 0 to 1, is the part of the
    interval after which the first Ping is due, and spreads the pings of many.

    `ping_interval`: a Ping after that many seconds without a byte from the peer, 0 or infinity for none;
    `ping_timeout`: the peer is given up when nothing at all came for that long after it, 0 or infinity for never;
    `close_timeout`: how long the peer may take to answer our Close.
    """

    __slots__ = (
        "_closing",
        "_pinged_at",
        "_since",
        "_wait",
        "decoder",
        "heard_at",
        "out",
        "state",
        "times",
    )

    out: bytes
    """The control frames that are due, to be looked at; `data_to_send` hands them out."""

    def __init__(
        self, decoder: Decoder, now: float, times: tuple[float, float, float] = (25, 20, 5), phase: float = 1.0
    ) -> None:
        self.decoder = decoder
        self.state = OPEN
        self.times = times  # ping interval, ping timeout, close timeout: one tuple for all connections
        interval = times[0] if times[0] < inf else 0
        # As if the peer had been silent for a while already: else clients that came together would be pinged together.
        self.heard_at = now - interval * (1 - phase)
        self._closing: Closed | None = None  # how our own Close will have ended it
        self.out = b""
        self._pinged_at: float | None = None
        # The deadline, as a sum: both are objects that many connections share, and what they make would not be.
        self._since = self.heard_at
        self._wait: float = interval  # 0 for none

    def receive_data(self, data: bytes, now: float, budget: int = 256, room: float = inf) -> Sequence[Event]:
        """What these bytes complete, as far as the budgets go (see `Decoder.decode`). Nothing the peer sends raises;
        after the end, input is ignored.
        """
        self.heard_at = now
        items = self.decoder.decode(data, budget, room)
        if self.decoder.controls or self.state is not OPEN:
            return self._handle(items)
        return items  # type: ignore[return-value]  # without controls they are messages

    def keep(self, data: bytes, now: float) -> None:
        """Take bytes that come behind those that are pending (`Decoder.pending`), without decoding any."""
        self.heard_at = now
        self.decoder.keep(data)

    def receive_pong(self, data: bytes, now: float) -> bool:
        """Whether these bytes are the answer to our Ping, which is mostly all that an idle client ever sends; then
        there is nothing else to be done with them.
        """
        if data[:2] == _EMPTY_PONG and len(data) == 6 and self.decoder.is_at_rest:
            self.heard_at = now
            return True
        return False

    def _handle(self, items: list[Item]) -> list[Event]:
        events: list[Event] = []
        for item in items:
            if self.state is CLOSED:
                break
            if isinstance(item, str | bytes):
                # After our Close the application has said that it wants nothing more.
                if self.state is OPEN:
                    events.append(item)
            elif isinstance(item, Ping):
                if self.state is OPEN:
                    self._emit(pong_frame(item.data))
            elif isinstance(item, Close):
                events.append(self._peer_closes(item))
            elif isinstance(item, Failure):
                events.append(self._fail(item))
            else:
                assert isinstance(item, Pong)  # any byte from the peer proves it alive: nothing to do
        return events

    def _peer_closes(self, close: Close) -> Closed:
        if self._closing is not None:
            return self._end(self._closing)
        self._emit(close_frame(None if close.code == NO_STATUS_RECEIVED else close.code))
        return self._end(Closed(close.code, close.reason))

    def _fail(self, failure: Failure) -> Closed:
        if self._closing is not None:
            return self._end(self._closing)
        self._emit(close_frame(failure.code, failure.reason))
        return self._end(Closed(failure.code, failure.reason, fault=True))

    def give_up(self, code: int, reason: str) -> Closed:
        """The peer breaks a rule of ours: close, as if it were one of the protocol. Only while it is open."""
        return self._fail(Failure(code, reason))

    def receive_eof(self) -> list[Event]:
        """The peer will send no more bytes: 1006 unless the closing handshake was complete, or is ours."""
        if self.state is CLOSED:
            return []
        if self._closing is not None:
            return [self._end(self._closing)]
        return [self._end(Closed(ABNORMAL_CLOSURE, "connection lost"))]

    def close(self, code: int, reason: str, now: float, timeout: float | None = None) -> None:
        """Begin the closing handshake; the peer has `timeout`, else `close_timeout`, to answer. ValueError for a code
        that may not be sent (RFC 6455 section 7.4).
        """
        if self.state is not OPEN:
            raise LocalProtocolError("the connection is closing or closed already")
        if code != NO_STATUS_RECEIVED and not is_valid_close_code(code):
            raise ValueError(f"close code {code} may not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999")
        self._emit(close_frame(code, reason))
        self.state = CLOSING
        self._closing = Closed(code, reason)
        self._since, self._wait = now, self.times[2] if timeout is None else timeout

    def _end(self, closed: Closed) -> Closed:
        self.state = CLOSED
        return closed

    def _emit(self, data: bytes) -> None:
        self.out += data

    def data_to_send(self) -> bytes:
        """The control frames that are due, once; b"" when there are none. To be written in order with messages."""
        out, self.out = self.out, b""
        return out

    def next_deadline(self) -> float | None:
        """When `handle_deadline` has something to judge; it may move later as bytes come in, never earlier in OPEN."""
        if self.state is CLOSED or (self.state is OPEN and not self._wait):
            return None
        return self._since + self._wait

    def handle_deadline(self, now: float, reading: bool = True) -> Sequence[Event]:
        """Send a Ping, or give up. While reading is paused (`reading` false) no missing Pong is held against the
        peer, but Pings are sent: if the peer is not there any more, the network will say so.
        """
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return _NOTHING
        if self._closing is not None:
            return [self._end(self._closing)]
        if not reading:
            self.decoder.forgive()
        elif self.decoder.is_too_slow(now):
            return [self._fail(Failure(POLICY_VIOLATION, MESSAGE_TOO_SLOW))]
        interval, timeout, _ = self.times
        quiet_since = self.heard_at
        pinged_at = self._pinged_at
        # A byte heard at the time of the ping, on a coarse clock, may be the answer to it.
        if pinged_at is not None and quiet_since < pinged_at and reading and 0 < timeout < inf:
            if now >= pinged_at + timeout:
                return [self._end(Closed(ABNORMAL_CLOSURE, "no answer to a ping"))]
            if pinged_at + timeout < now + interval:
                self._since, self._wait = pinged_at, timeout
            else:
                self._since, self._wait = now, interval
        elif quiet_since + interval <= now:
            self.out += _PING
            self._pinged_at = now if reading else None
            self._since, self._wait = now, min(timeout or interval, interval) if reading else interval
        else:
            self._pinged_at = None
            self._since, self._wait = quiet_since, interval
        return _NOTHING
