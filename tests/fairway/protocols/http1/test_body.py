"""RFC 9112 sections 6.2 and 7.1: content by length and in chunks, extensions, trailers."""

from __future__ import annotations

import pytest
from tests.fairway.protocols.http1.wire import chunked, content, feed, head, refused_content

from fairway.protocols.http1 import BodyReceived, Http1Protocol, RequestEnded
from fairway.protocols.http1.body import (
    CHUNKS_AT_ONCE,
    MAX_CHUNK_LINE_BYTES,
    MAX_CHUNK_SIZE_DIGITS,
    MAX_EXTENSION_BYTES,
    ChunkedBody,
    LengthBody,
)

MALFORMED = (400, "malformed chunk size or extension: RFC 9112 section 7.1")


def test_9112_6_2_whole_pieces_are_passed_on_without_a_copy():
    body = LengthBody(10)
    pieces: list[bytes] = []
    first, last = b"x" * 6, b"y" * 4

    assert body.receive(first, pieces) == b""
    assert body.receive(last, pieces) == b""
    assert pieces[0] is first
    assert pieces[1] is last


def test_9112_6_2_bytes_behind_the_length_are_not_content():
    pieces: list[bytes] = []

    assert LengthBody(3).receive(b"abcdef", pieces) == b"def"
    assert pieces == [b"abc"]


def test_9112_7_1_whole_pieces_of_a_chunk_are_passed_on_without_a_copy():
    body = ChunkedBody(1000, 10)
    pieces: list[bytes] = []
    piece = b"x" * 64

    assert body.receive(b"100\r\n", pieces) == b""
    assert body.receive(piece, pieces) == b""
    assert pieces[0] is piece


def test_9112_7_1_chunks_of_one_read_are_one_event():
    connection = Http1Protocol()

    events = connection.receive_data(chunked(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"))

    assert events[1:] == [BodyReceived(b"abc"), RequestEnded()]


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"7\r\n0\r\n\r\nGE\r\n0\r\n\r\n", b"0\r\n\r\nGE"),
        (b"5;a\r\nhello\r\n0;b=c\r\n\r\n", b"hello"),
        (b'5;a=b;c="d;\\"e\xc3\xa4";f\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"hello"),
    ],
)
def test_9112_7_1_chunked_content(wire, data):
    assert content(chunked(wire)) == data


@pytest.mark.parametrize(
    "size",
    [
        b"",
        b" 5",
        b"5 ",
        b"5\t",
        b"\t5",
        b"+5",
        b"-5",
        b"0x5",
        b"0X5",
        b"5h",
        b"g",
        b"5,",
        b"5_0",
        b"\xb25",
        b"5.",
        b"five",
    ],
)
def test_9112_7_1_chunk_size_that_is_not_hexadecimal_is_400(size):
    assert refused_content(chunked(size + b"\r\nhello\r\n0\r\n\r\n")) == MALFORMED


def test_9112_7_1_chunk_size_that_could_overflow_is_400():
    assert refused_content(chunked(b"0" * MAX_CHUNK_SIZE_DIGITS + b"5\r\nhello\r\n0\r\n\r\n")) == (
        400,
        "chunk size has too many digits: RFC 9112 section 7.1",
    )
    assert content(chunked(b"5".zfill(MAX_CHUNK_SIZE_DIGITS) + b"\r\nhello\r\n0\r\n\r\n")) == b"hello"


@pytest.mark.parametrize(
    "extension",
    [b";", b";;", b";a=", b";=b", b";a==b", b";a b", b" ;a", b"; a", b";a =b", b";a= b",
     b";a ", b';a="', b';a="b"c', b";a,b", b";\xc3"],
)  # fmt: skip
def test_9112_7_1_1_malformed_extension_is_400(extension):
    assert refused_content(chunked(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n")) == MALFORMED


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b";a\n", b';a="\n"\r\n', b";a\x00\r\n", b";a=\x0b\r\n"])
def test_9112_7_1_1_bare_line_end_or_control_character_in_a_chunk_line_is_400(end):
    assert refused_content(chunked(b"5" + end + b"hello\r\n0\r\n\r\n"))[0] == 400


def test_9112_7_1_1_long_chunk_line_is_400():
    longest = b"5;" + b"a" * (MAX_CHUNK_LINE_BYTES - 2)

    assert content(chunked(longest + b"\r\nhello\r\n0\r\n\r\n")) == b"hello"
    assert refused_content(chunked(longest + b"a\r\nhello\r\n0\r\n\r\n")) == (
        400,
        "chunk extensions are too long: RFC 9112 section 7.1.1",
    )


def test_9112_7_1_1_many_extensions_with_little_content_are_400():
    chunk = b"1;" + b"a" * 1000 + b"\r\nx\r\n"

    assert refused_content(chunked(chunk * (MAX_EXTENSION_BYTES // 1000 + 1) + b"0\r\n\r\n")) == (
        400,
        "chunk extensions are too long: RFC 9112 section 7.1.1",
    )


def test_9112_7_1_a_size_cut_between_its_digits_is_one_size():
    data = chunked(b"15\r\nhello\r\n012345678\r\n0\r\n\r\n0\r\n\r\n")
    place = data.index(b"5\r\nhello")

    _, whole = feed([data])
    _, in_pieces = feed([data[:place], data[place:]])

    assert in_pieces == whole
    assert whole[1] == BodyReceived(b"hello\r\n012345678\r\n0\r\n")


def test_9112_7_1_1_content_without_extensions_counts_for_those_that_follow():
    plain = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    extended = b"1;" + b"a" * 1000 + b"\r\nx\r\n"

    body = ChunkedBody(1000, 10)
    assert body.receive(plain + extended * (MAX_EXTENSION_BYTES // 1000 + 1) + b"0\r\n\r\nrest", []) == b"rest"


def test_9112_7_1_1_short_extensions_with_much_content_are_taken():
    chunk = b"400;sig=" + b"a" * 56 + b"\r\n" + b"x" * 1024 + b"\r\n"
    body = ChunkedBody(1000, 10)
    pieces: list[bytes] = []

    for _ in range(1000):
        assert body.receive(chunk, pieces) == b""
    assert body.receive(b"0\r\n\r\nrest", pieces) == b"rest"
    assert len(pieces) == 1000


@pytest.mark.parametrize(
    "behind", [b"0\r\n\r\n", b"X\r\n0\r\n\r\n", b"\n0\r\n\r\n", b"\r0\r\n\r\n", b"\r\r\n", b" \r\n0\r\n\r\n"]
)
def test_9112_7_1_chunk_data_must_be_followed_by_crlf(behind):
    assert refused_content(chunked(b"5\r\nhello" + behind))[0] == 400


def test_9112_7_1_content_longer_than_its_chunk_names_the_fault():
    assert refused_content(chunked(b"5\r\nhello!\r\n0\r\n\r\n")) == (
        400,
        "chunk data is not followed by CRLF: RFC 9112 section 7.1",
    )


@pytest.mark.parametrize(
    "trailer", [b"X", b"X : a", b" X: a", b"X: a\nY: b", b"X: a\r", b"X: \x00", b": a", b"X: a\x85"]
)
def test_9112_7_1_2_malformed_trailer_is_400(trailer):
    assert refused_content(chunked(b"0\r\n" + trailer + b"\r\n\r\n"))[0] == 400


def test_9112_7_1_2_trailers_never_become_headers():
    data = chunked(b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n")
    connection = Http1Protocol()

    request, ended = connection.receive_data(data)

    assert request.headers == [(b"host", b"example.org"), (b"transfer-encoding", b"chunked")]
    assert ended == RequestEnded()


def test_6585_5_trailers_are_bounded_in_bytes():
    request = chunked(b"")
    fits = len(request)

    assert content(request + b"0\r\nX: " + b"a" * (fits - 7) + b"\r\n\r\n", max_header_bytes=fits) == b""
    assert refused_content(request + b"0\r\nX: " + b"a" * (fits - 6) + b"\r\n\r\n", max_header_bytes=fits) == (
        431,
        "trailer section is too large: RFC 6585 section 5",
    )


def test_6585_5_trailers_are_bounded_in_number():
    assert content(chunked(b"0\r\nA: 1\r\nB: 2\r\n\r\n"), max_header_count=2) == b""
    assert refused_content(chunked(b"0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n"), max_header_count=2) == (
        431,
        "too many trailer fields: RFC 6585 section 5",
    )


def taken_at_once(data: bytes) -> tuple[list[int], bytes]:
    """How many chunks are taken at a time, and what is left behind the content."""
    body = ChunkedBody(1000, 10)
    counts = []
    while not body.is_complete:
        assert data, "it is not complete, and nothing is left"
        pieces: list[bytes] = []
        data = body.receive(data, pieces)
        counts.append(len(pieces))
    return counts, data


def test_tiny_chunks_are_taken_so_many_at_once():
    data = b"1\r\na\r\n" * (2 * CHUNKS_AT_ONCE + 1) + b"0\r\n\r\nrest"

    assert taken_at_once(data) == ([CHUNKS_AT_ONCE, CHUNKS_AT_ONCE, 1], b"rest")


def test_chunks_that_take_longer_count_for_more():
    counts, rest = taken_at_once(b"1;a\r\na\r\n" * CHUNKS_AT_ONCE + b"0\r\n\r\nrest")

    assert (sum(counts), rest) == (CHUNKS_AT_ONCE, b"rest")
    assert max(counts) <= CHUNKS_AT_ONCE // 4


@pytest.mark.parametrize("size", [4096, 65536])
def test_large_chunks_are_all_taken_at_once(size):
    chunk = b"%x\r\n" % size + bytes(size) + b"\r\n"

    assert taken_at_once(chunk * ((1 << 18) // size) + b"0\r\n\r\n") == ([(1 << 18) // size], b"")


def test_content_before_a_fault_is_reported():
    connection = Http1Protocol()

    events = connection.receive_data(chunked(b"5\r\nhello\r\nx\r\n"))

    assert events[1] == BodyReceived(b"hello")
    assert (events[2].status, events[2].reason) == MALFORMED
    assert connection.receive_data(head()) == []
