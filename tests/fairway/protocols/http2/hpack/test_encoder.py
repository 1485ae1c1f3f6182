"""RFC 7541 section 6, as far as an encoder without a dynamic table uses it."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.protocols.http2.hpack.encoder import SHRINK, encode
from fairway.protocols.http2.hpack.tables import STATIC_TABLE

names = st.sampled_from([name for name, _ in STATIC_TABLE] + [b"x-request-id", b"x" * 200]) | st.binary(min_size=1)
fields = st.lists(st.tuples(names, st.binary(max_size=300)) | st.sampled_from(STATIC_TABLE), max_size=12)


@given(fields)
def test_a_decoder_reads_what_was_meant(fields):
    decoder = hpack.Decoder(max_header_list_size=1 << 20)

    assert decoder.decode(encode(fields), raw=True) == [tuple(field) for field in fields]
    assert decoder.header_table_size == 4096
    assert len(decoder.header_table.dynamic_entries) == 0


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 256, 257, 16383, 20000])
def test_strings_of_any_length(length):
    field = (b"x" * max(1, length), b"y" * length)

    assert hpack.Decoder(max_header_list_size=1 << 20).decode(encode([field]), raw=True) == [field]


def test_a_field_of_the_static_table_is_one_byte():
    assert encode([(b":status", b"200"), (b":status", b"404")]) == b"\x88\x8d"


@pytest.mark.parametrize("name", [b"set-cookie", b"authorization", b"proxy-authorization", b"cookie"])
def test_7_1_3_what_is_about_one_person_is_never_indexed(name):
    ((_, _, indexable),) = ((*field, field.indexable) for field in hpack.Decoder().decode(encode([(name, b"secret")])))

    assert indexable is False


def test_other_fields_are_not_marked():
    assert encode([(b"x-a", b"b")]) == b"\x00\x03x-a\x01b"
    assert encode([(b"etag", b"b")]) == b"\x0f\x13\x01b"


def test_4_2_the_prefix_makes_the_table_empty():
    decoder = hpack.Decoder()

    assert decoder.decode(SHRINK + encode([(b"x-a", b"b")]), raw=True) == [(b"x-a", b"b")]
    assert decoder.header_table_size == 0
