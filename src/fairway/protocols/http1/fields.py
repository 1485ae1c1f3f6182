"""Parses and checks field lines of request heads, trailers and responses, without regard to their meaning."""

from __future__ import annotations

from fairway.protocols.http.errors import LocalProtocolError
from fairway.protocols.http.fields import KNOWN_NAMES, OUTBOUND_CHARACTERS, SHARED_NAMES, TOKEN
from fairway.protocols.http1.errors import RemoteProtocolError


def parse_name(raw: bytes) -> bytes:
    """Return a received field name in lower case. Raises `RemoteProtocolError` unless it is a token (RFC 9110 5.1)."""
    if TOKEN.fullmatch(raw) is not None:
        return raw.lower()
    if raw[:1] in (b" ", b"\t"):
        raise RemoteProtocolError(400, "header line begins with white space: RFC 9112 section 5.2")
    if raw[-1:] in (b" ", b"\t"):
        raise RemoteProtocolError(400, "white space between header name and colon: RFC 9112 section 5.1")
    raise RemoteProtocolError(400, "header name is not a token: RFC 9110 section 5.1")


def parse_line(line: bytes) -> tuple[bytes, bytes]:
    """Split a field line into its name, in lower case, and its value, without white space around it.

    The characters of the line must have been checked. Raises `RemoteProtocolError`.
    """
    raw, colon, value = line.partition(b":")
    name = KNOWN_NAMES.get(raw)
    if name is None:
        name = parse_name(raw)
    if not colon:
        raise RemoteProtocolError(400, "header line without a colon: RFC 9112 section 5")
    return name, value.strip(b" \t")


# Field lines that are the same for many clients are kept, so that they are parsed only once and all requests share one
# object. The table holds only fields in `SHARED_NAMES`, and is emptied when it is full.
_MAX_SHARED_LINES = 1024
_MAX_SHARED_BYTES = 256
_shared_lines: dict[bytes, tuple[bytes, bytes]] = {}

shared_line = _shared_lines.get
"""`shared_line(line)` returns the kept field of a line, always the same object. None if it is not kept."""


def parse_and_share(line: bytes) -> tuple[bytes, bytes]:
    """Like `parse_line`, but also keep the field for `shared_line` if other requests are likely to have it."""
    field = parse_line(line)
    if len(line) <= _MAX_SHARED_BYTES and field[0] in SHARED_NAMES:
        if len(_shared_lines) >= _MAX_SHARED_LINES:
            _shared_lines.clear()
        _shared_lines[line] = field
    return field


def check_outbound_block(block: bytes, lines: int) -> None:
    """Raise `LocalProtocolError` if a value in a block of `lines` field lines contains a control character."""
    if block.translate(None, OUTBOUND_CHARACTERS) != b"\r\n" * lines:
        raise LocalProtocolError("a header value contains CR, LF, NUL or another control character; remove it")
