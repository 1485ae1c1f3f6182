"""Writes responses: status line, header fields, content and trailers.

A `ResponseWriter` belongs to one request, and returns the bytes to send. It chooses the framing (RFC 9112 section 6),
and so decides whether the connection can stay open. A call that raises `LocalProtocolError` has changed nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from http import HTTPStatus

from fairway.protocols.http.errors import LocalProtocolError
from fairway.protocols.http.fields import FORBIDDEN_TRAILERS, check_outbound
from fairway.protocols.http.request import Header, Headers
from fairway.protocols.http1.events import RequestHead
from fairway.protocols.http1.fields import check_outbound_block

_STATUS_LINES = {int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode("ascii")) for status in HTTPStatus}
_MAX_LENGTH_DIGITS = 18
# Fields that take part in the framing, and fields for which the server has a default.
_SPECIAL_NAMES = frozenset((b"connection", b"content-length", b"transfer-encoding", b"date", b"server"))


class ResponseState(enum.Enum):
    """The part of the response that is sent next. It only moves forward."""

    AWAITED = enum.auto()
    BODY = enum.auto()
    TRAILERS = enum.auto()
    COMPLETE = enum.auto()


class Framing(enum.Enum):
    """How the peer finds the end of the content."""

    NO_CONTENT = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()


# Globals, because CPython 3.11 takes 0.1 µs to look up an enum member in its class.
_AWAITED, _BODY, _TRAILERS, _COMPLETE = ResponseState
_NO_CONTENT, _LENGTH, _CHUNKED, _CLOSE = Framing


class ResponseWriter:
    """The response to one request."""

    __slots__ = ("_framing", "_has_trailers", "_remaining", "_request", "keep_alive", "state")

    def __init__(self, request: RequestHead) -> None:
        self._request = request
        self._framing = _NO_CONTENT
        self._remaining = 0
        self._has_trailers = False
        self.keep_alive = request.keep_alive
        self.state = _AWAITED

    def informational(self, status: int, headers: Iterable[Header]) -> bytes:
        """Return an interim response, or no bytes for an HTTP/1.0 peer (RFC 9110 section 15.2)."""
        if self.state is not _AWAITED:
            raise LocalProtocolError(f"status {status} was sent after the final response; send it before")
        first_line = status_line(status)
        if status > 199 or status == 101:
            raise LocalProtocolError(f"status {status} is not informational; use 100, 102 or 103")
        block, _ = _fields(headers)
        if self._request.version == "1.0":
            return b""
        return first_line + block + b"\r\n"

    def start(
        self, status: int, headers: Iterable[Header], default_headers: bytes, trailers: bool, must_close: bool
    ) -> bytes:
        """Return the head of the final response. `must_close`: the connection cannot stay open in any case."""
        if self.state is not _AWAITED:
            raise LocalProtocolError("the response has already started; send one response for each request")
        first_line = status_line(status)
        if status < 200 and (status != 101 or self._request.upgrade is None):
            raise LocalProtocolError(f"status {status} cannot end this request; use a status from 200 to 999")
        block, special = _fields(headers)
        length, options, default_headers = _interpret(special, default_headers)
        framing, length = self._choose_framing(status, length)
        keep_alive = self.keep_alive and not must_close and b"close" not in options
        if framing is _CLOSE or status == 101:
            keep_alive = False
        options.discard(b"close")
        options.discard(b"keep-alive")
        if not keep_alive and status != 101:
            options.add(b"close")
        elif self._request.version == "1.0":
            options.add(b"keep-alive")
        parts = [first_line, default_headers, block]
        if framing is _CHUNKED:
            parts.append(b"transfer-encoding: chunked\r\n")
        elif length is not None:
            parts.append(b"content-length: %d\r\n" % length)
        if options:
            parts.append(b"connection: " + b", ".join(sorted(options)) + b"\r\n")
        parts.append(b"\r\n")
        self._framing = framing
        self._remaining = length or 0
        self._has_trailers = trailers
        self.keep_alive = keep_alive
        self.state = _COMPLETE if status == 101 else _BODY
        return b"".join(parts)

    def _choose_framing(self, status: int, length: int | None) -> tuple[Framing, int | None]:
        """Return the framing and the Content-Length to send, if any (RFC 9112 section 6.3)."""
        if status == 204 or status < 200:
            return _NO_CONTENT, None
        if status == 205:
            # RFC 9110 section 15.3.6: no content, and the peer has to be told so.
            return _NO_CONTENT, 0
        if status == 304 or self._request.method == "HEAD":
            return _NO_CONTENT, length
        if length is not None:
            return _LENGTH, length
        if self._request.version == "1.0":
            return _CLOSE, None
        return _CHUNKED, None

    def body(self, data: bytes, more: bool) -> bytes:
        """Return `data` framed as content. If `more` is false, the content ends, and only trailers may follow."""
        if self.state is not _BODY:
            raise LocalProtocolError("no response content is expected now; start a response, and end it once")
        framing = self._framing
        if framing is _LENGTH:
            remaining = self._remaining - len(data)
            if remaining < 0:
                raise LocalProtocolError("response content is longer than its content-length; send no more than that")
            if remaining and not more:
                raise LocalProtocolError(
                    f"response content ends {remaining} bytes before its content-length; send them or close"
                )
            self._remaining = remaining
        elif framing is _NO_CONTENT:
            data = b""
        elif framing is _CHUNKED and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if more:
            return data
        if self._has_trailers:
            self.state = _TRAILERS
            return data
        self.state = _COMPLETE
        return data + b"0\r\n\r\n" if framing is _CHUNKED else data

    def takes_exactly(self, length: int) -> bool:
        """Whether content of this length, sent without framing, would complete the response."""
        return self._framing is _LENGTH and self._remaining == length

    def trailers(self, headers: Iterable[Header]) -> bytes:
        """Return the end of the response, with the trailers if the framing allows them and the peer accepts them."""
        if self.state is not _TRAILERS:
            raise LocalProtocolError("no trailers are expected now; announce them, and end the content first")
        fields = list(headers)
        for name, _ in fields:
            if isinstance(name, bytes) and name.lower() in FORBIDDEN_TRAILERS:
                raise LocalProtocolError(f"{name.decode('latin-1')} cannot be a trailer; send it as a header")
        block = b"".join([_line(*check_outbound(name, value)) for name, value in fields])
        check_outbound_block(block, len(fields))
        self.state = _COMPLETE
        if self._framing is not _CHUNKED:
            return b""
        return b"0\r\n" + (block if self._request.accepts_trailers else b"") + b"\r\n"


_PLAIN_REQUEST = RequestHead("GET", b"/", b"/", b"", "1.1", [], True, False, None, None, False, False)

COMPLETED = ResponseWriter(_PLAIN_REQUEST)
"""The writer of all responses that were sent by `send_whole`: they are complete, and the connection stays open."""
COMPLETED.state = _COMPLETE

_MAX_PLAIN_HEADS = 256
_MAX_PLAIN_HEAD_BYTES = 2048
_NOT_PLAIN = b""


class PlainHeads:
    """A cache of the heads of complete responses to plain requests (`Http1Protocol.send_whole`).

    A `ResponseWriter` makes the heads, which contain `default_headers`. So when these change, once a second for the
    date, a new `PlainHeads` is needed. The cache is bounded in number and size. When it is full, it is emptied.
    """

    __slots__ = ("_default_headers", "_kept")

    def __init__(self, default_headers: bytes) -> None:
        self._default_headers = default_headers
        self._kept: dict[tuple[int, tuple[Header, ...], int], bytes] = {}

    def find(self, status: int, headers: tuple[Header, ...], length: int) -> bytes | None:
        """Return the head of a response with content of this length, or None if it needs a `ResponseWriter`.

        That is the case if the content is not sent, if it contradicts the Content-Length, or if a field is not allowed
        or closes the connection.
        """
        key = (status, headers, length)
        head = self._kept.get(key)
        if head is None:
            head = self._make(status, headers, length)
            if sum(len(name) + len(value) for name, value in headers) <= _MAX_PLAIN_HEAD_BYTES:
                if len(self._kept) >= _MAX_PLAIN_HEADS:
                    self._kept.clear()
                self._kept[key] = head
        return head or None

    def _make(self, status: int, headers: tuple[Header, ...], length: int) -> bytes:
        if not any(name.lower() == b"content-length" for name, _ in headers):
            headers = (*headers, (b"content-length", b"%d" % length))
        writer = ResponseWriter(_PLAIN_REQUEST)
        try:
            head = writer.start(status, headers, self._default_headers, False, False)
        except LocalProtocolError:
            return _NOT_PLAIN
        return head if writer.keep_alive and writer.takes_exactly(length) else _NOT_PLAIN


def status_line(status: int) -> bytes:
    """Return the status line with its CRLF. The reason phrase of an unregistered status is empty."""
    line = _STATUS_LINES.get(status)
    if line is not None:
        return line
    if not isinstance(status, int) or not 100 <= status <= 999:
        raise LocalProtocolError(f"status {status!r} is not an HTTP status; use an integer from 100 to 999")
    return b"HTTP/1.1 %d \r\n" % status


def _line(name: bytes, value: bytes) -> bytes:
    return name + b": " + value + b"\r\n"


def _fields(headers: Iterable[Header]) -> tuple[bytes, Headers]:
    """Return the checked field lines and the special fields. The lines do not contain the fields of the framing."""
    lines = []
    special = []
    for name, value in headers:
        name, value = check_outbound(name, value)
        if name in _SPECIAL_NAMES:
            special.append((name, value))
            if name not in (b"date", b"server"):
                continue
        lines.append(name + b": " + value + b"\r\n")
    block = b"".join(lines)
    check_outbound_block(block, len(lines))
    return block, special


def _interpret(special: Headers, default_headers: bytes) -> tuple[int | None, set[bytes], bytes]:
    """Return the Content-Length, the Connection options, and the defaults that the application has not overridden."""
    length = None
    options: set[bytes] = set()
    for name, value in special:
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                raise LocalProtocolError("content-length must be sent once, as at most 18 decimal digits")
            length = int(value)
        elif name == b"connection":
            options.update(option.strip(b" \t").lower() for option in value.split(b","))
            check_outbound_block(value, 0)
        elif name != b"transfer-encoding":
            default_headers = b"".join(
                line for line in default_headers.splitlines(True) if not line.lower().startswith(name + b":")
            )
    options.discard(b"")
    return length, options, default_headers


def error_response(
    status: int, reason: str, default_headers: bytes, extra_headers: Iterable[Header], is_head: bool
) -> bytes:
    """Return a complete response with one line of plain text, which closes the connection."""
    first_line = status_line(status)
    block, special = _fields(extra_headers)
    _, options, default_headers = _interpret(special, default_headers)
    options.discard(b"keep-alive")
    options.add(b"close")
    text = " ".join(reason.split()) or first_line[9:-2].decode("ascii").strip()
    content = text.encode("utf-8", "replace") + b"\n"
    return b"".join(
        (
            first_line,
            default_headers,
            block,
            b"content-type: text/plain; charset=utf-8\r\n",
            b"content-length: %d\r\n" % len(content),
            b"connection: " + b", ".join(sorted(options)) + b"\r\n\r\n",
            b"" if is_head else content,
        )
    )
