"""What a field means is found once, and kept with it."""

from __future__ import annotations

import pytest

from fairway.protocols.http.fields import KNOWN_NAMES, SHARED_NAMES
from fairway.protocols.http2 import fields
from fairway.protocols.http2.fields import Refusal, make_entry
from fairway.protocols.http2.hpack.decoder import Decoder
from fairway.protocols.http2.hpack.encoder import encode

SPECIAL = {b"content-length", b"expect", b"te", b"cookie", b"host"}
FORBIDDEN = {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"}


@pytest.mark.parametrize("name", [*sorted(set(KNOWN_NAMES.values()) - SPECIAL - FORBIDDEN), b"x-something", b"!#$%&'*"])
def test_most_fields_are_regular(name):
    assert make_entry(name, b"value") == (fields.REGULAR, (name, b"value"), len(name) + 5 + 32, None)


@pytest.mark.parametrize("name", sorted(set(KNOWN_NAMES) - set(KNOWN_NAMES.values())))
def test_9113_8_2_1_names_are_in_lower_case(name):
    kind, _, _, meaning = make_entry(name, b"value")

    assert (kind, meaning) == (fields.MALFORMED, "field name is not in lower case: RFC 9113 section 8.2.1")


@pytest.mark.parametrize(
    ("name", "value", "kind", "meaning"),
    [
        (b":method", b"GET", fields.METHOD, "GET"),
        (b":method", b"REPORT", fields.METHOD, "REPORT"),
        (b":scheme", b"HTTPS", fields.SCHEME, "https"),
        (b":path", b"/a?b", fields.PATH, (b"/a", b"b")),
        (b":authority", b"a:1", fields.AUTHORITY, (b"host", b"a:1")),
        (b":protocol", b"websocket", fields.PROTOCOL, b"websocket"),
        (b"host", b"a:1", fields.HOST, (b"host", b"a:1")),
        (b"cookie", b"a=b; c=d", fields.COOKIE, 2),
        (b"content-length", b"007", fields.CONTENT_LENGTH, 7),
        (b"te", b"trailers", fields.TE, True),
        (b"expect", b"100-continue", fields.EXPECT, True),
    ],
)
def test_some_have_a_meaning(name, value, kind, meaning):
    assert make_entry(name, value) == (kind, (name, value), len(name) + len(value) + 32, meaning)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b":method", b"get", 501),
        (b":path", b"/{}<", None),
        (b":path", b"/#", 400),
        (b"host", b"@", 400),
    ],
)
def test_some_values_are_not_served(name, value, status):
    meaning = make_entry(name, value)[3]

    assert (meaning.status if isinstance(meaning, Refusal) else None) == status


def decoded(field):
    headers, special = [], []
    Decoder().decode(encode([field]), headers, special, 1 << 20)
    return (headers or [special[0][1]])[0]


@pytest.mark.parametrize("name", sorted(SHARED_NAMES - FORBIDDEN))
def test_short_values_that_are_nobodys_are_one_object_for_all_connections(name):
    field = (name, b"something")

    assert decoded(field) is decoded(field)
    assert decoded((name, b"y" * 300)) is not decoded((name, b"y" * 300))


@pytest.mark.parametrize(
    "field",
    [
        (b"cookie", b"sessionid=1"),
        (b"authorization", b"Bearer 1"),
        (b"x-csrftoken", b"1"),
        (b":path", b"/a?token=1"),
        (b":path", b"/" + b"a" * 200),
        (b"x-own", b"1"),
    ],
)
def test_what_may_be_a_secret_is_not_shared(field):
    assert decoded(field) == field
    assert decoded(field) is not decoded(field)


def test_paths_without_a_query_are_shared():
    assert decoded((b":path", b"/a/path")) is decoded((b":path", b"/a/path"))


def test_what_is_shared_does_not_grow_without_end():
    first = decoded((b"user-agent", b"agent 0"))
    for number in range(1, 70):
        decoded((b"user-agent", b"agent %d" % number))

    assert decoded((b"user-agent", b"agent 0")) == first
    assert decoded((b"user-agent", b"agent 0")) is not first
