"""Requests from decoded fields (RFC 9113 section 8.3, RFC 8441 section 4): the head, or why there is none.

A request that is *malformed* in the sense of RFC 9113 section 8.1.1 has its stream reset. One that is valid HTTP/2 but
not served here is answered with a status. If both apply, it counts as malformed.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

from fairway.protocols.http.request import Headers
from fairway.protocols.http2.errors import ErrorCode, StreamFault
from fairway.protocols.http2.events import RequestHead
from fairway.protocols.http2.fields import (
    AUTHORITY,
    CONTENT_LENGTH,
    COOKIE,
    EXPECT,
    FIRST_PSEUDO,
    HOST,
    LATE,
    MALFORMED,
    METHOD,
    PATH,
    PROTOCOL,
    SCHEME,
    TE,
    Entry,
    Refusal,
)
from fairway.protocols.http2.limits import Http2Limits

_TOO_LARGE = Refusal(431, "header fields are too large: RFC 6585 section 5")
_TOO_MANY = Refusal(431, "too many header fields: RFC 6585 section 5")
_TOO_MANY_COOKIES = Refusal(431, "too many cookies: RFC 6585 section 5")
_NO_AUTHORITY = Refusal(400, "neither :authority nor host: RFC 9113 section 8.3.1")
_PLAIN_CONNECT = Refusal(501, "CONNECT is not served here: RFC 9110 section 9.3.6")
_OTHER_PROTOCOL = Refusal(501, "a :protocol other than websocket: RFC 8441 section 4")
_WITH_CONTENT = Refusal(400, "a WebSocket handshake with a content-length: RFC 8441 section 5")

_new_tuple = tuple.__new__


class Refused(NamedTuple):
    """A request that is answered in place of the application, and its head, if one could be made."""

    status: int
    reason: str
    head: RequestHead | None


def malformed(reason: str) -> NoReturn:
    raise StreamFault(ErrorCode.PROTOCOL_ERROR, reason)


def make_head(
    headers: Headers, special: list[Entry], size: int, ended: bool, limits: Http2Limits
) -> RequestHead | Refused:
    """Make the head of a request from its decoded fields. The head keeps `headers`. `StreamFault` if malformed."""
    found: list[Any] = [None] * MALFORMED
    cookies: list[bytes] = []
    cookie_count = 0
    has_regular = False
    refusal: Refusal | None = None
    for kind, field, _, meaning in special:
        if kind >= FIRST_PSEUDO:
            if kind == MALFORMED:
                malformed(meaning)
            if has_regular or found[kind] is not None:
                malformed(LATE)
        elif kind == COOKIE:
            has_regular = True
            cookies.append(field[1])
            cookie_count += meaning
            continue
        else:
            has_regular = True
            if found[kind] is not None and kind != TE:
                malformed(f"more than one {field[0].decode()}: RFC 9110 section 5.3")
        found[kind] = meaning
        if type(meaning) is Refusal:
            refusal = meaning
    method = found[METHOD]
    path = found[PATH]
    scheme = found[SCHEME]
    authority = found[AUTHORITY]
    protocol = found[PROTOCOL]
    if method == "CONNECT":
        refusal = _check_connect(found, limits) or refusal
    elif method is None or path is None or scheme is None:
        malformed("no :method, :scheme or :path: RFC 9113 section 8.3.1")
    elif protocol is not None:
        malformed(":protocol without CONNECT: RFC 8441 section 4")
    host = found[HOST]
    if authority is None:
        authority = host
        if host is None:
            refusal = refusal or _NO_AUTHORITY
    elif host is not None and type(host) is type(authority) is tuple and host[1].lower() != authority[1].lower():
        malformed("host contradicts :authority: RFC 9113 section 8.3.1")
    length = found[CONTENT_LENGTH]
    if length and ended:
        malformed("content-length without content: RFC 9113 section 8.1.1")
    if path is not None and type(path) is tuple and path[0] == b"*" and method != "OPTIONS":
        malformed(":path is an asterisk, and the method not OPTIONS: RFC 9113 section 8.3.1")
    if cookies:
        headers.append((b"cookie", b"; ".join(cookies) if len(cookies) > 1 else cookies[0]))
        if cookie_count > limits.max_cookies:
            refusal = _TOO_MANY_COOKIES
    if size > limits.max_header_bytes:
        refusal = _TOO_LARGE
    elif len(headers) >= limits.max_header_count:
        refusal = _TOO_MANY
    if refusal is not None and (path is None or Refusal in (type(method), type(path), type(authority))):
        return Refused(refusal.status, refusal.reason, None)
    if authority is not None:
        headers.insert(0, authority)
    # Not `RequestHead(...)`, which would take twice as long.
    head = _new_tuple(
        RequestHead,
        (
            method,
            path[0],
            path[1],
            "2",
            scheme,
            protocol,
            length,
            found[EXPECT] is not None and not ended and length != 0,
            found[TE] is not None,
            headers,
        ),
    )
    return head if refusal is None else Refused(refusal.status, refusal.reason, head)


def _check_connect(found: list[Any], limits: Http2Limits) -> Refusal | None:
    protocol = found[PROTOCOL]
    if protocol is None:
        if found[PATH] is not None or found[SCHEME] is not None or found[AUTHORITY] is None:
            malformed("CONNECT with :scheme or :path, or without :authority: RFC 9113 section 8.5")
        return _PLAIN_CONNECT
    if not limits.websocket:
        malformed(":protocol, which was not offered: RFC 8441 section 3")
    if found[PATH] is None or found[SCHEME] is None or found[AUTHORITY] is None:
        malformed("extended CONNECT without :scheme, :path or :authority: RFC 8441 section 4")
    if protocol != b"websocket":
        return _OTHER_PROTOCOL
    return None if found[CONTENT_LENGTH] is None else _WITH_CONTENT


def check_trailers(headers: Headers, special: list[Entry], size: int, limits: Http2Limits) -> None:
    """Check the trailer section of a request. Like that of HTTP/1.1, it is dropped afterwards."""
    for kind, _, _, meaning in special:
        if kind == MALFORMED:
            malformed(meaning)
        if kind >= FIRST_PSEUDO:
            malformed("pseudo-header field in trailers: RFC 9113 section 8.1")
    if size > limits.max_header_bytes or len(headers) + len(special) > limits.max_header_count:
        raise StreamFault(ErrorCode.ENHANCE_YOUR_CALM, "trailers are too large: RFC 6585 section 5")
