"""``LineReader``: RFC 9112 section 2.2 below the head, the chunk line and the trailers."""

from __future__ import annotations

import pytest

from fairway.protocols.http1.errors import RemoteProtocolError
from fairway.protocols.http1.lines import LineReader

TOO_LONG = (431, "too long")


def take_all(pieces: list[bytes], limit: int) -> None:
    reader = LineReader()
    for piece in pieces:
        reader.take(piece, 0, limit, TOO_LONG)


def test_a_line_comes_without_its_end_and_with_the_place_of_the_next():
    assert LineReader().take(b"..abc\r\ndef", 2, 100, TOO_LONG) == (b"abc", 7)


def test_a_line_in_pieces_is_put_together():
    reader = LineReader()

    assert reader.take(b"ab", 0, 100, TOO_LONG) == (None, 2)
    assert reader.take(b"c\r", 0, 100, TOO_LONG) == (None, 2)
    assert not reader.is_empty
    assert reader.take(b"\nd", 0, 100, TOO_LONG) == (b"abc", 1)
    assert reader.is_empty


def test_an_empty_line_cut_in_its_middle_is_an_empty_line():
    reader = LineReader()

    assert reader.take(b"\r", 0, 0, TOO_LONG) == (None, 1)
    assert not reader.is_empty
    assert reader.take(b"\n", 0, 0, TOO_LONG) == (b"", 1)


@pytest.mark.parametrize("pieces", [[b"abcd\r\n"], [b"abcd"], [b"ab", b"cd"], [b"abc", b"d\r\n"]])
def test_a_line_beyond_the_limit_fails_before_it_ends(pieces):
    with pytest.raises(RemoteProtocolError, match=r"^431: too long$") as caught:
        take_all(pieces, 3)

    assert caught.value.status == 431


def test_a_line_as_long_as_the_limit_is_taken():
    assert LineReader().take(b"abc\r\n", 0, 3, TOO_LONG) == (b"abc", 5)


@pytest.mark.parametrize("pieces", [[b"a\rb"], [b"a\r", b"b"], [b"a", b"\r", b"\r"]])
def test_a_bare_cr_fails(pieces):
    with pytest.raises(RemoteProtocolError, match=r"^400: carriage return without line feed: RFC 9112 section 2.2$"):
        take_all(pieces, 100)


def test_a_bare_lf_fails():
    with pytest.raises(RemoteProtocolError, match=r"^400: line feed without carriage return: RFC 9112 section 2.2$"):
        LineReader().take(b"a\n", 0, 100, TOO_LONG)
