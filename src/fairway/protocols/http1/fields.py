"""Field lines, for the request head, trailers and the response. Nothing here knows what a field means."""

from __future__ import annotations

from fairway.protocols.http.errors import LocalProtocolError
from fairway.protocols.http.fields import KNOWN_NAMES, OUTBOUND_CHARACTERS, SHARED_NAMES, TOKEN
from fairway.protocols.http1.errors import RemoteProtocolError


def parse_name(raw: bytes) -> bytes:
    """Return a received field name in lower case; refuse what is not a token (RFC 9110 section 5.1)."""
    if TOKEN.fullmatch(raw) is not None:
        return raw.lower()
    if raw[:1] in (b" ", b"\t"):
        raise RemoteProtocolError(400, "header line begins with white space: RFC 9112 section 5.2")
    if raw[-1:] in (b" ", b"\t"):
        raise RemoteProtocolError(400, "white space between header name and colon: RFC 9112 section 5.1")
    raise RemoteProtocolError(400, "header name is not a token: RFC 9110 section 5.1")


def parse_line(line: bytes) -> tuple[bytes, bytes]:
    """Split a field line whose characters were checked; the name in lower case, the value without its OWS."""
    raw, colon, value = line.partition(b":")
    name = KNOWN_NAMES.get(raw)
    if name is None:
        name = parse_name(raw)
    if not colon:
        raise RemoteProtocolError(400, "header line without a colon: RFC 9112 section 5")
    return name, value.strip(b" \t")


# Lines that say the same for many clients: kept whole, one line is one object for all of them, and is parsed once.
# Only `SHARED_NAMES` are in the table; it is forgotten when it is full.
_MAX_SHARED_LINES = 1024
_MAX_SHARED_BYTES = 256
_shared_lines: dict[bytes, tuple[bytes, bytes]] = {}

shared_line = _shared_lines.get
"""The field of a line that was parsed before, if it is kept; the same object every time."""


def parse_and_share(line: bytes) -> tuple[bytes, bytes]:
    """As `parse_line`, and keep the field if its like will come again."""
    field = parse_line(line)
    if len(line) <= _MAX_SHARED_BYTES and field[0] in SHARED_NAMES:
        if len(_shared_lines) >= _MAX_SHARED_LINES:
            _shared_lines.clear()
        _shared_lines[line] = field
    return field


def check_outbound_block(block: bytes, lines: int) -> None:
    """Refuse a block of `lines` field lines if a value holds CR, LF, NUL or another control character."""
    if block.translate(None, OUTBOUND_CHARACTERS) != b"\r\n" * lines:
        raise LocalProtocolError("a header value contains CR, LF, NUL or another control character; remove it")
