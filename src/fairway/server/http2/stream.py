"""One request over a stream of HTTP/2: the carrier of an `HttpExchange`.

A `RequestStream` lives from the head of its request until its response is complete and written, or the stream is reset.
If its application runs on after that, it still counts among the peer's open streams. Otherwise a peer could start any
number of applications by resetting its streams (CVE-2023-44487).

While the windows allow it, output goes straight into the outbox of the connection. The rest waits in a `StreamOutput`,
which is the stream's `outbox` then. So an application waits for its own stream and for the socket. It waits for other
streams only while its own cannot send, and what waits for all of them takes as much memory as it may. Received content
is credited to the peer's windows when the application takes it (`body_taken`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from fairway.asgi.errors import ProtocolMisuse
from fairway.asgi.http import HttpExchange, Waiting
from fairway.asgi.scope import Address, Entrance
from fairway.asgi.types import Headers
from fairway.protocols.http2 import ErrorCode, Http2Protocol, LocalProtocolError, RequestHead, Stream
from fairway.server.exchanges import BODY_TOO_SLOW, MAX_JOINED_BYTES, begin, expect_end, open_exchange
from fairway.server.http2.leaving import Leaving
from fairway.server.http2.output import StreamOutput, StreamWriter
from fairway.server.pace import next_deadline
from fairway.server.wire import Wire

if TYPE_CHECKING:
    from fairway.server.context import ServerContext


class Carrying(Protocol):
    """The part of a `fairway.server.http2.connection.Http2Connection` that a stream uses."""

    context: ServerContext
    client: Address
    entrance: Entrance
    outbox: Wire
    protocol: Http2Protocol
    writer: StreamWriter
    leaving: Leaving

    def schedule(self, deadline: float) -> None:
        """Make sure that the deadlines of all streams are checked at this time."""

    def stream_ended(self) -> None:
        """A stream is complete, or was reset."""

    def lingering_ended(self) -> None:
        """An application that outlived its stream has ended."""


class StreamOwner(Protocol):
    """The user of a stream. (`Stream.owner`)"""

    def data_received(self, data: bytes, ended: bool) -> None:
        """Content has arrived. It may be empty at the end."""

    def lost(self) -> None:
        """The stream is gone early: either side has reset it, or the connection is lost. This is the last call."""

    def go_on(self, now: float) -> bool:
        """Send one waiting frame. True if another could follow. Called only while the owner is among the `waiting`."""

    def handle_deadline(self, now: float) -> float | None:
        """Act on all deadlines that have passed, and return the next one."""

    def expect_end(self) -> None:
        """The peer has ended its side of the connection."""

    def drain(self) -> None:
        """The server stops: end whatever would not end by itself."""


class StreamExchange(HttpExchange):
    """An exchange that tells the connection when its application has ended, even long after its stream."""

    __slots__ = ("connection",)

    connection: Carrying | None
    """The connection, from when the stream is gone: the application still counts among its streams."""

    def __call__(self, task: asyncio.Task[None]) -> None:
        super().__call__(task)
        if self.connection is not None:
            self.connection.lingering_ended()
            self.connection = None


class RequestStream:
    """(`StreamOwner`, `fairway.asgi.http.HttpCarrier`)"""

    __slots__ = ("_connection", "_exchange", "_has_trailers", "_output", "_owed_at", "_stream", "_untaken")

    def __init__(self, connection: Carrying, stream: Stream, head: RequestHead, ended: bool) -> None:
        self._connection = connection
        self._stream = stream
        self._output: StreamOutput | None = None
        self._has_trailers = False
        self._untaken = 0
        self._owed_at = connection.context.now + connection.context.limits.keep_alive_timeout
        stream.owner = self
        self._exchange = exchange = open_exchange(
            StreamExchange,
            self,
            connection.context,
            head,
            head.expect_continue,
            connection.client,
            connection.entrance,
        )
        exchange.connection = None
        if ended:
            exchange.feed_end()

    def start(self) -> None:
        """Start the application."""
        begin(self._exchange, self._connection.context)

    # From the connection --------------------------------------------------------------------------------------

    def data_received(self, data: bytes, ended: bool) -> None:
        if data:
            limits, now = self._connection.context.limits, self._connection.context.now
            self._owed_at = next_deadline(
                self._owed_at, now, len(data), limits.min_body_rate, limits.keep_alive_timeout
            )
            self._untaken += len(data)
            self._exchange.feed(data)
        if ended:
            self._exchange.feed_end()

    def lost(self) -> None:
        exchange = self._exchange
        if not (exchange.finished or exchange.disconnected):
            exchange.lost()
        self._leave()
        if exchange.task is not None and exchange.disconnected:
            self._connection.schedule(self._connection.leaving.add(exchange))

    def go_on(self, now: float) -> bool:
        output = self._output
        if output is None:
            return False
        has_more = output.go_on(now)
        if output.is_complete:
            self._leave()
            self._connection.stream_ended()
        elif output.is_idle and not self._connection.writer.holds_up(self._stream):
            self._stop_waiting()
        return has_more

    def expect_end(self) -> None:
        exchange = self._exchange
        if not exchange.has_whole_body:
            self._cut(ErrorCode.CANCEL)
        elif not exchange.finished:
            expect_end(exchange, self._connection.context)

    def drain(self) -> None:
        if self._exchange.is_event_stream:
            self._exchange.end_stream()

    # Deadlines ------------------------------------------------------------------------------------------------

    def handle_deadline(self, now: float) -> float | None:
        limits, exchange = self._connection.context.limits, self._exchange
        deadlines = []
        if not (exchange.has_whole_body or exchange.disconnected):
            if self._stream.unread:
                # The application is slow, not the client.
                self._owed_at = now + limits.keep_alive_timeout
            if now >= self._owed_at:
                self._silent()
                return None
            deadlines.append(self._owed_at)
        output = self._output
        if output is not None and output.is_idle and not output.is_awaited:
            self._stop_waiting()
        elif output is not None:
            if self._connection.outbox.blocked:
                output.stalled_at = now  # the socket's own deadline is running
            since = output.stalled_at = self._connection.writer.stalled_since(self._stream, output.stalled_at)
            stalled_until = since + limits.write_stall_timeout
            if now >= stalled_until:
                self._connection.context.client_stalled(exchange.scope)
                self._cut(ErrorCode.CANCEL)
                return None
            deadlines.append(stalled_until)
        return min(deadlines, default=None)

    def _silent(self) -> None:
        exchange = self._exchange
        context = self._connection.context
        context.counters.slow_senders += 1
        context.fault("bad request", exchange.scope, f"{BODY_TOO_SLOW}; answered with 408")
        if exchange.started:
            self._cut(ErrorCode.CANCEL)
            return
        exchange.disconnect()
        exchange.log(408, self.refuse(408, BODY_TOO_SLOW))
        self._connection.schedule(self._connection.leaving.add(exchange))

    def _cut(self, code: ErrorCode) -> None:
        """Reset the stream, and tell the application."""
        self._connection.writer.write(self._stream.reset(code))
        self.lost()
        self._connection.stream_ended()

    # The application's answer (`fairway.asgi.http.HttpCarrier`) ---------------------------------------------------

    @property
    def outbox(self) -> Waiting:
        output = self._output
        if output is not None:
            return output
        connection = self._connection
        if connection.writer.is_full and connection.writer.holds_up(self._stream):
            return self._wait()  # before there is any content
        return connection.outbox

    def send_continue(self) -> None:
        self._connection.writer.write(self._stream.send_informational(100, []))

    def send_early_hints(self, headers: Headers) -> bool:
        try:
            frame = self._stream.send_informational(103, headers)
        except LocalProtocolError as error:
            raise ProtocolMisuse(str(error)) from None
        return self._connection.writer.write(frame)

    def send_whole(self, status: int, headers: Headers, body: bytes) -> bool:
        if len(body) > MAX_JOINED_BYTES:
            return False
        if self._output is not None:
            self._stop_waiting()
        connection = self._connection
        blocks = connection.context.defaults().plain_blocks
        data = self._stream.send_whole(status, tuple(headers), body, blocks)
        if data is None:
            return False
        connection.outbox.append(data)
        return True

    def send_start(self, status: int, headers: Headers, trailers: bool) -> None:
        defaults = self._connection.context.defaults().fields
        try:
            frame = self._stream.send_response(status, headers, default_headers=defaults, trailers=trailers)
        except LocalProtocolError as error:
            raise ProtocolMisuse(str(error)) from None
        self._has_trailers = trailers
        self._connection.writer.write(frame)

    def send_body(self, data: bytes, more: bool) -> bool:
        try:
            if not self._stream.admit(len(data), more):
                data = b""
        except LocalProtocolError as error:
            raise ProtocolMisuse(str(error)) from None
        ended = not (more or self._has_trailers)
        output = self._output
        if output is not None:
            if not output.is_idle:
                output.append(data, ended)
                return False
            self._stop_waiting()
        if not (data or ended):
            return False
        sent, was_written = self._connection.writer.send(self._stream, memoryview(data), ended)
        if sent < len(data):
            self._wait().append(memoryview(data)[sent:], ended)
        return was_written

    def _wait(self) -> StreamOutput:
        connection = self._connection
        now = connection.context.touch()
        output = StreamOutput(connection.writer, self._stream, connection.context.stream_high_water, now)
        self._output = output
        connection.writer.waiting[self] = None
        connection.schedule(now + connection.context.limits.write_stall_timeout)
        return output

    def _stop_waiting(self) -> None:
        """Whatever waited here is over."""
        output, self._output = self._output, None
        if output is not None:
            output.end_waiting()
            self._connection.writer.waiting.pop(self, None)

    def send_trailers(self, headers: Headers) -> bool:
        try:
            block = self._stream.trailers(headers)
        except LocalProtocolError as error:
            raise ProtocolMisuse(str(error)) from None
        if self._output is not None:
            self._output.end(block)
            return False
        return self._connection.writer.write(self._stream.end(block))

    def body_taken(self) -> None:
        count, self._untaken = self._untaken, 0
        self._connection.writer.write(self._stream.credit(count))

    def response_complete(self) -> None:
        if self._output is None:
            self._leave()
            self._connection.stream_ended()

    def application_ended(self, exchange: HttpExchange) -> None:
        pass

    def refuse(self, status: int, reason: str) -> int:
        defaults = self._connection.context.defaults().fields
        self._connection.writer.write(self._stream.error_response(status, reason, default_headers=defaults))
        self._leave()
        self._connection.stream_ended()
        return len(reason) + 1

    def break_off(self) -> None:
        self._connection.writer.write(self._stream.reset(ErrorCode.INTERNAL_ERROR))
        self._leave()
        self._connection.stream_ended()

    # The end --------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """The stream is gone, or will be when the peer has ended its side."""
        connection, exchange = self._connection, self._exchange
        self._stream.owner = None
        if self._stream.discarding_since is not None:
            # The protocol knows the time of the latest input only, and that may be long ago.
            self._stream.discarding_since = now = connection.context.touch()
            connection.schedule(now + connection.context.limits.close_timeout)
        self._stop_waiting()
        if exchange.task is not None:
            exchange.connection = connection
            connection.protocol.lingering += 1
