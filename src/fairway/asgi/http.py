"""One HTTP request and its response as the application sees them, over any HTTP version.

Theory of operation. An `HttpExchange` stands between an application and a carrier. The application gets the exchange's
bound methods as `receive` and `send`. The exchange checks the events of the ASGI HTTP message format 2.5 and their
order. The carrier, for example `fairway.server.http1.connection`, puts the response on the wire. The exchange calls it
through `HttpCarrier`. A plain response takes two calls: `send_whole` and `response_complete`.

The carrier calls `start`, then `feed` and `feed_end` as the request's body arrives. It may call `forsake`, `disconnect`
and `lost` at any time. When the application's task ends, the host calls the exchange (`__call__`).

Everything runs in the event loop of the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from fairway.asgi.errors import ConnectionClosed, ProtocolMisuse, status_of
from fairway.asgi.reporter import Host
from fairway.asgi.types import Headers, Message
from fairway.delivery import NEXT_PASS, Waker

_PASSES_FOR_OTHERS = 5

# Shorter pieces of a body are joined at once: each object takes forty bytes beside its content, and a peer may send a
# body in pieces of two.
_SMALL_PIECE = 1024

# Statuses whose body is not sent (RFC 9110 section 6.4.1, and 15.3.6).
_WITHOUT_BODY = frozenset({204, 205, 304})
_MAX_LENGTH_DIGITS = 18


class Waiting(Protocol):
    """The part of `fairway.delivery.Output` that an exchange needs."""

    @property
    def size(self) -> int:
        """Bytes that wait to be sent."""

    @property
    def high_water(self) -> int:
        """From this size on, in bytes, senders have to wait."""

    def drained(self) -> Awaitable[None]:
        """Return an awaitable that ends once less than `high_water` bytes wait."""


class HttpCarrier(Protocol):
    """What a connection does for an exchange.

    If the application has sent something that is not allowed, a method raises `ProtocolMisuse`. Methods that send
    return True if so much was waiting that it was written at once. Then the sender has to let other tasks run.
    """

    @property
    def outbox(self) -> Waiting:
        """What the carrier writes to. Its size says when the application has to wait."""

    def send_continue(self) -> None:
        """Send 100 Continue (RFC 9110 section 15.2.1): the application waits for the body."""

    def send_early_hints(self, headers: Headers) -> bool:
        """Send 103 Early Hints (RFC 8297)."""

    def send_whole(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send a complete response without trailers at once, with a Content-Length if it has none.

        Has the effect of `send_start` and `send_body`. Returns False, and does nothing, if the response cannot be sent
        in this way.
        """

    def send_start(self, status: int, headers: Headers, trailers: bool) -> None:
        """Send status and headers."""

    def send_body(self, data: bytes, more: bool) -> bool:
        """Send a piece of the body."""

    def send_trailers(self, headers: Headers) -> bool:
        """Send the trailer section, which completes the response."""

    def body_taken(self) -> None:
        """The application has taken all pieces of the body that have arrived: read more."""

    def response_complete(self) -> None:
        """The carrier has got the complete response: go on with the next request."""

    def application_ended(self, exchange: HttpExchange) -> None:
        """The application has ended, and its response is not complete."""

    def refuse(self, status: int, reason: str) -> int:
        """Answer in place of the application, and close. Return the number of bytes of the answer's content."""

    def break_off(self) -> None:
        """The response has begun and will never be complete: end it in a way that the client notices."""


class HttpExchange:
    """State of one request: its waiting pieces of the body, the state of the response, and the application's task.

    An exchange ends once, in one of three ways. The response is complete: `finished`. The client has gone:
    `disconnected`. The application has ended before its response is complete: then the exchange answers in its place or
    breaks the response off, and is `disconnected` as well.

    `receive` never raises. Once the response is complete, the client has gone, or the client has ended its side of the
    connection and the body is taken, it always returns `http.disconnect`.

    `send` raises `ConnectionClosed` once the client has gone, and `ProtocolMisuse` for an event that is not allowed. It
    ignores all events after a complete response. An application that goes on receiving or sending after the end lets
    other tasks run in between. The head of the response is held back until the body begins, so that
    an error in between can still be answered.
    """

    __slots__ = (
        "_body",
        "_carrier",
        "_ended",
        "_expects_continue",
        "_final_given",
        "_host",
        "_start",
        "_trailers",
        "_waiters",
        "_waker",
        "_wants_trailers",
        "buffered",
        "disconnected",
        "finished",
        "forsaken",
        "is_event_stream",
        "received_bytes",
        "scope",
        "sent_bytes",
        "started",
        "started_at",
        "status",
        "task",
    )

    task: asyncio.Task[None] | None
    """The application's task, from `start` until it has ended."""

    buffered: int
    """Bytes of the body that have arrived and that the application has not taken."""

    def __init__(
        self,
        carrier: HttpCarrier,
        host: Host,
        scope: dict[str, Any],
        started_at: float,
        expects_continue: bool,
        waker: Waker | None = None,
    ) -> None:
        self.scope = scope
        self.started_at = started_at
        self.task = None
        self._host = host
        self._carrier: HttpCarrier | None = carrier  # None when the response is complete, or the application has ended
        self._waker = waker
        self._body: list[bytes] = []
        self.buffered = 0
        self._ended = False
        self._final_given = False
        self._expects_continue = expects_continue
        self._waiters: list[asyncio.Future[None]] = []
        self._start: tuple[int, Headers, bool] | None = None
        self._wants_trailers = False
        self._trailers: Headers | None = None  # set once the body is complete and trailers must follow
        self.started = False
        self.finished = False
        self.is_event_stream = False  # whether the response is one, and has begun: it does not end by itself
        self.disconnected = False
        self.forsaken = False  # the client has ended its side, and has probably left
        self.status: int | None = None
        self.received_bytes = self.sent_bytes = 0

    def start(self) -> None:
        """Start the application's task."""
        # The callback is the exchange, not the carrier: when the task ends, that may be busy with the next request.
        self.task = self._host.run(self.scope, self.receive, self.send, self, self)

    # From the carrier -----------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> int:
        """Add a piece of the body. Return the number of bytes that the application has not taken."""
        size = len(data)
        body = self._body
        if size < _SMALL_PIECE and body and len(body[-1]) < _SMALL_PIECE:
            body[-1] += data
        else:
            body.append(data)
        self.buffered += size
        self.received_bytes += size
        self.wake()
        return self.buffered

    def feed_end(self) -> None:
        """The body is complete."""
        self._ended = True
        if self._waiters:
            self.wake()

    @property
    def has_whole_body(self) -> bool:
        """Whether the whole request has arrived."""
        return self._ended

    def answer(self, status: int, headers: Headers) -> None:
        """Answer without starting an application, with an empty body."""
        assert self._carrier is not None
        self._start = (status, headers, False)
        self._send_body(self._carrier, {"type": "http.response.body"})

    def end_stream(self) -> None:
        """Complete the response in place of the application. It gets `http.disconnect`, and its sends are ignored."""
        if self._carrier is not None and not self.disconnected:
            self._send_body(self._carrier, {"type": "http.response.body"})

    def forsake(self) -> None:
        """The client has ended its side of the connection: once the body is taken, `receive` gives `http.disconnect`.

        The client may still read (RFC 9112 section 9.6), so the response is still written.
        """
        self.forsaken = True
        self._wake_to_end()

    def disconnect(self) -> None:
        """The client has gone, or the exchange is over: `receive` gives `http.disconnect`, and `send` raises."""
        self.disconnected = True
        self._wake_to_end()

    def lost(self) -> None:
        """The client has gone before the response was complete: log that, and `disconnect`."""
        self.log()
        self.disconnect()

    def log(self, status: int | None = None, size: int | None = None) -> None:
        """Count and log a request that has ended.

        `status` and `size` belong to an answer in place of the application's. Without them, the application's are used.
        """
        host = self._host
        status = status or self.status
        host.counters.responses[(status or 0) // 100] += 1
        if status is not None and status >= 400:
            self._suspect_proxy()
        if host.logs_access:
            seconds = asyncio.get_running_loop().time() - self.started_at
            host.access.http_finished(self.scope, status, self.sent_bytes if size is None else size, seconds)

    def _suspect_proxy(self) -> None:
        """Log if the request was a WebSocket handshake that lacks its hop-by-hop fields (RFC 9110 section 7.6.1)."""
        if any(name == b"sec-websocket-key" for name, _ in self.scope["headers"]):
            text = (
                "a WebSocket handshake without Upgrade: the proxy in front drops it; have it pass on the headers "
                "Upgrade and Connection, over HTTP/1.1"
            )
            self._host.fault("no upgrade", self.scope, text)

    def _wake_to_end(self) -> None:
        if self._waiters and self._waker is not None:
            self._waker.wake_to_end(self)
        else:
            self.wake()

    def wake(self) -> None:
        """Let all calls of `receive` that wait check again. (`fairway.delivery.Sleeper`)"""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # To the application ---------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """ASGI `receive`. Cancelling loses nothing."""
        has_waited = False
        while True:
            if self.disconnected or self.finished:
                break
            if not self._final_given and (self._body or self._ended):
                return self._take_body()
            if self.forsaken:
                break
            if self._expects_continue and not self._ended and self._carrier is not None:
                self._expects_continue = False
                if not self.started:
                    self._carrier.send_continue()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:  # cancelled; an application may do that often
                    self._waiters.remove(waiter)
            has_waited = True
        if not has_waited:
            await NEXT_PASS  # the application may ask again and again
        return {"type": "http.disconnect"}

    def _take_body(self) -> Message:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self.buffered = 0
        self._final_given = self._ended
        if not self._ended and self._carrier is not None:
            self._carrier.body_taken()
        return {"type": "http.request", "body": body, "more_body": not self._ended}

    async def send(self, message: Mapping[str, Any]) -> None:
        """ASGI `send`. Returns once less than the high water mark waits to be sent.

        For the errors, see the class. If the wait is cancelled, the event is still sent.
        """
        kind = message.get("type")
        carrier = self._carrier
        if self.finished:
            await NEXT_PASS
            return
        if carrier is None or self.disconnected:
            self.wake()
            await _others_first()
            raise ConnectionClosed("the client has closed the connection")
        was_written = False
        if kind == "http.response.body":
            was_written = self._send_body(carrier, message)
        elif kind == "http.response.start":
            self._hold_start(message)
        elif kind == "http.response.trailers":
            was_written = self._send_trailers(carrier, message)
        elif kind == "http.response.early_hint":
            was_written = self._send_early_hints(carrier, message)
        else:
            raise ProtocolMisuse(
                f"unknown event {kind!r}: an http application sends http.response.start, .body, .trailers, .early_hint"
            )
        outbox = carrier.outbox
        if outbox.size >= outbox.high_water:
            await outbox.drained()
        elif was_written:
            await NEXT_PASS

    def _hold_start(self, message: Mapping[str, Any]) -> None:
        if self._start is not None or self.started:
            raise ProtocolMisuse("http.response.start was sent already: send one response for each request")
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise ProtocolMisuse(f"the status of http.response.start is 200 to 999, not {status!r}")
        self._start = (status, checked_headers(message), bool(message.get("trailers", False)))

    def _send_body(self, carrier: HttpCarrier, message: Mapping[str, Any]) -> bool:
        if self._start is None and not self.started:
            raise ProtocolMisuse("http.response.body before http.response.start")
        if self._trailers is not None:
            raise ProtocolMisuse("http.response.body after the last one: trailers are expected")
        body = message.get("body", b"")
        if not isinstance(body, bytes | bytearray | memoryview):
            raise ProtocolMisuse(f"the body of http.response.body is bytes, not {type(body).__name__}")
        body = bytes(body)
        more = bool(message.get("more_body", False))
        if self._start is not None:
            if not more and self._send_whole(carrier, self._start, body):
                return False
            status, headers, _ = self._start
            if self.scope["method"] != "HEAD":
                check_length("http.response.body", status, headers, len(body), more)
            self._send_start(carrier, None if more else len(body))
        was_written = carrier.send_body(body, more)
        self.sent_bytes += len(body)
        if not more and self._wants_trailers:
            self._trailers = []
        elif not more:
            self._finish(carrier)
        return was_written

    def _send_whole(self, carrier: HttpCarrier, start: tuple[int, Headers, bool], body: bytes) -> bool:
        status, headers, trailers = start
        if trailers or not carrier.send_whole(status, headers, body):
            return False
        self._start = None
        self.started = True
        self.status = status
        self.sent_bytes = len(body)
        self._finish(carrier)
        return True

    def _send_start(self, carrier: HttpCarrier, length: int | None) -> None:
        assert self._start is not None
        status, headers, self._wants_trailers = self._start
        has_length = is_event_stream = False
        for name, value in headers:
            name = name.lower()
            if name == b"content-length":
                has_length = True
            elif name == b"content-type" and value.startswith(b"text/event-stream"):
                is_event_stream = True
        # In an answer to HEAD, or with status 304, an empty body does not tell the length of the answer to GET.
        is_silent = length == 0 and (status == 304 or self.scope["method"] == "HEAD")
        if length is not None and not (is_silent or has_length or self._wants_trailers):
            # The body is complete, so it can have a length, and need not be sent in chunks.
            headers = [*headers, (b"content-length", b"%d" % length)]
        try:
            carrier.send_start(status, headers, self._wants_trailers)
        except ProtocolMisuse as error:
            raise ProtocolMisuse(f"http.response.start: {error}") from None
        self.status = status
        self.started = True
        self.is_event_stream = is_event_stream
        self._start = None

    def _send_trailers(self, carrier: HttpCarrier, message: Mapping[str, Any]) -> bool:
        if self._trailers is None:
            raise ProtocolMisuse("http.response.trailers without trailers=True at the start, or before the body's end")
        self._trailers += checked_headers(message)
        if message.get("more_trailers", False):
            return False
        was_written = carrier.send_trailers(self._trailers)
        self._finish(carrier)
        return was_written

    def _send_early_hints(self, carrier: HttpCarrier, message: Mapping[str, Any]) -> bool:
        links = message.get("links", ())
        if not all(isinstance(link, bytes) for link in links):
            raise ProtocolMisuse("the links of http.response.early_hint are bytes")
        return not self.started and carrier.send_early_hints([(b"link", link) for link in links])

    def _finish(self, carrier: HttpCarrier) -> None:
        self.finished = True
        self._carrier = None
        if self._waiters:
            self.wake()
        self.log()
        carrier.response_complete()

    # The end of the application -------------------------------------------------------------------------------

    def __call__(self, task: asyncio.Task[None]) -> None:
        """The application's task has ended: answer or break off in its place if its response is not complete."""
        carrier, self._carrier = self._carrier, None
        self.task = None
        self._host.forget(task, self.started_at, self.received_bytes + self.sent_bytes)
        if carrier is not None:
            carrier.application_ended(self)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._application_failed(error)
        elif not (self.finished or self.disconnected or self.forsaken):
            ending = "was cancelled, not by the server," if task.cancelled() else "returned"
            self._host.fault("no answer", self.scope, f"application {ending} without completing its response")
        if carrier is not None and not self.disconnected:
            self._break_off(carrier, error)

    def _application_failed(self, error: BaseException) -> None:
        status = status_of(error)
        if status is not None:
            self._host.fault("refused", self.scope, f"{str(error).rstrip('.')}; answered with {status}")
        elif not isinstance(error, ConnectionClosed):
            self._host.application_error("HTTP", self.scope, error)

    def _break_off(self, carrier: HttpCarrier, error: BaseException | None) -> None:
        """The application will not complete its response: answer in its place, or break off what it has begun."""
        if self.started or (self.forsaken and error is None):
            self.lost()
            carrier.break_off()
            return
        status = status_of(error) or 500
        self.disconnect()
        size = carrier.refuse(status, "not found" if status == 404 else "internal server error")
        self.log(status, size)


async def _others_first() -> None:
    """Let tasks that wait for `http.disconnect` react before `send` raises in another task.

    Django has such a task. On `http.disconnect`, it cancels the sender, and closes the request and the response. If the
    sender raised first, both would stay open. Django needs three passes of the event loop: from the listening task to
    the task that waits for it, and from there to the sender.
    """
    for _ in range(_PASSES_FOR_OTHERS):
        await asyncio.sleep(0)


def check_length(kind: str, status: int, headers: Headers, length: int, more: bool) -> None:
    """Raise `ProtocolMisuse` if the first piece of a body contradicts the Content-Length.

    Nothing has been sent at that time, so the server can still send another answer. `kind` names the event in the
    error. `more`: whether more pieces follow.
    """
    if status in _WITHOUT_BODY:
        return
    for name, value in headers:
        if name.lower() == b"content-length" and value.isdigit() and len(value) <= _MAX_LENGTH_DIGITS:
            promised = int(value)
            if length > promised or (length < promised and not more):
                raise ProtocolMisuse(f"the body of {kind} has {length} bytes, its content-length is {promised}")


def checked_headers(message: Mapping[str, Any]) -> Headers:
    """The headers of an event as a list of pairs of bytes. Raises `ProtocolMisuse` if a name or value is not bytes."""
    headers: Headers = []
    for header in message.get("headers") or ():
        name, value = header
        if not isinstance(name, bytes):
            raise ProtocolMisuse(f"Header name {name!r} expected to be `bytes`, but got `{type(name)}`")
        if not isinstance(value, bytes):
            raise ProtocolMisuse(f"Header value {value!r} expected to be `bytes`, but got `{type(value)}`")
        headers.append((name, value))
    return headers
