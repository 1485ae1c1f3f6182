"""Field blocks of responses that are kept, and which are not."""

from __future__ import annotations

import hpack
import pytest

from fairway.protocols.http2 import LocalProtocolError, PlainBlocks
from fairway.protocols.http2.response import encode_head, encode_trailers

DEFAULTS = ((b"date", b"now"), (b"server", b"fairway"))
HEADERS = ((b"content-type", b"text/plain"),)


def read(block):
    return hpack.Decoder().decode(block, raw=True)


def test_a_block_is_made_once():
    blocks = PlainBlocks(DEFAULTS)
    block = blocks.find(200, HEADERS, 5)

    assert read(block) == [(b":status", b"200"), *DEFAULTS, *HEADERS, (b"content-length", b"5")]
    assert blocks.find(200, HEADERS, 5) is block
    assert blocks.find(200, HEADERS, 6) is not block
    assert blocks.find(404, HEADERS, 5) is not block


@pytest.mark.parametrize(
    "headers",
    [
        ((b"Set-Cookie", b"sessionid=1"),),
        ((b"set-cookie", b"a=b"), *HEADERS),
        ((b"authorization", b"x"),),
        ((b"x", b"y" * 2048),),
    ],
)
def test_what_is_about_one_person_or_large_is_not_kept(headers):
    blocks = PlainBlocks(DEFAULTS)
    block = blocks.find(200, headers, 5)

    assert blocks.find(200, headers, 5) == block
    assert blocks.find(200, headers, 5) is not block


def test_what_is_kept_does_not_grow_without_end():
    blocks = PlainBlocks(DEFAULTS)
    first = blocks.find(200, HEADERS, 0)
    for length in range(1, 300):
        blocks.find(200, HEADERS, length)

    assert blocks.find(200, HEADERS, 0) == first
    assert blocks.find(200, HEADERS, 0) is not first


@pytest.mark.parametrize(
    ("status", "headers", "length"),
    [
        (200, ((b"content-length", b"4"),), 5),
        (204, (), 5),
        (150, (), 0),
        (1000, (), 0),
        (200, ((b"a b", b""),), 0),
        (200, ((b"a", b"\n"),), 0),
        (200, ((b"a", "b"),), 0),
        (200, ((b"content-length", b"0"), (b"content-length", b"0")), 0),
    ],
)
def test_what_is_not_plain(status, headers, length):
    blocks = PlainBlocks(DEFAULTS)

    assert blocks.find(status, headers, length) is None
    assert blocks.find(status, headers, length) is None


def test_9113_8_2_1_values_lose_the_white_space_around_them_and_names_their_case():
    block, length = encode_head(200, [(b"X-A", b" \tb c "), (b"Content-Length", b"007")], ())

    assert read(block) == [(b":status", b"200"), (b"x-a", b"b c"), (b"content-length", b"7")]
    assert length == 7


@pytest.mark.parametrize("status", [100, 103, 204])
def test_9110_8_6_no_content_length_where_there_is_no_content(status):
    assert encode_head(status, [(b"content-length", b"5")], ())[1] is None


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\x00b", b"\x7f"])
def test_no_value_splits_a_response_or_a_trailer(value):
    reason = "a header value contains CR, LF, NUL or another control character; remove it"
    for encode in (lambda fields: encode_head(200, fields, ()), encode_trailers):
        with pytest.raises(LocalProtocolError, match=reason):
            encode([(b"x", value)])
