"""One HTTP/1.1 connection: the asyncio protocol that carries requests one after the other.

`fairway.protocols.http1` has the rules of the protocol, `fairway.asgi.http` those of the ASGI conversation, and
`fairway.server.wire` those of the socket. This module joins them and keeps the deadlines of requests. It hands the wire
to a `WebSocketConnection` or an `Http2Connection` if the client asks for one. Pipelined requests wait as bytes in the
protocol core until the response before them is complete.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fairway.asgi.errors import ProtocolMisuse
from fairway.asgi.http import HttpExchange
from fairway.asgi.scope import UNKNOWN, Origin, origin, websocket_scope
from fairway.asgi.types import Headers
from fairway.protocols.http1 import (
    BodyReceived,
    Http1Protocol,
    LocalProtocolError,
    OtherProtocolReceived,
    PrefaceReceived,
    RequestEnded,
    RequestFailed,
    RequestHead,
)
from fairway.protocols.websocket import handshake
from fairway.server.admission import TOO_MANY, TOO_MANY_OF_ADDRESS
from fairway.server.exchanges import (
    BODY_TOO_SLOW,
    MAX_JOINED_BYTES,
    begin,
    expect_end,
    open_exchange,
)
from fairway.server.http1.handshake import UpgradeHandshake
from fairway.server.http2.connection import Http2Connection
from fairway.server.pace import next_deadline
from fairway.server.websocket.metered import websocket_kind
from fairway.server.wire import Wire

if TYPE_CHECKING:
    from fairway.server.context import ServerContext


class Http1Connection(asyncio.Protocol):
    """Carries `HttpExchange`s over HTTP/1.1 (`fairway.asgi.http.HttpCarrier`).

    It is in one of four states, each with a deadline of its own:

    * *Idle*: no request has begun. After `keep_alive_timeout`, or `request_head_timeout` on a new connection, it is
      closed without a response (RFC 9112 section 9.5).
    * *Reading a head*: after `request_head_timeout` from its first byte, the answer is 408.
    * *In an exchange*: there is no deadline, except while a body is awaited or the client seems to have left. If bytes
      of the next request arrive, they wait in the protocol core, and reading stops.
    * *Closing*: nothing more is answered. What arrives is thrown away until the peer ends its side (`Wire.finish`).

    The application's task may outlive the exchange, and even the connection. If the client leaves before the response
    is complete, the application is told, and cancelled if it does not end within `disconnect_timeout`. `_application`
    is the exchange to which this applies; it is None after a complete response, when the task may run on.
    """

    __slots__ = (
        "_application",
        "_client",
        "_closing",
        "_context",
        "_deadline",
        "_due",
        "_endpoint",
        "_entrance",
        "_exchange",
        "_has_left",
        "_http",
        "_refused",
        "_taken_at_eof",
        "outbox",
        "wheel_slot",
    )

    def __init__(self, context: ServerContext, endpoint: socket.socket | None = None, known: Origin = UNKNOWN) -> None:
        self._client, self._entrance = known
        self._context = context
        self._endpoint = endpoint
        limits = context.limits
        self._http = Http1Protocol(
            max_request_line_bytes=limits.max_request_line_bytes,
            max_header_bytes=limits.max_header_bytes,
            max_header_count=limits.max_header_count,
            max_cookies=limits.max_cookies,
        )
        self.wheel_slot: int | None = None
        self._exchange: HttpExchange | None = None
        self._application: HttpExchange | None = None  # its application has to end when the client leaves
        self._refused = False
        self._taken_at_eof = 0
        self._has_left = False
        self._closing = False
        self._deadline: float | None = None
        self._due = 0.0  # the deadline that the wheel knows; meaningful while `wheel_slot` is set

    # From the socket ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream, never less
        context = self._context
        if self._entrance is UNKNOWN[1]:
            self._client, self._entrance = origin(transport)
        endpoint, self._endpoint = self._endpoint, None
        self.outbox = Wire(transport, context, self, endpoint)
        context.counters.connections += 1
        context.add(self)
        self._set_deadline(context.touch() + context.limits.request_head_timeout)
        if not context.admission.keeps("503"):
            self._refused = True
            self._refuse(*TOO_MANY)

    def data_received(self, data: bytes) -> None:
        # A request without a body is usually complete with one read, and needs no deadline.
        if self._closing:
            self.outbox.discard()
            return
        http = self._http
        self._context.batch.received += len(data)
        events = http.receive_data(data)
        if events:
            self._handle(events)
        elif self._exchange is None and self._deadline is not None and http.request is None:
            # A head has begun. Its deadline counts from the first byte, and later bytes do not move it.
            deadline = self._context.touch() + self._context.limits.request_head_timeout
            if deadline < self._deadline:
                self._set_deadline(deadline)
        if http.buffered:
            self._read_on()

    def eof_received(self) -> bool:
        self.outbox.eof = True
        self._context.batch.wake_to_end(self)
        return not self.outbox.is_ending

    def wake(self) -> None:
        """Handle that the client has ended its side. It may still wait for its answer (RFC 9112 section 9.6).

        Thousands of clients may do so at once, so the batch calls this for one after the other.
        (`fairway.delivery.Sleeper`)
        """
        if self.outbox.transport is None:
            return
        if not self._closing:
            self._handle(self._http.receive_eof())
        if self._exchange is None:
            self._close()
        elif self._exchange.has_whole_body:
            self._expect_end(self._exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        self._closing = True
        self.outbox.lost()
        context.wheel.cancel(self)
        exchange = self._exchange
        if exchange is not None:
            self._exchange = None
            exchange.lost()
        if self._refused:
            context.admission.refusing -= 1
        context.remove(self)
        if self._application is not None:
            self._set_deadline(context.touch() + context.limits.disconnect_timeout)

    def pause_writing(self) -> None:
        self.outbox.pause_writing()

    def resume_writing(self) -> None:
        self.outbox.resume_writing()

    def _read_on(self) -> None:
        """Read on. But first, what was read has to be taken: a body in tiny chunks in later passes (the backlog calls),
        as far as the application has room for it (`body_taken` comes back here), later requests after this one
        (`_next_request`).
        """
        if self._closing:
            return
        http, exchange, context = self._http, self._exchange, self._context
        has_room = exchange is None or exchange.buffered < context.limits.body_buffer_bytes
        if http.buffered:
            self.outbox.pause_reading()
            if has_room and http.is_parted:
                context.backlog.add(self)
        elif has_room:
            self._has_left = False  # if the client has left, reading will show it
            self.outbox.resume_reading()

    def go_on_reading(self) -> bool:
        """Take some more of the chunks that were read. (`fairway.server.backlog.Reader`)"""
        if not self._closing:
            self._handle(self._http.receive_data(b""))
            self._read_on()
        return False

    def peer_has_left(self, is_reset: bool) -> None:
        """The stream has ended while reading was paused. (`fairway.server.paused.PausedConnection`)"""
        exchange = self._exchange
        if is_reset:
            self.abort()
        elif exchange is not None:
            self._has_left = True
            # Before the end lies unread either the rest of the body, which the application may still take, or bytes
            # that follow this request.
            if exchange.has_whole_body:
                self._expect_end(exchange)
            else:
                self._doubt(exchange)

    # Requests -------------------------------------------------------------------------------------------------

    def _handle(self, events: list[Any]) -> None:
        for event in events:
            kind = type(event)
            if kind is RequestHead:
                self._begin(event)
            elif kind is RequestEnded:
                if self._exchange is not None:
                    self._deadline = None
                    self._exchange.feed_end()
                    if self.outbox.eof or self._has_left:
                        self._expect_end(self._exchange)
            elif kind is BodyReceived:
                if self._exchange is not None:
                    self._deadline_of_body(len(event.data))
                    if self._exchange.feed(event.data) >= self._context.limits.body_buffer_bytes:
                        self.outbox.pause_reading()
            else:
                assert isinstance(event, RequestFailed)
                self._fail(event)

    def _begin(self, head: RequestHead) -> None:
        context = self._context
        self._deadline = None
        if head.upgrade == b"websocket":
            self._upgrade(head)
            return
        exchange = open_exchange(HttpExchange, self, context, head, head.expect_continue, self._client, self._entrance)
        self._exchange = self._application = exchange
        if begin(exchange, context) and (head.content_length or head.chunked):
            self._deadline_of_body()

    def _deadline_of_body(self, size: int = 0) -> None:
        # A client that stops in the middle of a body gets as long as an idle connection. Each byte moves the deadline
        # (`fairway.server.pace`). Without `size` the time begins anew.
        limits, now = self._context.limits, self._context.touch()
        rate = limits.min_body_rate if size else 0
        self._set_deadline(next_deadline(self._deadline or now, now, size, rate, limits.keep_alive_timeout))

    def _upgrade(self, head: RequestHead) -> None:
        """Hand the wire over to a `WebSocketConnection`, or refuse the handshake."""
        context = self._context
        limits = context.limits
        offer = handshake.check(head.method, head.version, head.headers, limits.deflate, limits.max_subprotocols)
        if head.content_length or head.chunked:
            offer = handshake.Refusal(400, "the handshake has content (RFC 6455 section 4.1)")
        if isinstance(offer, handshake.Refusal):
            scope = websocket_scope(head, [], context.config.root_path, self._client, self._entrance, None)
            context.fault("handshake", scope, f"{offer.reason}; answered with {offer.status}")
            self._refuse(offer.status, offer.reason, offer.headers)
            context.access.websocket_rejected(scope, offer.status)
            return
        wire = self.outbox
        assert wire.transport is not None
        scope = websocket_scope(
            head, offer.subprotocols, context.config.root_path, self._client, self._entrance, context.state
        )
        place = context.admission.place_of_websocket(scope, False)
        if place is None:
            self._refuse(*TOO_MANY_OF_ADDRESS)
            context.access.websocket_rejected(scope, TOO_MANY_OF_ADDRESS[0])
            return
        opening = UpgradeHandshake(context, self, offer, wire, self._http)
        websocket = websocket_kind(context.limits)(context, wire, opening, scope)
        if context.admission.addresses is not None:
            context.admission.addresses.keep(websocket, place)
        # The handshake's deadline is usually later than the one in the wheel, so the wheel's entry can stay as it is.
        context.wheel.hand_over(self, websocket)
        self._closing = True
        wire.transport.set_protocol(websocket)
        context.remove(self)
        websocket.start(scope)

    def _fail(self, failure: RequestFailed) -> None:
        context = self._context
        if type(failure) is PrefaceReceived and context.limits.http2:
            context.wheel.cancel(self)
            self._closing = True
            Http2Connection(context).take_over(self.outbox, self._client, self._entrance, failure.data)
            context.remove(self)
            return
        if type(failure) is OtherProtocolReceived and context.limits.http2:
            context.fault("bad request", self._scope_for_log(), f"{failure.reason}; closed without an answer")
            self._linger()
            return
        context.fault("bad request", self._scope_for_log(), f"{failure.reason}; answered with {failure.status}")
        exchange = self._exchange
        if exchange is not None:
            # The body is incomplete or malformed. The application is told of a disconnect.
            self._exchange = None
            if exchange.started:
                exchange.lost()
                self.abort()
                return
            exchange.disconnect()
        size = self._refuse(failure.status, failure.reason, [])
        if exchange is not None:
            exchange.log(failure.status, size)

    def _scope_for_log(self) -> dict[str, Any]:
        return self._exchange.scope if self._exchange is not None else {"client": self._client, "path": "-"}

    def _refuse(self, status: int, reason: str, headers: Headers) -> int:
        """Answer without the application, and close. Return the size of the answer's content in bytes."""
        response = self._http.error_response(
            status, reason, default_headers=self._context.defaults().lines, extra_headers=headers
        )
        self.outbox.append(response)
        self._linger()
        return len(response.partition(b"\r\n\r\n")[2])

    # The application's answer (`fairway.asgi.http.HttpCarrier`) ---------------------------------------------------

    def send_continue(self) -> None:
        _write(self.outbox, self._http.send_informational, 100, ())

    def send_early_hints(self, headers: Headers) -> bool:
        return _write(self.outbox, self._http.send_informational, 103, headers)

    def send_whole(self, status: int, headers: Headers, body: bytes) -> bool:
        context = self._context
        if context.draining or len(body) > MAX_JOINED_BYTES:
            return False
        data = self._http.send_whole(status, tuple(headers), body, context.defaults().plain_heads)
        if data is None:
            return False
        self.outbox.append(data)
        return True

    def send_start(self, status: int, headers: Headers, trailers: bool) -> None:
        if self._context.draining:
            headers = [*headers, (b"connection", b"close")]
        defaults = self._context.defaults().lines
        _write(self.outbox, self._http.send_response, status, headers, default_headers=defaults, trailers=trailers)

    def send_body(self, data: bytes, more: bool) -> bool:
        return _write(self.outbox, self._http.send_body, data, more)

    def send_trailers(self, headers: Headers) -> bool:
        return _write(self.outbox, self._http.send_trailers, headers)

    def body_taken(self) -> None:
        if not self.outbox.reading and self._deadline is not None and not self._http.buffered:
            self._deadline_of_body()  # nothing could arrive while reading was paused
        self._read_on()

    def response_complete(self) -> None:
        # From here on, the application is not told or cancelled when the client leaves.
        self._exchange = self._application = None
        self.outbox.flush_alone()
        if self._closing:
            return
        http = self._http
        if http.should_close or self._context.draining:
            self._linger()
            return
        if http.buffered or self.outbox.eof:
            # Not inside the application's `send`: the next request gets a turn of its own.
            self._context.loop.call_soon(self._next_request)
        else:
            self._next_request()

    def _next_request(self) -> None:
        if self._closing or self._exchange is not None:
            return
        context = self._context
        self._set_deadline(context.touch() + context.limits.keep_alive_timeout)
        events = self._http.next_request()
        if events:
            self._handle(events)
        if not self.outbox.reading:
            self._read_on()
        if self.outbox.eof and self._exchange is None and not self._closing:
            self._close()

    def application_ended(self, exchange: HttpExchange) -> None:
        if self._application is exchange:
            self._application = None
            if self.outbox.transport is None:
                self._context.wheel.cancel(self)

    def refuse(self, status: int, reason: str) -> int:
        self._exchange = None
        return self._refuse(status, reason, [])

    def break_off(self) -> None:
        self._exchange = None
        self.outbox.flush()  # let the client see how far the response came
        self.abort()

    # Endings --------------------------------------------------------------------------------------------------

    def _linger(self) -> None:
        """End our side, and discard what is read until the client ends its own. (`Wire.finish`)"""
        self._closing = True
        if self.outbox.is_ending:
            return
        self._deadline = None
        if not self.outbox.eof:
            self.outbox.resume_reading()
        self.outbox.finish()

    def _close(self) -> None:
        self._closing = True
        self.outbox.close()

    # Deadlines are lazy. `_deadline` is the true one, and moves with every request. `_due` is the one that the wheel
    # knows. If the wheel calls too early, `handle_deadline` returns the next one. So a busy connection, whose deadline
    # moves later with every request, does not call the wheel.

    def _set_deadline(self, deadline: float) -> None:
        self._deadline = deadline
        # A later deadline need not be scheduled: the wheel calls at the earlier one.
        if self.wheel_slot is None or deadline < self._due:
            self.schedule(deadline)

    def schedule(self, deadline: float) -> None:
        """Make sure that `handle_deadline` is called at this time. (`fairway.server.wire.Owner`)"""
        if self.wheel_slot is None or deadline < self._due:
            self._due = deadline
        self._context.schedule(self, deadline)

    def handle_deadline(self, now: float) -> float | None:
        """Act on all deadlines that have passed, and return the next one. (`fairway.timing.wheel.Entry`)"""
        wire = self.outbox
        if wire.handle_deadline(now):
            self._closing = True
            self._context.client_stalled(self._scope_for_log())
            return None
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._time_is_up()
        deadlines = [deadline for deadline in (self._deadline, wire.next_deadline()) if deadline is not None]
        if not deadlines:
            return None
        self._due = min(deadlines)
        return self._due

    def _time_is_up(self) -> None:
        if self.outbox.transport is None:
            if self._application is not None and self._application.task is not None:
                self._context.cancel_hanging(self._application.task, self._scope_for_log())
        elif self._closing:
            self.abort()
        elif self._exchange is not None:
            self._judge_silence(self._exchange)
        elif self._http.is_idle:
            self._close()
        else:
            self._fail(RequestFailed(408, "request head not complete in time: RFC 9110 section 15.5.9"))

    def _judge_silence(self, exchange: HttpExchange) -> None:
        # Find out who is silent. A client that has ended its side may be waiting for its response; if it has taken a
        # byte meanwhile, it is still there. If reading is paused, the application is slow, not the client. Otherwise
        # the client owes the rest of its body.
        if self.outbox.eof or self._has_left:
            if not self.outbox.blocked and exchange.sent_bytes == self._taken_at_eof:
                self.abort()
            else:
                self._doubt(exchange)
        elif not self.outbox.reading:
            self._deadline_of_body()
        else:
            self._context.counters.slow_senders += 1
            self._fail(RequestFailed(408, BODY_TOO_SLOW))

    def _expect_end(self, exchange: HttpExchange) -> None:
        expect_end(exchange, self._context)
        self._doubt(exchange)

    def _doubt(self, exchange: HttpExchange) -> None:
        # The client has as long to take the next byte as an application has to end.
        self._taken_at_eof = exchange.sent_bytes
        self._set_deadline(self._context.touch() + self._context.limits.disconnect_timeout)

    @property
    def held_bytes(self) -> int:
        """How many bytes this connection keeps: unsent responses, the body that the application has not taken, and
        what belongs to later requests or to an incomplete head.
        """
        exchange = self._exchange
        requests = self._http.buffered + self._http.reader.held_bytes
        return self.outbox.held_bytes + requests + (0 if exchange is None else exchange.buffered)

    # For the server -------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Finish the request under way, then close; an idle connection closes at once.

        An event stream would never finish, so it ends now, and its client reconnects.
        """
        if self._exchange is None:
            self._close()
        elif self._exchange.is_event_stream:
            self._exchange.end_stream()

    def abort(self) -> None:
        """Drop the connection."""
        self._closing = True
        self.outbox.abort()


def _write(wire: Wire, frame: Callable[..., bytes], *arguments: Any, **options: Any) -> bool:
    """Write what `frame`, a method of the protocol core, returns. True if the outbox was flushed at once.

    Raises `ProtocolMisuse` if the core refuses, because that is the application's mistake.
    """
    try:
        data = frame(*arguments, **options)
    except LocalProtocolError as error:
        raise ProtocolMisuse(str(error)) from None
    return bool(data) and wire.append(data)
