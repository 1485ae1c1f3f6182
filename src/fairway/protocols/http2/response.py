"""Field blocks of responses: which of an application's headers are sent, and which blocks can be kept.

Connection-specific fields are dropped (RFC 9113 section 8.2.2), because an application need not know what carries its
response.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairway.protocols.http.errors import LocalProtocolError
from fairway.protocols.http.fields import FORBIDDEN_TRAILERS, OUTBOUND_CHARACTERS, check_outbound
from fairway.protocols.http.request import Header
from fairway.protocols.http2.hpack.encoder import SENSITIVE_NAMES, encode

_DROPPED = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_SPECIAL = _DROPPED | {b"content-length", b"date", b"server"}

WITHOUT_CONTENT = frozenset((204, 205, 304))
"""Statuses whose content is not sent (RFC 9110 section 6.4.1, and 15.3.6)."""

_MAX_LENGTH_DIGITS = 18


def encode_head(status: int, headers: Iterable[Header], default_headers: Iterable[Header]) -> tuple[bytes, int | None]:
    """Return the field block of a response and its Content-Length, if it has one.

    The application's own Date or Server replaces the default. Raises `LocalProtocolError` for headers that cannot be
    sent.
    """
    if not isinstance(status, int) or not 100 <= status <= 999:
        raise LocalProtocolError(f"status {status!r} is not an HTTP status; use an integer from 100 to 999")
    length = None
    own: set[bytes] = set()
    fields: list[Header] = []
    for name, value in headers:
        name, value = check_outbound(name, value)
        if name in _SPECIAL:
            if name in _DROPPED:
                continue
            if name == b"content-length":
                if length is not None or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                    raise LocalProtocolError("content-length must be sent once, as at most 18 decimal digits")
                length = int(value)
                continue
            own.add(name)
        fields.append((name, value.strip(b" \t")))
    _check_values(fields)
    if status == 204 or status < 200:
        length = None
    elif status == 205:
        length = 0
    if length is not None:
        fields.append((b"content-length", b"%d" % length))
    defaults = [field for field in default_headers if field[0] not in own]
    return encode([(b":status", b"%d" % status), *defaults, *fields]), length


def encode_trailers(headers: Iterable[Header]) -> bytes:
    """Return the field block of a trailer section. Raises `LocalProtocolError` for fields that cannot be trailers."""
    fields = []
    for name, value in headers:
        name, value = check_outbound(name, value)
        if name in FORBIDDEN_TRAILERS:
            raise LocalProtocolError(f"{name.decode('latin-1')} cannot be a trailer; send it as a header")
        fields.append((name, value.strip(b" \t")))
    _check_values(fields)
    return encode(fields)


def _check_values(fields: list[Header]) -> None:
    if b"".join([value for _, value in fields]).translate(None, OUTBOUND_CHARACTERS):
        raise LocalProtocolError("a header value contains CR, LF, NUL or another control character; remove it")


_MAX_PLAIN_BLOCKS = 256
_MAX_PLAIN_BYTES = 2048
_NOT_PLAIN = b""


class PlainBlocks:
    """Field blocks of whole responses (`Stream.send_whole`), made once and kept for all connections.

    The blocks contain `default_headers`, so whenever these change, once a second for the date, there is a new
    `PlainBlocks`. Number and size are bounded; when it is full, it is emptied. Blocks with fields about one person are
    never kept.
    """

    __slots__ = ("_default_headers", "_kept")

    def __init__(self, default_headers: tuple[Header, ...]) -> None:
        self._default_headers = default_headers
        self._kept: dict[tuple[int, tuple[Header, ...], int], bytes] = {}

    def find(self, status: int, headers: tuple[Header, ...], length: int) -> bytes | None:
        """Return the block of a response with `length` bytes of content. None if it cannot be sent that simply: its
        content is dropped or does not fit the Content-Length, or a field is not allowed.
        """
        key = (status, headers, length)
        block = self._kept.get(key)
        if block is None:
            block = self._make(status, headers, length)
            if _may_be_kept(headers):
                if len(self._kept) >= _MAX_PLAIN_BLOCKS:
                    self._kept.clear()
                self._kept[key] = block
        return block or None

    def _make(self, status: int, headers: tuple[Header, ...], length: int) -> bytes:
        is_silent = status in WITHOUT_CONTENT
        if is_silent and length:
            return _NOT_PLAIN
        try:
            if not is_silent and not any(name.lower() == b"content-length" for name, _ in headers):
                headers = (*headers, (b"content-length", b"%d" % length))
            block, promised = encode_head(status, headers, self._default_headers)
        except (LocalProtocolError, AttributeError, TypeError):
            # The general path will say what is wrong.
            return _NOT_PLAIN
        return block if status >= 200 and (is_silent or promised == length) else _NOT_PLAIN


def _may_be_kept(headers: tuple[Header, ...]) -> bool:
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name.lower() in SENSITIVE_NAMES:
            return False
    return size <= _MAX_PLAIN_BYTES
