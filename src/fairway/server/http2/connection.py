"""One HTTP/2 connection: the asyncio protocol that carries many requests at once.

`fairway.protocols.http2` has the rules of the protocol, `fairway.server.http2.stream` one request,
`fairway.server.http2.output` the sharing of the socket, and `fairway.server.wire` the socket itself. This module joins
them. It passes events to the owners of streams, and keeps the deadlines of the connection as a whole.

All streams write into one outbox, which is written once in a pass of the loop. The protocol's own answers go into it
first: a SETTINGS frame must be acknowledged before anything is sent that relies on it.

A connection is in one of three states:

* *open*: it takes requests.
* *going*: after `drain`. A GOAWAY has named the last stream; when that is complete, the connection closes.
* *closing*: our side has ended, or is about to, and input is thrown away. This takes up to `close_timeout`, because
  closing a socket with unread input resets the connection, and the client would never see the reason.

Lifetime: connection -> protocol -> streams -> owners -> connection. The cycles are cut in `connection_lost`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from fairway.asgi.scope import Address, Entrance, origin
from fairway.protocols.http2 import (
    DataReceived,
    ErrorCode,
    GoingAway,
    Http2Protocol,
    PingAcknowledged,
    RequestFailed,
    RequestReceived,
    Stream,
    StreamRefused,
    StreamReset,
    Terminated,
    WindowOpened,
    ping_frame,
)
from fairway.server.admission import TOO_MANY
from fairway.server.http2.leaving import Leaving
from fairway.server.http2.output import StreamWriter
from fairway.server.http2.stream import RequestStream, StreamOwner
from fairway.server.http2.watch import Verdict, Watch
from fairway.server.http2.websocket import open_websocket
from fairway.server.wire import Wire

if TYPE_CHECKING:
    from fairway.server.context import ServerContext

_PING = ping_frame(b"fairway?")


class Http2Connection(asyncio.Protocol):
    """Shares a `Wire` among streams. (`fairway.server.wire.Owner`)"""

    __slots__ = (
        "_due",
        "_endpoint",
        "_is_closing",
        "_is_going",
        "_refused",
        "client",
        "context",
        "entrance",
        "leaving",
        "outbox",
        "protocol",
        "watch",
        "websockets",
        "wheel_slot",
        "writer",
    )

    client: Address
    entrance: Entrance
    outbox: Wire
    protocol: Http2Protocol
    watch: Watch
    websockets: int
    """How many of the streams carry a WebSocket."""
    writer: StreamWriter

    def __init__(self, context: ServerContext, endpoint: socket.socket | None = None) -> None:
        self.context = context
        self.leaving = Leaving(context)
        self.wheel_slot: int | None = None
        self._endpoint = endpoint
        self.websockets = 0
        self._due = 0.0  # the deadline that the wheel knows of
        self._is_going = self._is_closing = self._refused = False

    # From the socket ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream, never less
        context = self.context
        self.client, self.entrance = origin(transport)
        endpoint, self._endpoint = self._endpoint, None
        context.counters.connections += 1
        self._begin(Wire(transport, context, self, endpoint))
        if not context.admission.keeps("GOAWAY"):
            self._refused = True
            self.terminate(ErrorCode.NO_ERROR, TOO_MANY[1])

    def take_over(self, wire: Wire, client: Address, entrance: Entrance, data: bytes) -> None:
        """Take over the wire of an HTTP/1.1 connection, and the data that it has read (prior knowledge, RFC 9113
        section 3.3).
        """
        self.client, self.entrance = client, entrance
        wire.owner = self
        assert wire.transport is not None
        wire.transport.set_protocol(self)
        self._begin(wire)
        self.data_received(data)

    def _begin(self, wire: Wire) -> None:
        context = self.context
        now = context.touch()
        self.outbox = wire
        wire.scheduler = wire.scheduler.carriers  # the outboxes of WebSockets are flushed into it
        self.protocol = Http2Protocol(context.http2_limits, now)
        self.watch = Watch(context.limits, now)
        self.writer = StreamWriter(wire, self.protocol, context.limits.http2_outbox_bytes)
        context.add(self)
        wire.append(self.protocol.data_to_send())
        self.schedule(now + min(context.limits.settings_timeout, context.limits.keep_alive_timeout))
        if context.draining:
            self.drain()

    def data_received(self, data: bytes) -> None:
        outbox = self.outbox
        if self._is_closing:
            outbox.discard()
            return
        protocol = self.protocol
        self.watch.heard_at = now = self.context.now
        self.context.batch.carriers.received += len(data)
        rest = protocol.receive_messages(data)
        if rest:
            self._receive(protocol, rest, now)
        if outbox.blocked and outbox.size >= outbox.high_water:
            outbox.pause_reading()  # a client that takes no answers is not read: `resume_writing` goes on
        elif protocol.held is not None and protocol.is_parted:
            outbox.pause_reading()
            self.context.backlog.add(self)
        elif not data:
            outbox.resume_reading()

    def go_on_reading(self) -> bool:
        """Take some more of the frames that were read. If these were all, read on. (`fairway.server.backlog.Reader`)"""
        if self._is_closing:
            self.outbox.resume_reading()
        else:
            self.data_received(b"")
        return False

    def _receive(self, protocol: Http2Protocol, data: bytes, now: float) -> None:
        watch, streams = self.watch, protocol.streams
        events = protocol.receive_data(data, now)
        if protocol.out:
            self.outbox.append(protocol.data_to_send())
        for event in events:
            _HANDLERS[type(event)](self, event)
        if protocol.streams is not streams:
            self.ended(_owners(streams))  # the protocol has ended, and has forgotten its streams
        if not protocol.is_waiting:
            watch.head_since = None
        elif watch.head_since is None:
            watch.head_since = now = self.context.touch()
            self.schedule(now + self.context.limits.request_head_timeout)

    def eof_received(self) -> bool:
        # As over HTTP/1.1, the client may still wait for its answers, as far as its windows allow them.
        wire = self.outbox
        wire.eof = True
        if not self._is_closing:
            self.watch.left_at = now = self.context.touch()
            self.schedule(now + self.context.limits.disconnect_timeout)
            for owner in _owners(self.protocol.streams):
                owner.expect_end()
            _cut_late(self, inf)
        if self._is_closing or not self.protocol.streams:
            self._close()
        return not wire.is_ending

    def connection_lost(self, exc: Exception | None) -> None:
        context = self.context
        self._is_closing = True
        owners = _owners(self.protocol.streams)
        self.protocol.close()
        self.outbox.lost()
        context.wheel.cancel(self)
        if self._refused:
            context.admission.refusing -= 1
        context.remove(self)
        _tell(owners)
        self.writer.waiting.clear()
        # This includes the applications of streams that were reset before.
        if (deadline := self.leaving.judge(context.touch())) is not None:
            self.schedule(deadline)

    def pause_writing(self) -> None:
        self.outbox.pause_writing()

    def resume_writing(self) -> None:
        outbox = self.outbox
        outbox.resume_writing()
        if outbox.blocked:
            return
        self.writer.go_on(self.context.touch())
        if not outbox.reading:
            self.context.backlog.add(self)

    def peer_has_left(self, is_reset: bool) -> None:
        """The stream has ended while reading was paused. (`fairway.server.paused.PausedConnection`)"""
        if is_reset:
            self.abort()  # otherwise the end is read once the peer has taken what waits for it

    # For the streams ------------------------------------------------------------------------------------------

    def stream_ended(self) -> None:
        """A stream is complete, or was reset."""
        if self.protocol.streams or self._is_closing:
            return
        self.outbox.flush_alone()
        self.watch.idle_since = self.context.now
        if self._is_going:
            self._finish()
        elif self.outbox.eof:
            self._close()

    def lingering_ended(self) -> None:
        """An application that outlived its stream has ended."""
        self.protocol.lingering -= 1
        if not self.protocol.lingering and self.outbox.transport is None:
            self.leaving.clear()
            self.context.wheel.cancel(self)

    def fault(self, kind: str, text: str) -> None:
        """Log a fault of the peer that belongs to no request."""
        self.context.fault(kind, {"client": self.client, "path": "-"}, text)

    # Endings --------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take no more requests, finish those in progress, then close. It begins with a warning, so that no request
        that is already on its way gets lost (RFC 9113 section 6.8).
        """
        if self._is_closing or self._is_going or self.watch.warned_at is not None:
            return
        self.watch.warned_at = now = self.context.touch()
        self.outbox.append(self.protocol.warn() + _PING)
        self.schedule(now)
        for owner in _owners(self.protocol.streams):
            owner.drain()

    def shut_down(self) -> None:
        """Name the last stream, and close when it is complete."""
        self.watch.warned_at = None
        self._is_going = True
        self.outbox.append(self.protocol.shut_down())
        if not self.protocol.streams:
            self._finish()

    def terminate(self, code: ErrorCode, reason: str) -> None:
        """End the connection, and every request in progress."""
        owners = _owners(self.protocol.streams)
        self.outbox.append(self.protocol.terminate(code, reason))
        self.ended(owners)

    def ended(self, owners: Iterable[StreamOwner]) -> None:
        """The protocol has ended. `owners` are those of the streams that were open."""
        self._is_closing = True
        _tell(owners)
        self._finish()

    def _finish(self) -> None:
        """End our side, then read and discard until the client ends its own."""
        self._is_closing = True
        if not self.outbox.eof:
            self.outbox.resume_reading()
        self.outbox.finish()

    def _close(self) -> None:
        self._is_closing = True
        self.outbox.close()

    def abort(self) -> None:
        """Drop the connection."""
        self._is_closing = True
        self.outbox.abort()

    # Deadlines ------------------------------------------------------------------------------------------------

    def schedule(self, deadline: float) -> None:
        """Make sure that `handle_deadline` is called at this time. (`fairway.server.wire.Owner`)"""
        if self.wheel_slot is None or deadline < self._due:
            self._due = deadline
            self.context.schedule(self, deadline)

    def handle_deadline(self, now: float) -> float | None:
        """Act on every deadline that has passed. Returns the next one. (`fairway.timing.wheel.Entry`)"""
        outbox = self.outbox
        if outbox.handle_deadline(now):
            self._is_closing = True
            self.context.client_stalled({"client": self.client, "path": "-"})
        deadlines = [self.leaving.judge(now)]
        if not self._is_closing:
            deadlines += [owner.handle_deadline(now) for owner in _owners(self.protocol.streams)]
            _cut_late(self, now)
            # Not later than a PING would be due for a request that comes next.
            deadlines += [self._judge(now), now + self.context.limits.ping_interval]
        deadlines.append(outbox.next_deadline())
        following = [deadline for deadline in deadlines if deadline is not None]
        if not following:
            return None
        self._due = min(following)
        return self._due

    def _judge(self, now: float) -> float | None:
        while not self._is_closing:
            has_streams = bool(self.protocol.streams)
            deadline, verdict = self.watch.deadline(self.protocol, has_streams, self.outbox.reading)
            if now < deadline:
                return deadline
            _VERDICTS[verdict](self, now)
        return None


def _owners(streams: Mapping[int, Stream]) -> list[StreamOwner]:
    return [stream.owner for stream in streams.values() if stream.owner is not None]


def _tell(owners: Iterable[StreamOwner]) -> None:
    for owner in owners:
        owner.lost()


def _cut_late(connection: Http2Connection, now: float) -> None:
    """Reset streams whose requests the client has not completed long after they were answered."""
    data = connection.protocol.cut_late(now)
    if data:
        connection.outbox.append(data)
        connection.stream_ended()


# What the peer has done -----------------------------------------------------------------------------------------------


def _request(connection: Http2Connection, event: RequestReceived) -> None:
    if not event.stream.is_open:
        return  # a later frame of the same read has reset it
    if event.head.protocol is not None:
        open_websocket(connection, event.stream, event.head, event.ended)
    else:
        RequestStream(connection, event.stream, event.head, event.ended).start()


def _failed(connection: Http2Connection, event: RequestFailed) -> None:
    connection.fault("bad request", f"{event.reason}; answered with {event.status}")
    defaults = connection.context.defaults().fields
    connection.outbox.append(event.stream.error_response(event.status, event.reason, default_headers=defaults))
    if event.stream.discarding_since is not None:
        connection.schedule(connection.context.touch() + connection.context.limits.close_timeout)
    connection.stream_ended()


def _data(connection: Http2Connection, event: DataReceived) -> None:
    stream, data, ended = event
    if stream.owner is not None:
        stream.owner.data_received(data, ended)
    elif ended:
        connection.stream_ended()  # the request was answered before


def _reset(connection: Http2Connection, event: StreamReset) -> None:
    if event.reason:
        connection.fault("bad request", f"{event.reason}; stream reset with {event.code}")
    if event.stream.owner is not None:
        event.stream.owner.lost()
    connection.stream_ended()


def _refused(connection: Http2Connection, event: StreamRefused) -> None:
    context = connection.context
    context.counters.refused += 1
    connection.fault("stream limit", f"more than {context.limits.http2_max_streams} requests at once: refused")


def _window_opened(connection: Http2Connection, event: WindowOpened) -> None:
    writer, now = connection.writer, connection.context.touch()
    if event.stream is None:
        writer.go_on(now)
    elif event.stream.owner is not None:
        writer.go_on(now, [event.stream.owner])


def _ping_acknowledged(connection: Http2Connection, event: PingAcknowledged) -> None:
    if connection.watch.warned_at is not None:
        connection.shut_down()


def _going_away(connection: Http2Connection, event: GoingAway) -> None:
    """Do nothing: the peer sends no more requests, and waits for its answers."""


def _terminated(connection: Http2Connection, event: Terminated) -> None:
    connection.fault("protocol error", f"{event.reason}; closed with {event.code}")


_HANDLERS: dict[type, Callable[[Http2Connection, Any], None]] = {
    RequestReceived: _request,
    RequestFailed: _failed,
    DataReceived: _data,
    StreamReset: _reset,
    StreamRefused: _refused,
    WindowOpened: _window_opened,
    PingAcknowledged: _ping_acknowledged,
    GoingAway: _going_away,
    Terminated: _terminated,
}


# What has taken too long ----------------------------------------------------------------------------------------------


def _no_settings(connection: Http2Connection, now: float) -> None:
    _give_up(connection, ErrorCode.SETTINGS_TIMEOUT, "settings not acknowledged in time: RFC 9113 section 6.5.3")


def _no_head(connection: Http2Connection, now: float) -> None:
    _give_up(connection, ErrorCode.PROTOCOL_ERROR, "request head not complete in time: RFC 9110 section 15.5.9")


def _give_up(connection: Http2Connection, code: ErrorCode, reason: str) -> None:
    connection.fault("bad connection", f"{reason}; closed with {code}")
    connection.terminate(code, reason)


def _idle(connection: Http2Connection, now: float) -> None:
    connection.shut_down()


def _ask(connection: Http2Connection, now: float) -> None:
    connection.watch.asked_at = now
    connection.outbox.append(_PING)


def _silent(connection: Http2Connection, now: float) -> None:
    connection.fault("no answer to ping", "client answers no PING: dropped")
    connection.abort()


def _going(connection: Http2Connection, now: float) -> None:
    connection.shut_down()


def _left(connection: Http2Connection, now: float) -> None:
    if connection.outbox.blocked or connection.watch.has_moved(connection.protocol.window):
        connection.watch.left_at = now
    else:
        connection.abort()


_VERDICTS: dict[Verdict, Callable[[Http2Connection, float], None]] = {
    Verdict.NO_SETTINGS: _no_settings,
    Verdict.NO_HEAD: _no_head,
    Verdict.IDLE: _idle,
    Verdict.ASK: _ask,
    Verdict.SILENT: _silent,
    Verdict.GOING: _going,
    Verdict.LEFT: _left,
}
