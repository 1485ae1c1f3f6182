"""Interprets the fields of a request head that matter to the connection: host, length, persistence, expectation,
upgrade.

All forms of request smuggling are refused here, even those that RFC 9112 allows a server to repair: a length beside a
transfer coding, repeated lengths, lists of lengths, and any transfer coding other than one "chunked".

Most requests have the same of these fields. So the meaning of short heads is kept, for up to `_MAX_MEANINGS` different
ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from fairway.protocols.http.authority import is_host
from fairway.protocols.http.request import Headers
from fairway.protocols.http1.errors import RemoteProtocolError
from fairway.protocols.http1.events import RequestHead
from fairway.protocols.http1.target import RequestLine
from fairway.protocols.lists import elements

MEANINGFUL = frozenset((b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"te"))
# A list may be sent as several fields (RFC 9110 section 5.3). The other fields may come only once.
_LISTS = frozenset((b"connection", b"transfer-encoding", b"expect", b"upgrade", b"te"))
_REPEATED = {
    b"host": "more than one host: RFC 9112 section 3.2",
    b"content-length": "more than one content-length: RFC 9112 section 6.3",
}

# 18 digits stay below 2**63. No request is longer, and int() takes quadratic time for strings of any length.
_MAX_LENGTH_DIGITS = 18

_NO_OPTIONS: frozenset[bytes] = frozenset()
# The spellings that browsers, proxies and tools send.
_COMMON_OPTIONS = {
    value: frozenset(value.lower().split(b", "))
    for value in (b"keep-alive", b"Keep-Alive", b"close", b"Upgrade", b"upgrade", b"keep-alive, Upgrade")
}


Meaning: TypeAlias = tuple[bool, bool, bytes | None, int | None, bool, bool]
"""The last six fields of a `RequestHead`."""

_MAX_MEANINGS = 256


def interpret(line: RequestLine, headers: Headers, meaningful: Headers, is_short: bool = False) -> RequestHead:
    """Make the head of a request. `meaningful` are the fields of `headers` whose name is in `MEANINGFUL`.

    `is_short` says that the caller has bounded their size, so that their meaning may be kept. Raises
    `RemoteProtocolError`.
    """
    method, target, raw_path, query_string, version, authority = line
    find_meaning = _remembered_meaning if is_short else _meaning
    meaning = find_meaning(tuple(meaningful), version == "1.1")
    if authority is not None:
        _replace_host(headers, authority)
    # `RequestHead(…)` would take twice as long.
    return _new_tuple(RequestHead, (method, target, raw_path, query_string, version, headers, *meaning))


_new_tuple = tuple.__new__


def _meaning(meaningful: tuple[tuple[bytes, bytes], ...], is_current: bool) -> Meaning:
    fields = _collect(meaningful)
    _check_host(fields.get(b"host"), is_current)
    content_length, chunked = _content_framing(fields, is_current)
    connection = fields.get(b"connection")
    options = _NO_OPTIONS if connection is None else _COMMON_OPTIONS.get(connection) or frozenset(_members(connection))
    expect_continue = False
    upgrade = None
    # A server ignores both in a 1.0 request: RFC 9110 sections 10.1.1 and 7.8.
    if is_current:
        if b"expect" in fields:
            expect_continue = _expectation(fields[b"expect"]) and (chunked or bool(content_length))
        if b"upgrade" in fields and b"upgrade" in options:
            upgrade = _upgrade(fields[b"upgrade"])
    return (
        b"close" not in options and (is_current or b"keep-alive" in options),
        expect_continue,
        upgrade,
        content_length,
        chunked,
        b"te" in fields and b"trailers" in _members(fields[b"te"]),
    )


_remembered_meaning = lru_cache(_MAX_MEANINGS)(_meaning)


def _collect(meaningful: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in meaningful:
        if name not in fields:
            fields[name] = value
        elif name in _LISTS:
            fields[name] += b"," + value
        else:
            raise RemoteProtocolError(400, _REPEATED[name])
    return fields


def _members(value: bytes) -> list[bytes]:
    try:
        return elements(value.lower())
    except ValueError as error:
        raise RemoteProtocolError(400, f"{error}: RFC 9110 section 5.6.1") from None


def _check_host(host: bytes | None, is_current: bool) -> None:
    if host is None:
        if is_current:
            raise RemoteProtocolError(400, "no host: RFC 9112 section 3.2")
    elif not is_host(host):
        raise RemoteProtocolError(400, "invalid host: RFC 9112 section 3.2")


def _content_framing(fields: dict[bytes, bytes], is_current: bool) -> tuple[int | None, bool]:
    """Return the content's length and whether it is chunked (RFC 9112 section 6.3)."""
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise RemoteProtocolError(400, "both content-length and transfer-encoding: RFC 9112 section 6.1")
        if not is_current:
            raise RemoteProtocolError(400, "transfer-encoding in HTTP/1.0: RFC 9112 section 6.1")
        _check_coding(coding)
        return None, True
    if length is None:
        return None, False
    # bytes.isdigit() is true for ASCII digits only.
    if not length.isdigit():
        raise RemoteProtocolError(400, "content-length is not a number: RFC 9110 section 8.6")
    if len(length) > _MAX_LENGTH_DIGITS:
        raise RemoteProtocolError(400, "content-length has too many digits: RFC 9110 section 8.6")
    return int(length), False


def _check_coding(value: bytes) -> None:
    if value.lower() == b"chunked":
        return
    # Empty elements count here: some implementations ignore them, and others take them for an unknown coding.
    codings = [coding.strip(b" \t").lower() for coding in value.split(b",")]
    if codings[-1] != b"chunked":
        raise RemoteProtocolError(400, "the final transfer coding is not chunked: RFC 9112 section 6.3")
    if b"chunked" in codings[:-1] or b"" in codings:
        raise RemoteProtocolError(400, "chunked twice, or an empty transfer coding: RFC 9112 section 6.1")
    raise RemoteProtocolError(501, "a transfer coding other than chunked: RFC 9112 section 6.1")


def _expectation(value: bytes) -> bool:
    expectations = _members(value)
    if any(expectation != b"100-continue" for expectation in expectations):
        raise RemoteProtocolError(417, "unknown expectation: RFC 9110 section 10.1.1")
    return bool(expectations)


def _upgrade(value: bytes) -> bytes | None:
    protocols = _members(value)
    return b"websocket" if b"websocket" in protocols else next(iter(protocols), None)


def _replace_host(headers: Headers, authority: bytes) -> None:
    # The host of an absolute target wins over the Host field: RFC 9112 section 3.2.2.
    for index, (name, _) in enumerate(headers):
        if name == b"host":
            headers[index] = (name, authority)
            return
    headers.insert(0, (b"host", authority))
