"""One WebSocket after its handshake, without I/O: the closing handshake, pings, and deadlines.

Theory of operation. There are three states. OPEN is the first. In CLOSING, our Close has been sent, and the peer's is
awaited. CLOSED is the last. The peer's Close, a broken rule, a lost connection or a missed deadline leads from OPEN or
CLOSING to CLOSED.

The caller passes received bytes to `receive_data`, which returns messages and at most one `Closed`. After each call,
the caller writes the control frames in `data_to_send`. Times are arguments, in seconds of one monotonic clock.
`next_deadline` returns when `handle_deadline` must be called.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from math import inf
from typing import TypeAlias

from fairway.protocols.websocket.decoder import Decoder, Item
from fairway.protocols.websocket.events import Close, Failure, LongText, Ping, Pong
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
    """The caller asked for something that the protocol does not allow in this state."""


class Closed:
    """The WebSocket has ended. `code` and `reason` are for the application. `fault`: whether the peer broke a rule."""

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

Event: TypeAlias = str | bytes | LongText | Closed

MESSAGE_TOO_SLOW = "message stopped arriving, or arrives too slowly"
"""The reason for closing if the peer does not continue a message that it has begun."""

_NOTHING: Sequence[Event] = ()
_PING = ping_frame()
_EMPTY_PONG = bytes((FIN | PONG, 0x80))  # its mask follows


class WebSocketProtocol:
    """The server's end of one WebSocket.

    `now` is the time of the handshake. `times` are three durations in seconds:

    * The *ping interval*: a Ping is sent after this time without a byte from the peer. 0 or infinity: never.
    * The *ping timeout*: the peer is given up if no byte comes for this time after a Ping. 0 or infinity: never.
    * The *close timeout*: how long the peer may take to answer our Close.

    `phase`, from 0 to 1, is the fraction of the interval after which the first Ping is due. Different phases spread the
    pings of many connections.
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
    """The control frames that `data_to_send` will return. Callers must not change it."""

    def __init__(
        self, decoder: Decoder, now: float, times: tuple[float, float, float] = (25, 20, 5), phase: float = 1.0
    ) -> None:
        self.decoder = decoder
        self.state = OPEN
        self.times = times  # ping interval, ping timeout, close timeout: one tuple for all connections
        interval = times[0] if times[0] < inf else 0
        # This pretends that the peer has been silent for a while, so that clients that connect together are not pinged
        # together.
        self.heard_at = now - interval * (1 - phase)
        self._closing: Closed | None = None  # the end that our own Close leads to
        self.out = b""
        self._pinged_at: float | None = None
        # The deadline is the sum of these two. Many connections share these objects, but they could not share the sum.
        self._since = self.heard_at
        self._wait: float = interval  # 0 for none

    def receive_data(self, data: bytes, now: float, budget: int = 256, room: float = inf) -> Sequence[Event]:
        """Take bytes from the peer, and return the events that they complete, within the budgets of `Decoder.decode`.

        Never raises because of what the peer sends. In CLOSED, input is ignored.
        """
        self.heard_at = now
        items = self.decoder.decode(data, budget, room)
        if self.decoder.controls or self.state is not OPEN:
            return self._handle(items)
        return items  # type: ignore[return-value]  # without controls they are messages

    def keep(self, data: bytes, now: float) -> None:
        """Take bytes without decoding them, while earlier bytes are pending (`Decoder.pending`)."""
        self.heard_at = now
        self.decoder.keep(data)

    def receive_pong(self, data: bytes, now: float) -> bool:
        """If these bytes are exactly the answer to our Ping, take them and return True.

        This is faster than `receive_data`. An idle client mostly sends nothing else.
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
            if isinstance(item, str | bytes | LongText):
                # After our Close, the application does not want any more messages.
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
                assert isinstance(item, Pong)  # nothing to do: `heard_at` has been set
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
        """Close as if the peer had broken a rule of the protocol: it has broken one of the server's. Only in OPEN."""
        return self._fail(Failure(code, reason))

    def receive_eof(self) -> list[Event]:
        """The peer has ended its side of the connection. The code is 1006, unless we have begun to close."""
        if self.state is CLOSED:
            return []
        if self._closing is not None:
            return [self._end(self._closing)]
        return [self._end(Closed(ABNORMAL_CLOSURE, "connection lost"))]

    def close(self, code: int, reason: str, now: float, timeout: float | None = None) -> None:
        """Begin the closing handshake. The peer has `timeout` seconds to answer, by default the close timeout.

        Raises ValueError for a code that may not be sent (RFC 6455 section 7.4), and `LocalProtocolError` unless the
        state is OPEN.
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
        """Return the control frames that are due, and forget them. Write them in order with messages."""
        out, self.out = self.out, b""
        return out

    def next_deadline(self) -> float | None:
        """When to call `handle_deadline`, or None. While OPEN, it never becomes earlier, so a set timer may stay."""
        if self.state is CLOSED or (self.state is OPEN and not self._wait):
            return None
        return self._since + self._wait

    def handle_deadline(self, now: float, reading: bool = True) -> Sequence[Event]:
        """Send a Ping if it is due, or end the connection if the peer has missed its deadline.

        `reading` is false while the server does not read from the socket. Then a missing Pong proves nothing, and the
        peer is not given up. Pings are still sent: if the peer is gone, writing fails.
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
        # The clock is coarse: a byte that came at the time of the Ping may be its answer.
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
