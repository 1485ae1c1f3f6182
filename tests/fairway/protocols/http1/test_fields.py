"""RFC 9110 section 5 and RFC 9112 section 5: names, values and lines of header fields."""

from __future__ import annotations

import pytest
from tests.fairway.protocols.http1.wire import accepted, head, refused

from fairway.protocols.http.fields import KNOWN_NAMES, TOKEN

OBS_TEXT = sorted(set(range(0x80, 0x100)) - {0x85})
FORBIDDEN = sorted((set(range(0x20)) - {0x09, 0x0A, 0x0D}) | {0x7F, 0x85})


def test_9110_5_1_names_are_lower_case_and_the_order_is_kept():
    request = accepted(head(b"X-B: 1", b"x-a: 2", b"X-B: 3", b"ACCEPT: 4"))

    assert request.headers == [
        (b"host", b"example.org"),
        (b"x-b", b"1"),
        (b"x-a", b"2"),
        (b"x-b", b"3"),
        (b"accept", b"4"),
    ]


def test_9110_5_5_values_lose_only_the_white_space_around_them():
    request = accepted(head(b"A:b", b"B: \t b  c\t \t", b"C:", b"D: \t ", b"E: a: b"))

    assert request.headers[1:] == [(b"a", b"b"), (b"b", b"b  c"), (b"c", b""), (b"d", b""), (b"e", b"a: b")]


def test_9110_5_1_every_known_name_is_a_token_and_maps_to_lower_case():
    for spelling, name in KNOWN_NAMES.items():
        assert TOKEN.fullmatch(spelling)
        assert spelling.lower() == name


def test_9110_5_6_2_every_token_character_may_be_in_a_name():
    assert accepted(head(b"!#$%&'*+-.^_`|~09azAZ: x")).headers[1] == (b"!#$%&'*+-.^_`|~09azaz", b"x")


@pytest.mark.parametrize("byte", [bytes([byte]) for byte in b'"(),/;<=>?@[\\]{}'] + [b"\x80", b"\xc3\xa4", b"\xff"])
def test_9110_5_1_name_that_is_not_a_token_is_400(byte):
    expected = (400, "header name is not a token: RFC 9110 section 5.1")

    assert refused(head(b"X" + byte + b"Y: 1")) == expected
    assert refused(head(byte + b": 1")) == expected


def test_9110_5_1_empty_name_is_400():
    assert refused(head(b": x")) == (400, "header name is not a token: RFC 9110 section 5.1")


@pytest.mark.parametrize("line", [b"Host : a", b"Host\t: a", b"X-Y : a", b"Transfer-Encoding : chunked", b"X  : a"])
def test_9112_5_1_white_space_before_the_colon_is_400(line):
    assert refused(head(line)) == (400, "white space between header name and colon: RFC 9112 section 5.1")


@pytest.mark.parametrize("line", [b"X Y: a", b"X\tY: a"])
def test_9110_5_1_white_space_in_a_name_is_400(line):
    assert refused(head(line)) == (400, "header name is not a token: RFC 9110 section 5.1")


@pytest.mark.parametrize("line", [b"X-Y", b"Host", b"Accept"])
def test_9112_5_line_without_colon_is_400(line):
    assert refused(head(line)) == (400, "header line without a colon: RFC 9112 section 5")


@pytest.mark.parametrize("fold", [b" folded", b"\tfolded", b" X: y", b" ", b"\t"])
def test_9112_5_2_obs_fold_is_400(fold):
    expected = (400, "header line begins with white space: RFC 9112 section 5.2")

    assert refused(head(b"X: a", fold)) == expected
    assert refused(head(fold, host=b"")) == expected


@pytest.mark.parametrize("byte", FORBIDDEN)
def test_9110_5_5_control_character_is_400_wherever_it_is(byte):
    character = bytes([byte])
    expected = (400, f"control character 0x{byte:02x}: RFC 9110 section 5.5")

    assert refused(head(b"X: a" + character + b"b")) == expected
    assert refused(head(b"X: " + character)) == expected
    assert refused(head(b"X" + character + b": a")) == expected
    assert refused(head(b"Transfer-Encoding:" + character + b"chunked")) == expected
    assert refused(head(first=b"GET /" + character + b" HTTP/1.1")) == expected
    assert refused(head(first=b"GET" + character + b"/ HTTP/1.1")) == expected


def test_9110_5_5_obs_text_may_be_in_a_value():
    value = bytes(OBS_TEXT)

    assert accepted(head(b"X: " + value)).headers[1] == (b"x", value)


def test_9110_5_5_every_visible_character_may_be_in_a_value():
    value = bytes(range(0x21, 0x7F))

    assert accepted(head(b"X: " + value)).headers[1] == (b"x", value)
