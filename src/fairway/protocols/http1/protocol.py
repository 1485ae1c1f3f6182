"""One HTTP/1.1 connection as a server sees it: bytes in, events out; calls in, bytes out. No socket, no clock.

Theory of operation. Two small machines run side by side. The request moves through `RequestState`: HEAD, BODY
if there is content, ENDED; `next_request()` leads back to HEAD. The response moves through `ResponseState` in
response.py. One request is looked at at a time: what arrives after ENDED is kept as it is (`buffered`) until the
response is complete and `next_request()` is called, so pipelined requests are answered in order, and a peer
cannot make the server work ahead. CLOSED is the end: after a failure, after another protocol has taken over,
and when the connection cannot be kept. Then input is ignored.

Memory is bounded by the constructor's arguments, except for `buffered`: stop reading while it is not 0.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from fairway.protocols.http.errors import LocalProtocolError
from fairway.protocols.http.request import Header
from fairway.protocols.http1.body import ChunkedBody, LengthBody
from fairway.protocols.http1.errors import OtherProtocolFound, PrefaceFound, RemoteProtocolError
from fairway.protocols.http1.events import (
    BodyReceived,
    Event,
    OtherProtocolReceived,
    PrefaceReceived,
    RequestEnded,
    RequestFailed,
    RequestHead,
)
from fairway.protocols.http1.head import HeadReader
from fairway.protocols.http1.response import (
    COMPLETED,
    PlainHeads,
    ResponseState,
    ResponseWriter,
    error_response,
)
from fairway.protocols.http1.target import PREFACE_LINE

_REQUEST_ENDED = RequestEnded()


class RequestState(enum.Enum):
    """Where in a request the next byte of the peer belongs."""

    HEAD = enum.auto()
    BODY = enum.auto()
    ENDED = enum.auto()
    CLOSED = enum.auto()


# CPython 3.11 takes 0.1 µs to look a member up in its class.
_HEAD, _BODY, _ENDED, _CLOSED = RequestState


class Http1Protocol:
    """The server's side of an HTTP/1.1 connection.

    Nothing that the peer sends raises. Misuse by the caller raises `LocalProtocolError` and changes nothing.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_eof",
        "_is_first",
        "_max_header_bytes",
        "_max_header_count",
        "_reader",
        "_request",
        "_response",
        "_state",
    )

    def __init__(
        self,
        *,
        max_request_line_bytes: int = 8192,
        max_header_bytes: int = 65536,
        max_header_count: int = 100,
        max_cookies: int = 200,
    ) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_header_count = max_header_count
        self._reader = HeadReader(max_request_line_bytes, max_header_bytes, max_header_count, max_cookies)
        self._state = _HEAD
        self._request: RequestHead | None = None
        self._response: ResponseWriter | None = None
        self._body: LengthBody | ChunkedBody | None = None
        self._buffer = bytearray()
        self._eof = False
        self._is_first = True  # no request was complete yet

    # -- what the peer sends

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes from the peer; never raises for what they are."""
        state = self._state
        if state is _CLOSED or not data:
            return []
        if state is _ENDED:
            self._keep(data)
            return []
        return self._advance(data)

    def receive_eof(self) -> list[Event]:
        """Take the end of the peer's side: it may still wait for a response, so a complete request stays valid.

        Inside a head or a body this is a `RequestFailed`; between requests it is nothing.
        """
        self._eof = True
        return self._fail_if_cut_off()

    def next_request(self) -> list[Event]:
        """Turn to the next request, which may be in what is buffered; to be called when the response is complete.

        After a response that closes the connection this returns nothing, and input is ignored.
        """
        if self._response is COMPLETED and not self._buffer and not self._eof:
            # By far the most frequent case: `send_whole` has found the request ended and the connection to be kept.
            self._state = _HEAD
            self._request = self._response = None
            return []
        if self._state is _CLOSED:
            return []
        if not self.response_complete:
            raise LocalProtocolError("the response is not complete; end it before the next request")
        if self.should_close:
            self._close()
            return []
        self._state = _HEAD
        self._request = self._response = None
        if not self._buffer:
            return []
        data = bytes(self._buffer)
        self._buffer = bytearray()
        return self._advance(data) + (self._fail_if_cut_off() if self._eof else [])

    def unread(self) -> bytes:
        """Return what came behind the head of an upgraded request; from here on this connection ignores input."""
        if self._request is None or self._request.upgrade is None or self._state is not _ENDED:
            raise LocalProtocolError("no complete request asks for an upgrade; keep speaking HTTP")
        data = bytes(self._buffer)
        self._close()
        return data

    @property
    def buffered(self) -> int:
        """How many bytes are kept for later; stop reading while it is not 0."""
        return len(self._buffer)

    @property
    def is_idle(self) -> bool:
        """Whether not even a part of a request head has arrived since the last request."""
        return self._state is _HEAD and self._reader.is_idle

    @property
    def request(self) -> RequestHead | None:
        """The request that is being received or answered."""
        return self._request

    def _advance(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        try:
            if self._state is _HEAD:
                head, data = self._reader.receive(data)
                if head is None:
                    return events
                self._begin(head)
                if self._state is _ENDED and not data:
                    return [head, _REQUEST_ENDED]
                events.append(head)
            if self._body is not None:
                self._receive_body(self._body, data, events)
            elif data:
                self._keep(data)
        except RemoteProtocolError as error:
            failure = self._fail(error.status, error.reason)
            if self._is_first and not self._reader.has_skipped:
                failure = _failure_of_first(error, failure, data)
            events.append(failure)
            return events
        if self._state is _ENDED:
            events.append(_REQUEST_ENDED)
        return events

    def _begin(self, head: RequestHead) -> None:
        self._request = head
        self._is_first = False
        if head.chunked:
            self._body = ChunkedBody(self._max_header_bytes, self._max_header_count)
        elif head.content_length:
            self._body = LengthBody(head.content_length)
        self._state = _ENDED if self._body is None else _BODY

    def _receive_body(self, body: LengthBody | ChunkedBody, data: bytes, events: list[Event]) -> None:
        if not data:
            return
        pieces: list[bytes] = []
        try:
            rest = body.receive(data, pieces)
        finally:
            if pieces:
                events.append(BodyReceived(pieces[0] if len(pieces) == 1 else b"".join(pieces)))
        if rest is not None:
            self._body = None
            self._state = _ENDED
            self._keep(rest)

    def _keep(self, data: bytes) -> None:
        # Behind a request that asked to close, only another protocol can follow: RFC 9112 section 9.6.
        if self._request is not None and (self._request.keep_alive or self._request.upgrade is not None):
            self._buffer += data

    def _fail_if_cut_off(self) -> list[Event]:
        if self._state is _BODY:
            return [self._fail(400, "connection ended inside the request content: RFC 9112 section 8")]
        if self._state is _HEAD and not self._reader.is_idle:
            return [self._fail(400, "connection ended inside the request head: RFC 9112 section 8")]
        return []

    def _fail(self, status: int, reason: str) -> RequestFailed:
        self._close()
        return RequestFailed(status, reason)

    def _close(self) -> None:
        self._state = _CLOSED
        self._body = None
        self._buffer = bytearray()

    # -- what the server sends

    @property
    def should_close(self) -> bool:
        """Whether to close the socket once the response is complete, or at once if there is none to come.

        True after a failure, when either side asked to close, when the peer has ended its side and nothing is
        buffered, and while the request's content has not all arrived. It says nothing after a 101.
        """
        if self._state is _CLOSED:
            return True
        if self._eof and not self._buffer:
            return True
        if self._request is None:
            return False
        return not (self._response or self._request).keep_alive or self._state is not _ENDED

    @property
    def response_started(self) -> bool:
        """Whether the final response to the current request has begun; then no error response can be sent."""
        return self._response is not None and self._response.state is not ResponseState.AWAITED

    @property
    def response_complete(self) -> bool:
        """Whether the response to the current request is complete."""
        return self._response is not None and self._response.state is ResponseState.COMPLETE

    def send_whole(self, status: int, headers: tuple[Header, ...], content: bytes, heads: PlainHeads) -> bytes | None:
        """Return a whole response to a plain request, or `None` if this is not one, and nothing has changed.

        It is what `send_response`, with a Content-Length added if there is none, and `send_body` return together.
        A request is plain if it has come in full, is no HEAD, asks for no upgrade, and keeps an HTTP/1.1 connection.
        """
        request = self._request
        if (
            request is None
            or self._response is not None
            or self._state is not _ENDED
            or not request.keep_alive
            or request.version != "1.1"
            or request.method == "HEAD"
            or request.upgrade is not None
            or self._eof
        ):
            return None
        head = heads.find(status, headers, len(content))
        if head is None:
            return None
        self._response = COMPLETED
        return head + content

    def send_informational(self, status: int, headers: Iterable[Header]) -> bytes:
        """Return an interim response (100, 103, ...), or nothing if the peer speaks HTTP/1.0."""
        return self._writer().informational(status, headers)

    def send_response(
        self, status: int, headers: Iterable[Header], *, default_headers: bytes = b"", trailers: bool = False
    ) -> bytes:
        """Return the head of the final response, and choose its framing.

        A Content-Length among `headers` is kept; without one the content is chunked, or ended by closing for an
        HTTP/1.0 peer. Transfer-Encoding is ignored, Connection is merged with what is true. `default_headers` is
        a ready block of lines; its Date or Server gives way to the application's. 101 is possible when an upgrade
        was asked for. A request whose content has not all arrived by now is the connection's last: RFC 9112
        section 9.3.
        """
        if status == 101 and self._state is not _ENDED:
            raise LocalProtocolError("the upgraded request is not complete; read its content before sending 101")
        unfinished = self._state is not _ENDED or (self._eof and not self._buffer)
        return self._writer().start(status, headers, default_headers, trailers, unfinished)

    def send_body(self, data: bytes, more: bool) -> bytes:
        """Return `data` framed as content; dropped where no content may be sent (HEAD, 204, 304).

        Raises if the content is longer, or at its end shorter, than the Content-Length.
        """
        return self._writer().body(data, more)

    def send_trailers(self, headers: Iterable[Header]) -> bytes:
        """Return the trailer section, which ends the response.

        The fields are dropped if the content is not chunked or the peer did not send `TE: trailers`.
        """
        return self._writer().trailers(headers)

    def error_response(
        self, status: int, reason: str, *, default_headers: bytes = b"", extra_headers: Iterable[Header] = ()
    ) -> bytes:
        """Return a complete short answer in plain text; the connection is closed after it.

        Possible also without a request, which is how a `RequestFailed` is answered.
        """
        if self.response_started:
            raise LocalProtocolError("the response has already started; close the connection instead")
        is_head = self._request is not None and self._request.method == "HEAD"
        data = error_response(status, reason, default_headers, extra_headers, is_head)
        if self._request is not None:
            self._writer().state = ResponseState.COMPLETE
        self._close()
        return data

    def _writer(self) -> ResponseWriter:
        if self._response is None:
            if self._request is None:
                raise LocalProtocolError("there is no request to answer; wait for a request head")
            self._response = ResponseWriter(self._request)
        return self._response


def _failure_of_first(error: RemoteProtocolError, failure: RequestFailed, data: bytes) -> RequestFailed:
    """What came instead of a connection's first request may be of another protocol."""
    if type(error) is PrefaceFound:
        # The line may have begun in earlier pieces, and has ended in this one.
        rest = data[data.index(b"\n") + 1 :]
        return PrefaceReceived(failure.status, failure.reason, PREFACE_LINE + b"\r\n" + rest)
    if type(error) is OtherProtocolFound:
        return OtherProtocolReceived(failure.status, failure.reason)
    return failure
