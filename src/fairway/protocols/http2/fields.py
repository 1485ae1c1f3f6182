"""Received fields, and what they mean. A field is examined once, when it is first decoded; its entry keeps the result.

A connection's HPACK table holds entries, and so does the static table. So a field that arrives as an index costs one
look-up and no check. An entry is a tuple of

* its kind: `REGULAR` for most fields, about which nothing more needs to be known;
* the field: name and value;
* its size as RFC 7541 section 4.1 counts: the length of both, plus 32;
* what the field means, if the kind is not `REGULAR`: see the kinds below.

All connections share short entries whose values say nothing about a person (`SHARED_NAMES`), and short paths without a
query.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from fairway.protocols.http.authority import is_host
from fairway.protocols.http.fields import INBOUND_CHARACTERS, KNOWN_NAMES, TOKEN
from fairway.protocols.http.request import Header

Entry: TypeAlias = tuple[int, Header, int, Any]
"""Kind, field, size, meaning."""

OVERHEAD = 32
"""Bytes that the size of a field counts beyond its length (RFC 7541 section 4.1, RFC 9113 section 6.5.2)."""

# The kinds, each with what its meaning holds. `REGULAR` is 0, so that the decoder need not compare.
REGULAR = 0
# Fields that go into the headers unchanged.
CONTENT_LENGTH = 1  # the number
EXPECT = 2  # True
TE = 3  # True
# Fields that go into the headers in another form.
COOKIE = 4  # the number of cookies in it
HOST = 5  # the field
# Pseudo-header fields.
AUTHORITY = 6  # the field `host` that replaces it
METHOD = 7  # text
SCHEME = 8  # text
PATH = 9  # raw path and query
PROTOCOL = 10  # the value
# Fields that make a request malformed.
MALFORMED = 11  # the reason

FIRST_PSEUDO = AUTHORITY


class Refusal:
    """The meaning of a value that HTTP/2 allows but we do not: the status to answer with, and the reason."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason


_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*")
# As for HTTP/1.1: visible US-ASCII without "#"; the backslash in queries only.
_PATH = re.compile(rb"(/[\x21\x22\x24-\x3e\x40-\x5b\x5d-\x7e]*)(?:\?([\x21\x22\x24-\x7e]*))?")
_METHODS = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
}
# 18 digits stay below 2**63. No request is that long.
_MAX_LENGTH_DIGITS = 18

_NO_HOST = Refusal(400, "invalid host: RFC 9110 section 7.2")

_FORBIDDEN = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))


def make_entry(name: bytes, value: bytes) -> Entry:
    """Examine a received field. This refuses nothing: the request does, once it is made from all its fields."""
    kind, meaning = _look_at(name, value)
    return kind, (name, value), len(name) + len(value) + OVERHEAD, meaning


LATE = "pseudo-header field twice, or behind a regular one: RFC 9113 section 8.3"
LATE_PSEUDO: Entry = (MALFORMED, (b"", b""), 0, LATE)
"""Follows the entry of a pseudo-header field that comes too late."""


def _look_at(name: bytes, value: bytes) -> tuple[int, Any]:
    if value.translate(None, INBOUND_CHARACTERS) or value.strip(b" \t") != value:
        return MALFORMED, "forbidden character in, or white space around a field value: RFC 9113 section 8.2.1"
    look = _MEANINGS.get(name)
    if look is not None:
        return look(value)
    if name in KNOWN_NAMES:
        # The table maps a name to its lower-case form, so this is also the check for lower case.
        if KNOWN_NAMES[name] == name and name not in _FORBIDDEN:
            return REGULAR, None
    elif _NAME.fullmatch(name) is not None and name not in _FORBIDDEN:
        return REGULAR, None
    return MALFORMED, _what_is_wrong_with(name)


def _what_is_wrong_with(name: bytes) -> str:
    if name in _FORBIDDEN:
        return f"{name.decode()} is specific to a connection: RFC 9113 section 8.2.2"
    if name[:1] == b":":
        return "undefined pseudo-header field: RFC 9113 section 8.3"
    if _NAME.fullmatch(name.lower()) is not None:
        return "field name is not in lower case: RFC 9113 section 8.2.1"
    return "field name is not a token: RFC 9113 section 8.2.1"


def _content_length(value: bytes) -> tuple[int, Any]:
    # bytes.isdigit() is true for ASCII digits only.
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        return MALFORMED, "content-length is not a number: RFC 9110 section 8.6"
    return CONTENT_LENGTH, int(value)


def _expect(value: bytes) -> tuple[int, Any]:
    if value.lower() != b"100-continue":
        return EXPECT, Refusal(417, "unknown expectation: RFC 9110 section 10.1.1")
    return EXPECT, True


def _te(value: bytes) -> tuple[int, Any]:
    if value.lower() == b"trailers":
        return TE, True
    return MALFORMED, "te other than trailers: RFC 9113 section 8.2.2"


def _cookie(value: bytes) -> tuple[int, Any]:
    return COOKIE, value.count(b";") + 1


def _host(value: bytes) -> tuple[int, Any]:
    return HOST, (b"host", value) if is_host(value) else _NO_HOST


def _authority(value: bytes) -> tuple[int, Any]:
    return AUTHORITY, (b"host", value) if is_host(value) else _NO_HOST


def _method(value: bytes) -> tuple[int, Any]:
    method = _METHODS.get(value)
    if method is not None:
        return METHOD, method
    if TOKEN.fullmatch(value) is None:
        return MALFORMED, "method is not a token: RFC 9110 section 9.1"
    if value != value.upper():
        # ASGI methods are upper-case. Converting one would make it a different method from the one that a proxy saw.
        return METHOD, Refusal(501, "no method has lower-case letters: RFC 9110 section 9.1")
    return METHOD, value.decode("ascii")


def _scheme(value: bytes) -> tuple[int, Any]:
    if _SCHEME.fullmatch(value) is None:
        return MALFORMED, "malformed :scheme: RFC 9113 section 8.3.1"
    return SCHEME, value.decode("ascii").lower()


def _path(value: bytes) -> tuple[int, Any]:
    match = _PATH.fullmatch(value)
    if match is not None:
        return PATH, (match[1], match[2] or b"")
    if value == b"*":
        return PATH, (value, b"")
    if value[:1] == b"/":
        return PATH, Refusal(400, "forbidden character in :path: RFC 9113 section 8.3.1")
    return MALFORMED, ":path is empty, or does not begin with a slash: RFC 9113 section 8.3.1"


def _protocol(value: bytes) -> tuple[int, Any]:
    return PROTOCOL, value


def _status(value: bytes) -> tuple[int, Any]:
    return MALFORMED, ":status in a request: RFC 9113 section 8.3"


_MEANINGS = {
    b"content-length": _content_length,
    b"expect": _expect,
    b"te": _te,
    b"cookie": _cookie,
    b"host": _host,
    b":authority": _authority,
    b":method": _method,
    b":scheme": _scheme,
    b":path": _path,
    b":protocol": _protocol,
    b":status": _status,
}
