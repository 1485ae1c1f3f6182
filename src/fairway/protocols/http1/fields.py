"""Header fields: names, lines, and the characters both may consist of.

Shared by the request head, trailers and the response. Nothing here knows what a field means.
"""

from __future__ import annotations

import re

from fairway.protocols.http1.errors import LocalProtocolError, RemoteProtocolError

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
TOKEN = re.compile(_TOKEN)

# What may stand in a field line besides CRLF (RFC 9110 section 5.5); for translate(), which deletes it.
INBOUND_CHARACTERS = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte not in (0x7F, 0x85)))
OUTBOUND_CHARACTERS = INBOUND_CHARACTERS + b"\x85"

# Names that nearly every message consists of. A hit tells that the name is a token and what it is in lower case,
# for the price of one dictionary look-up. The table is fixed, so a peer cannot make it grow.
_COMMON_NAMES = b"""
accept accept-charset accept-encoding accept-language access-control-allow-credentials access-control-allow-headers
access-control-allow-methods access-control-allow-origin access-control-expose-headers access-control-max-age
access-control-request-headers access-control-request-method age allow alt-svc authorization cache-control cdn-loop
cf-connecting-ip cf-ipcountry cf-ray cf-visitor connection content-disposition content-encoding content-language
content-length content-location content-range content-security-policy content-type cookie
cross-origin-embedder-policy cross-origin-opener-policy cross-origin-resource-policy date dnt early-data etag expect
expires forwarded from host if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive
last-modified link location max-forwards nel origin permissions-policy pragma priority proxy-authorization range
referer referrer-policy report-to retry-after sec-ch-ua sec-ch-ua-arch sec-ch-ua-mobile sec-ch-ua-model
sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc sec-purpose
sec-websocket-accept sec-websocket-extensions sec-websocket-key sec-websocket-protocol sec-websocket-version server
server-timing set-cookie strict-transport-security te traceparent tracestate trailer transfer-encoding true-client-ip
upgrade upgrade-insecure-requests user-agent vary via www-authenticate x-amzn-trace-id x-content-type-options
x-correlation-id x-csrftoken x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-forwarded-server
x-frame-options x-powered-by x-real-ip x-request-id x-requested-with x-xss-protection
"""


def _known_names() -> dict[bytes, bytes]:
    known: dict[bytes, bytes] = {}
    for name in _COMMON_NAMES.split():
        known[name] = known[name.title()] = name
    for spelling in (b"DNT", b"ETag", b"NEL", b"TE", b"WWW-Authenticate", b"X-CSRFToken", b"X-XSS-Protection"):
        known[spelling] = known[spelling.lower()]
    for name in [name for name in known if name.startswith(b"Sec-Websocket")]:
        known[name.replace(b"Sec-Websocket", b"Sec-WebSocket")] = known[name]
    return known


KNOWN_NAMES = _known_names()


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
# Only names that say nothing about one person or one message are in the table; it is forgotten when it is full.
_SHARED_NAMES = frozenset(
    b"""
    accept accept-charset accept-encoding accept-language cache-control connection content-type dnt host origin pragma
    priority sec-ch-ua sec-ch-ua-arch sec-ch-ua-mobile sec-ch-ua-model sec-ch-ua-platform sec-fetch-dest sec-fetch-mode
    sec-fetch-site sec-fetch-user sec-gpc sec-websocket-extensions sec-websocket-protocol sec-websocket-version te
    upgrade upgrade-insecure-requests user-agent via x-forwarded-host x-forwarded-port x-forwarded-proto
    """.split()
)
_MAX_SHARED_LINES = 1024
_MAX_SHARED_BYTES = 256
_shared_lines: dict[bytes, tuple[bytes, bytes]] = {}

shared_line = _shared_lines.get
"""The field of a line that was parsed before, if it is kept; the same object every time."""


def parse_and_share(line: bytes) -> tuple[bytes, bytes]:
    """As `parse_line`, and keep the field if its like will come again."""
    field = parse_line(line)
    if len(line) <= _MAX_SHARED_BYTES and field[0] in _SHARED_NAMES:
        if len(_shared_lines) >= _MAX_SHARED_LINES:
            _shared_lines.clear()
        _shared_lines[line] = field
    return field


def check_outbound(name: object, value: object) -> tuple[bytes, bytes]:
    """Return a field that may be sent, its name in lower case.

    The characters of the value are left to ``check_outbound_block``, which looks at all values at once.
    """
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise LocalProtocolError(f"header names and values must be bytes, not {name!r}: {value!r}")
    known = KNOWN_NAMES.get(name)
    if known is not None:
        return known, value
    if TOKEN.fullmatch(name) is None:
        raise LocalProtocolError(f"header name {name!r} is not a token; remove spaces, colons and control characters")
    return name.lower(), value


def check_outbound_block(block: bytes, lines: int) -> None:
    """Refuse a block of ``lines`` field lines if a value holds CR, LF, NUL or another control character."""
    if block.translate(None, OUTBOUND_CHARACTERS) != b"\r\n" * lines:
        raise LocalProtocolError("a header value contains CR, LF, NUL or another control character; remove it")
