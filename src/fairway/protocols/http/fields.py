"""Header fields, as far as they are the same in every version of HTTP: names, and the characters both parts consist of.

Shared by requests, responses and trailers. Of what a field means nothing is here but which fields are never trailers.
"""

from __future__ import annotations

import re

from fairway.protocols.http.errors import LocalProtocolError

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

# Names whose values say the same for many clients, and nothing about one person or one message: what they mean may be
# kept for everybody.
SHARED_NAMES = frozenset(
    b"""
    accept accept-charset accept-encoding accept-language cache-control connection content-type dnt host origin pragma
    priority sec-ch-ua sec-ch-ua-arch sec-ch-ua-mobile sec-ch-ua-model sec-ch-ua-platform sec-fetch-dest sec-fetch-mode
    sec-fetch-site sec-fetch-user sec-gpc sec-websocket-extensions sec-websocket-protocol sec-websocket-version te
    upgrade upgrade-insecure-requests user-agent via x-forwarded-host x-forwarded-port x-forwarded-proto
    """.split()
)

# RFC 9110 section 6.5.1: what frames or routes a message, or says how to read it, must not come behind it.
FORBIDDEN_TRAILERS = frozenset(
    b"authorization connection content-encoding content-length content-range content-type host keep-alive set-cookie "
    b"te trailer transfer-encoding upgrade".split()
)


def check_outbound(name: object, value: object) -> tuple[bytes, bytes]:
    """Return a field that may be sent, its name in lower case.

    The characters of the value are left to `check_outbound_block`, which looks at all values at once.
    """
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise LocalProtocolError(f"header names and values must be bytes, not {name!r}: {value!r}")
    known = KNOWN_NAMES.get(name)
    if known is not None:
        return known, value
    if TOKEN.fullmatch(name) is None:
        raise LocalProtocolError(f"header name {name!r} is not a token; remove spaces, colons and control characters")
    return name.lower(), value
