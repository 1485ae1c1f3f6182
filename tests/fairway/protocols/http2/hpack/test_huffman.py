"""RFC 7541 section 5.2 and appendix B."""

from __future__ import annotations

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from fairway.protocols.http2.hpack import huffman
from fairway.protocols.http2.hpack.tables import EOS, HUFFMAN_CODES, STATIC_TABLE

oracle = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def coded(symbols: list[int], padding: str = "") -> bytes:
    """These symbols and so many bits, which have to fill bytes."""
    bits = "".join(format(code, f"0{length}b") for code, length in (HUFFMAN_CODES[symbol] for symbol in symbols))
    bits += padding
    assert len(bits) % 8 == 0, len(bits) % 8
    return int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


def test_the_tables_are_those_of_the_appendices():
    assert [code for code, _ in HUFFMAN_CODES] == list(REQUEST_CODES)
    assert [length for _, length in HUFFMAN_CODES] == list(REQUEST_CODES_LENGTH)
    assert len(STATIC_TABLE) == 61
    assert STATIC_TABLE[0] == (b":authority", b"")
    assert STATIC_TABLE[15] == (b"accept-encoding", b"gzip, deflate")
    assert STATIC_TABLE[60] == (b"www-authenticate", b"")


@given(st.binary(max_size=200))
def test_every_string_comes_back(text):
    assert huffman.decode(oracle.encode(text)) == text


@pytest.mark.parametrize("symbol", range(256))
def test_every_byte_comes_back(symbol):
    text = bytes((symbol,)) * 9

    assert huffman.decode(oracle.encode(text)) == text


@pytest.mark.parametrize(("symbols", "padding"), [([48], "111"), ([48] * 8, ""), ([58], "1"), ([], "")])
def test_padding_is_the_beginning_of_eos(symbols, padding):
    assert huffman.decode(coded(symbols, padding)) == bytes(symbols)


@pytest.mark.parametrize(
    ("symbols", "padding"),
    [
        ([48], "110"),
        ([48], "000"),
        ([58], "0"),
        ([48] * 8, "1" * 8),
        ([], "1" * 8),
        ([48], "1" * 11),
        ([EOS], "11"),
        ([48, EOS], "1" * 5),
        ([EOS, EOS], "1" * 4),
        ([48, EOS, 48], ""),
    ],
)
def test_other_padding_and_eos_are_refused(symbols, padding):
    with pytest.raises(ValueError, match="a Huffman-coded string with EOS in it, or with wrong padding"):
        huffman.decode(coded(symbols, padding))


@given(st.binary(max_size=40))
def test_noise_is_decoded_as_by_the_oracle_or_refused(noise):
    try:
        text = huffman.decode(noise)
    except ValueError:
        return
    assert oracle.encode(text) == noise
