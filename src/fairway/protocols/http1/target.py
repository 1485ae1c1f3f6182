"""Parses request lines (RFC 9112 section 3).

One regular expression matches the origin form, which nearly every request has. A line that does not match is examined
step by step: it has one of the two other forms that a server must accept, or a fault.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from fairway.protocols.http.authority import is_host
from fairway.protocols.http.fields import TOKEN
from fairway.protocols.http1.errors import OtherProtocolFound, PrefaceFound, RemoteProtocolError

# Visible US-ASCII without "#". This is more than RFC 3986 allows, because browsers send "|", "{" and "^" unescaped in
# queries. The backslash is allowed in queries only: in a path, browsers take it for a slash, and applications might
# too.
_ORIGIN_FORM = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) "
    rb"((/[\x21\x22\x24-\x3e\x40-\x5b\x5d-\x7e]*)(?:\?([\x21\x22\x24-\x7e]*))?) "
    rb"HTTP/1\.([0-9])"
)
_TARGET = re.compile(rb"[\x21\x22\x24-\x7e]+")
_ABSOLUTE_FORM = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)(/[^?]*)?(?:\?(.*))?")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")

PREFACE_LINE = b"PRI * HTTP/2.0"
"""The first line of an HTTP/2 connection (RFC 9113 section 3.4)."""

_METHODS = {method.encode(): method for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")}

_MAX_LINES = 512


class RequestLine(NamedTuple):
    """A valid request line. Only the absolute form has an `authority`, which replaces the Host field."""

    method: str
    target: bytes
    raw_path: bytes
    query_string: bytes
    version: str
    authority: bytes | None


def parse_request_line(line: bytes) -> RequestLine:
    """Parse a request line without its CRLF. Raises `RemoteProtocolError`."""
    match = _ORIGIN_FORM.fullmatch(line)
    if match is None:
        return _parse_other_form(line)
    raw_method, target, path, query, minor = match.groups()
    method = _METHODS.get(raw_method)
    if method is None:
        method = _method(raw_method)
    return RequestLine(method, target, path, query or b"", "1.0" if minor == b"0" else "1.1", None)


remembered_request_line = lru_cache(_MAX_LINES)(parse_request_line)
"""Like `parse_request_line`, but with a cache. The caller must bound the length of the lines."""


def _parse_other_form(line: bytes) -> RequestLine:
    parts = line.split(b" ")
    if len(parts) != 3:
        raise RemoteProtocolError(400, "request line is not method, target, version: RFC 9112 section 3")
    raw_method, target, protocol = parts
    if TOKEN.fullmatch(raw_method) is None:
        raise RemoteProtocolError(400, "method is not a token: RFC 9110 section 9.1")
    if not protocol[:4].upper() == b"HTTP":
        raise OtherProtocolFound(400, "the first line names no version of HTTP: RFC 9112 section 2.2")
    if _VERSION.fullmatch(protocol) is None:
        raise RemoteProtocolError(400, "malformed protocol version: RFC 9112 section 2.3")
    if line == PREFACE_LINE:
        raise PrefaceFound(505, "HTTP/2 is not served here: RFC 9113 section 3.4")
    if not protocol.startswith(b"HTTP/1."):
        raise RemoteProtocolError(505, f"{protocol.decode()} is not served here: RFC 9110 section 15.6.6")
    if _TARGET.fullmatch(target) is None or b"\\" in target.partition(b"?")[0]:
        raise RemoteProtocolError(400, "forbidden character in the request target: RFC 9112 section 3.2")
    method = _method(raw_method)
    # A higher minor version is treated as the highest known one: RFC 9110 section 2.5.
    version = "1.0" if protocol == b"HTTP/1.0" else "1.1"
    if target == b"*" and method == "OPTIONS":
        return RequestLine(method, target, target, b"", version, None)
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        raise RemoteProtocolError(400, "request target has none of the allowed forms: RFC 9112 section 3.2")
    authority, path, query = absolute.groups()
    if not is_host(authority):
        raise RemoteProtocolError(400, "invalid host in the request target: RFC 9110 section 4.2")
    return RequestLine(method, target, path or b"/", query or b"", version, authority)


def _method(raw: bytes) -> str:
    if raw == b"CONNECT":
        raise RemoteProtocolError(501, "CONNECT is not served here: RFC 9110 section 9.3.6")
    if raw != raw.upper():
        # Methods are case-sensitive, but those of ASGI are upper-case. Converting one would change the method that a
        # proxy in front has seen.
        raise RemoteProtocolError(501, "no method has lower-case letters: RFC 9110 section 9.1")
    return raw.decode("ascii")
