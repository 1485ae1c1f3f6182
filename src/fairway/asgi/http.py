"""One HTTP request and its response: the ASGI conversation, whatever carries it.

An `HttpExchange` is given to an application as `receive` and `send`. It knows the events of the ASGI HTTP format 2.5
and their order. How a response is put on the wire is the business of its carrier, for example
`fairway.server.http1.connection`, which it asks through the few methods of `HttpCarrier`. For a plain response these
are two: `send_whole` and `response_complete`.
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

# Statuses whose body is not sent (RFC 9110 section 6.4.1, and 15.3.6).
_WITHOUT_BODY = frozenset({204, 205, 304})
_MAX_LENGTH_DIGITS = 18


class Waiting(Protocol):
    """What waits to be sent. (Part of `fairway.delivery.Output`)"""

    @property
    def size(self) -> int:
        """Bytes that wait."""

    @property
    def high_water(self) -> int:
        """From this size on senders are asked to wait."""

    def drained(self) -> Awaitable[None]:
        """What to await until less than `high_water` waits."""


class HttpCarrier(Protocol):
    """What a connection does for an exchange. Errors in what the application sent are raised as `ProtocolMisuse`.

    The methods that send pieces return True when so much waited that it was written at once: then the sender lets
    others have their turn.
    """

    @property
    def outbox(self) -> Waiting:
        """What it writes into. Its size says when the application has to wait."""

    def send_continue(self) -> None:
        """Send 100 Continue, once the application wants the body."""

    def send_early_hints(self, headers: Headers) -> bool:
        """Send 103 Early Hints (RFC 8297)."""

    def send_whole(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send a whole response without trailers in the cheapest way, with its length; or return False, and do nothing.

        It is `send_start`, with a Content-Length added where there is none, and `send_body` in one.
        """

    def send_start(self, status: int, headers: Headers, trailers: bool) -> None:
        """Send status and headers."""

    def send_body(self, data: bytes, more: bool) -> bool:
        """Send a piece of the body."""

    def send_trailers(self, headers: Headers) -> bool:
        """Send the trailer section, which ends the response."""

    def body_taken(self) -> None:
        """The application has taken all of the body that was there: read on."""

    def response_complete(self) -> None:
        """The response has been handed over in full: turn to the next request."""

    def application_ended(self, exchange: HttpExchange) -> None:
        """The application of an exchange that was not completed has ended."""

    def refuse(self, status: int, reason: str) -> int:
        """Answer in place of the application, and close. Return how many bytes of content that takes."""

    def break_off(self) -> None:
        """Cut the response, which has begun and will never be complete."""


class HttpExchange:
    """State of one request: body pieces not yet taken, how far the response is, the application's task.

    It ends once, in one of three ways: the response is complete (`finished`), the peer is gone (`disconnected`), or the
    application has ended without having completed it, which is `disconnected` as well, after an answer in its place.

    `receive` never raises; after the response is complete or the peer is gone it returns `http.disconnect`, again and
    again, and so it does once the peer has ended its side. `send` raises `ConnectionClosed` once the peer is gone, and
    ignores what follows a complete response. The start of the response is held back until its body begins, so that an
    error in between can still be answered.
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
    """The application, from `start` until it has ended."""

    buffered: int
    """Bytes of the body that the application has not taken."""

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
        self._trailers: Headers | None = None  # set when the body is complete and the trailers are awaited
        self.started = False
        self.finished = False
        self.is_event_stream = False  # that has begun: it has no end of its own
        self.disconnected = False
        self.forsaken = False  # the peer has ended its side, and has probably left
        self.status: int | None = None
        self.received_bytes = self.sent_bytes = 0

    def start(self) -> None:
        """Start the application."""
        # The exchange itself is the callback: when a task ends the connection may be busy with the next request.
        self.task = self._host.run(self.scope, self.receive, self.send, self, self)

    # From the carrier -----------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> int:
        """Add a piece of the body. Return how many bytes the application has not taken."""
        size = len(data)
        self._body.append(data)
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
        """Whether all of the request has arrived."""
        return self._ended

    def answer(self, status: int, headers: Headers) -> None:
        """Answer without an application, and without a body."""
        assert self._carrier is not None
        self._start = (status, headers, False)
        self._send_body(self._carrier, {"type": "http.response.body"})

    def end_stream(self) -> None:
        """Complete the response for the application: it finds `http.disconnect`; what it sends then is ignored."""
        if self._carrier is not None and not self.disconnected:
            self._send_body(self._carrier, {"type": "http.response.body"})

    def forsake(self) -> None:
        """The peer has probably left: `receive` gives `http.disconnect`. It may only have ended its side of the
        connection (RFC 9112 section 9.6), so what is sent is written still.
        """
        self.forsaken = True
        self._wake_to_end()

    def disconnect(self) -> None:
        """The peer is gone, or the exchange is over: `receive` gives `http.disconnect`, `send` raises."""
        self.disconnected = True
        self._wake_to_end()

    def lost(self) -> None:
        """The peer is gone, and with it the response."""
        self.log()
        self.disconnect()

    def log(self, status: int | None = None, size: int | None = None) -> None:
        """Log the line of a request that has ended. `status` and `size` are those of an answer that was given in place
        of the application's.
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
        """A handshake without its hop-by-hop fields (RFC 9110 section 7.6.1) arrives as a plain request."""
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
        """Let whoever waits in `receive` look again. (`fairway.delivery.Sleeper`)"""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # To the application ---------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """ASGI `receive`. Cancelling loses nothing."""
        while True:
            if self.disconnected or self.finished:
                return {"type": "http.disconnect"}
            if not self._final_given and (self._body or self._ended):
                return self._take_body()
            if self.forsaken:
                return {"type": "http.disconnect"}
            if self._expects_continue and not self._ended and self._carrier is not None:
                self._expects_continue = False
                if not self.started:
                    self._carrier.send_continue()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:  # given up: an application may look again and again
                    self._waiters.remove(waiter)

    def _take_body(self) -> Message:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self.buffered = 0
        self._final_given = self._ended
        if not self._ended and self._carrier is not None:
            self._carrier.body_taken()
        return {"type": "http.request", "body": body, "more_body": not self._ended}

    async def send(self, message: Mapping[str, Any]) -> None:
        """ASGI `send`. Returns when the socket is below its high water mark; cancelling the wait loses nothing."""
        kind = message.get("type")
        carrier = self._carrier
        if self.finished:
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
        # To HEAD and with 304 an empty body says nothing about the length of what a GET would give.
        is_silent = length == 0 and (status == 304 or self.scope["method"] == "HEAD")
        if length is not None and not (is_silent or has_length or self._wants_trailers):
            # A body that is there in full needs no chunks.
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
        """The application has ended."""
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
        """The application will not finish its response: answer in its place, or cut what it has begun."""
        if self.started or (self.forsaken and error is None):
            self.lost()
            carrier.break_off()
            return
        status = status_of(error) or 500
        self.disconnect()
        size = carrier.refuse(status, "not found" if status == 404 else "internal server error")
        self.log(status, size)


async def _others_first() -> None:
    """Let those who wait for `http.disconnect` act on it before the sender raises.

    Django does so: it cancels the sender, and closes request and response. If the sender's error came first, both would
    stay open. It takes three passes from the listener's task to the one that waits for it, and on to the sender.
    """
    for _ in range(_PASSES_FOR_OTHERS):
        await asyncio.sleep(0)


def check_length(kind: str, status: int, headers: Headers, length: int, more: bool) -> None:
    """Refuse the first piece of a body, in an event of this kind, if it contradicts the Content-Length: the answer can
    still be another one.
    """
    if status in _WITHOUT_BODY:
        return
    for name, value in headers:
        if name.lower() == b"content-length" and value.isdigit() and len(value) <= _MAX_LENGTH_DIGITS:
            promised = int(value)
            if length > promised or (length < promised and not more):
                raise ProtocolMisuse(f"the body of {kind} has {length} bytes, its content-length is {promised}")


def checked_headers(message: Mapping[str, Any]) -> Headers:
    """The headers of an event, as a list of pairs of bytes; `ProtocolMisuse` for anything else."""
    headers: Headers = []
    for header in message.get("headers") or ():
        name, value = header
        if not isinstance(name, bytes):
            raise ProtocolMisuse(f"Header name {name!r} expected to be `bytes`, but got `{type(name)}`")
        if not isinstance(value, bytes):
            raise ProtocolMisuse(f"Header value {value!r} expected to be `bytes`, but got `{type(value)}`")
        headers.append((name, value))
    return headers
