"""The server's side of one HTTP/1.1 connection, without a socket and without a clock.

Bytes from the peer go in and events come out. The server's calls go in and bytes for the peer come out.

Theory of operation. Two small state machines run side by side. The request moves through `RequestState`: HEAD, then
BODY if it has content, then ENDED. `next_request()` leads back to HEAD. The response moves through `ResponseState` (see
response.py).

Only one request is read at a time. Bytes that arrive after ENDED are kept unread (`buffered`) until the response is
complete and the server calls `next_request()`. So pipelined requests are answered in order, and a peer cannot make the
server work ahead. CLOSED is the last state: after a failure, after another protocol has taken over, and if the
connection cannot be kept open. From then on, input is ignored.

One call takes only so much of a body in tiny chunks, and keeps the rest: the body is parted (`is_parted`). The caller
lets others have their turn, and then goes on with `receive_data(b"")`.

The constructor's arguments bound the memory, except for `buffered`. So the caller must stop reading from the socket
while `buffered` is not 0.
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
    """The part of a request that the peer's next byte belongs to."""

    HEAD = enum.auto()
    BODY = enum.auto()
    ENDED = enum.auto()
    CLOSED = enum.auto()


# Globals, because CPython 3.11 takes 0.1 µs to look up an enum member in its class.
_HEAD, _BODY, _ENDED, _CLOSED = RequestState


class Http1Protocol:
    """The server's side of an HTTP/1.1 connection.

    No method raises because of what the peer sends. Misuse by the caller raises `LocalProtocolError`, and changes
    nothing.

    `reader` holds what has arrived of an incomplete head. `request` is the request that is being received or answered,
    or None. Both are read-only for others.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_eof",
        "_is_first",
        "_max_header_bytes",
        "_max_header_count",
        "_response",
        "_state",
        "reader",
        "request",
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
        self.reader = HeadReader(max_request_line_bytes, max_header_bytes, max_header_count, max_cookies)
        self._state = _HEAD
        self.request: RequestHead | None = None
        self._response: ResponseWriter | None = None
        self._body: LengthBody | ChunkedBody | None = None
        self._buffer = b""  # not a bytearray: that would be copied twice more for each request in it
        self._eof = False
        self._is_first = True  # whether no head has been complete yet

    # -- what the peer sends

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes from the peer, and return the events that they complete.

        While a body is parted, no bytes mean to go on with it, and other bytes are kept behind it.
        """
        state = self._state
        if state is _HEAD:
            return self._advance(data) if data else []
        if state is _BODY:
            if self._buffer and data:
                self._buffer += data
                return []
            data, self._buffer = self._buffer or data, b""
            return self._advance(data) + (self._fail_if_cut_off() if self._eof else [])
        if state is _ENDED:
            self._keep(data)
        return []

    def receive_eof(self) -> list[Event]:
        """The peer has ended its side of the connection.

        It may still wait for the response to a complete request, so this changes nothing between requests. Inside a
        head or a body, it returns a `RequestFailed`. If the body is parted, that comes later, if its rest does not
        complete it.
        """
        self._eof = True
        return self._fail_if_cut_off()

    def next_request(self) -> list[Event]:
        """Go on with the next request. Call this when the response is complete.

        Returns the events of the buffered bytes. After a response that closes the connection, it returns nothing, and
        input is ignored from then on.
        """
        if self._response is COMPLETED and not self._buffer and not self._eof:
            # By far the most frequent case: `send_whole` has checked that the request is complete and that the
            # connection stays open.
            self._state = _HEAD
            self.request = self._response = None
            return []
        if self._state is _CLOSED:
            return []
        if not self.response_complete:
            raise LocalProtocolError("the response is not complete; end it before the next request")
        if self.should_close:
            self._close()
            return []
        self._state = _HEAD
        self.request = self._response = None
        if not self._buffer:
            return []
        data, self._buffer = self._buffer, b""
        return self._advance(data) + (self._fail_if_cut_off() if self._eof else [])

    def unread(self) -> bytes:
        """Return the bytes behind a request that asks for an upgrade. From then on, input is ignored."""
        if self.request is None or self.request.upgrade is None or self._state is not _ENDED:
            raise LocalProtocolError("no complete request asks for an upgrade; keep speaking HTTP")
        data = self._buffer
        self._close()
        return data

    @property
    def buffered(self) -> int:
        """How many unread bytes are kept. Stop reading from the socket while this is not 0."""
        return len(self._buffer)

    @property
    def is_parted(self) -> bool:
        """Whether they belong to the content of the request, so that `receive_data(b"")` goes on with them."""
        return self._state is _BODY and bool(self._buffer)

    @property
    def is_idle(self) -> bool:
        """Whether no part of a request head has arrived since the last request."""
        return self._state is _HEAD and self.reader.is_idle

    def _advance(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        try:
            if self._state is _HEAD:
                head, data = self.reader.receive(data)
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
            if self._is_first and not self.reader.has_skipped:
                failure = _failure_of_first(error, failure, data)
            events.append(failure)
            return events
        if self._state is _ENDED:
            events.append(_REQUEST_ENDED)
        return events

    def _begin(self, head: RequestHead) -> None:
        self.request = head
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
        if body.is_complete:
            self._body = None
            self._state = _ENDED
            self._keep(rest)
        else:
            self._buffer = rest

    def _keep(self, data: bytes) -> None:
        # After a request that asked to close, only another protocol can follow: RFC 9112 section 9.6.
        if self.request is not None and (self.request.keep_alive or self.request.upgrade is not None):
            self._buffer += data

    def _fail_if_cut_off(self) -> list[Event]:
        if self._state is _BODY and not self._buffer:
            return [self._fail(400, "connection ended inside the request content: RFC 9112 section 8")]
        if self._state is _HEAD and not self.reader.is_idle:
            return [self._fail(400, "connection ended inside the request head: RFC 9112 section 8")]
        return []

    def _fail(self, status: int, reason: str) -> RequestFailed:
        self._close()
        return RequestFailed(status, reason)

    def _close(self) -> None:
        self._state = _CLOSED
        self._body = None
        self._buffer = b""

    # -- what the server sends

    @property
    def should_close(self) -> bool:
        """Whether to close the socket once the response is complete, or at once if no response is due.

        True after a failure, if either side has asked to close, if the peer has ended its side and nothing is buffered,
        and while the request's content is not complete. Not meaningful after a 101.
        """
        if self._state is _CLOSED:
            return True
        if self._eof and not self._buffer:
            return True
        if self.request is None:
            return False
        return not (self._response or self.request).keep_alive or self._state is not _ENDED

    @property
    def response_started(self) -> bool:
        """Whether the final response to the current request has begun. Then no error response can be sent."""
        return self._response is not None and self._response.state is not ResponseState.AWAITED

    @property
    def response_complete(self) -> bool:
        """Whether the response to the current request is complete."""
        return self._response is not None and self._response.state is ResponseState.COMPLETE

    def send_whole(self, status: int, headers: tuple[Header, ...], content: bytes, heads: PlainHeads) -> bytes | None:
        """Return a complete response to a plain request. For any other request, return None and change nothing.

        The bytes are those of `send_response`, with a Content-Length if it has none, and `send_body`. A request is
        plain if it is complete, uses HTTP/1.1, is not HEAD, asks for no upgrade, and does not ask to close.
        """
        request = self.request
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
        """Return an interim response, such as 100 or 103, or no bytes if the peer speaks HTTP/1.0."""
        return self._writer().informational(status, headers)

    def send_response(
        self, status: int, headers: Iterable[Header], *, default_headers: bytes = b"", trailers: bool = False
    ) -> bytes:
        """Return the head of the final response, and choose its framing.

        A Content-Length in `headers` is kept. Without one, the content is chunked, or for an HTTP/1.0 peer ends with
        the connection. A Transfer-Encoding in `headers` is ignored. The options of a Connection field are merged with
        those that are true, such as `close`. `default_headers` is a block of complete lines. Its Date and Server are
        left out if `headers` has them. 101 is allowed if the request asks for an upgrade. If the request's content is
        not complete by now, the connection is closed after the response: RFC 9112 section 9.3.
        """
        if status == 101 and self._state is not _ENDED:
            raise LocalProtocolError("the upgraded request is not complete; read its content before sending 101")
        unfinished = self._state is not _ENDED or (self._eof and not self._buffer)
        return self._writer().start(status, headers, default_headers, trailers, unfinished)

    def send_body(self, data: bytes, more: bool) -> bytes:
        """Return `data` framed as content, or no bytes where content is not allowed (HEAD, 204, 304).

        Raises `LocalProtocolError` if the content is longer than the Content-Length, or shorter at its end.
        """
        return self._writer().body(data, more)

    def send_trailers(self, headers: Iterable[Header]) -> bytes:
        """Return the trailer section, which completes the response.

        The fields are dropped if the content is not chunked or the peer did not send `TE: trailers`.
        """
        return self._writer().trailers(headers)

    def error_response(
        self, status: int, reason: str, *, default_headers: bytes = b"", extra_headers: Iterable[Header] = ()
    ) -> bytes:
        """Return a complete short response in plain text. The connection must be closed after it.

        This also works without a request, to answer a `RequestFailed`.
        """
        if self.response_started:
            raise LocalProtocolError("the response has already started; close the connection instead")
        is_head = self.request is not None and self.request.method == "HEAD"
        data = error_response(status, reason, default_headers, extra_headers, is_head)
        if self.request is not None:
            self._writer().state = ResponseState.COMPLETE
        self._close()
        return data

    def _writer(self) -> ResponseWriter:
        if self._response is None:
            if self.request is None:
                raise LocalProtocolError("there is no request to answer; wait for a request head")
            self._response = ResponseWriter(self.request)
        return self._response


def _failure_of_first(error: RemoteProtocolError, failure: RequestFailed, data: bytes) -> RequestFailed:
    """If a connection's first request is malformed, find out whether it is the beginning of another protocol."""
    if type(error) is PrefaceFound:
        # The line may have begun in earlier pieces of input, but it has ended in this one.
        rest = data[data.index(b"\n") + 1 :]
        return PrefaceReceived(failure.status, failure.reason, PREFACE_LINE + b"\r\n" + rest)
    if type(error) is OtherProtocolFound:
        return OtherProtocolReceived(failure.status, failure.reason)
    return failure
