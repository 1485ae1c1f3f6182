"""RFC 7541: the examples of appendix C, the limits, and hpack as the oracle."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.protocols.http2.fields import MALFORMED, PATH, REGULAR
from fairway.protocols.http2.hpack.decoder import CompressionError, Decoder, FieldsTooLarge

UNLIMITED = 1 << 30


def decode(decoder, block, most=UNLIMITED):
    """All fields, the special ones first, and their size."""
    headers = []
    special = []
    size = decoder.decode(block, headers, special, most)
    hidden = [entry[1] for entry in special if entry[1] not in headers and entry[2]]
    return hidden + headers, size


def entries(decoder):
    """The dynamic table from its first index on, by asking for each."""
    found = []
    while True:
        headers, special = [], []
        try:
            decoder.decode(bytes((0x80 | 62 + len(found),)), headers, special, UNLIMITED)
        except CompressionError:
            return found
        found += headers or [special[0][1]]


# Appendix C.3 to C.6: for each step the block, the fields, and the table with its size.
DATE = b"Mon, 21 Oct 2013 20:13:21 GMT"
LATER = b"Mon, 21 Oct 2013 20:13:22 GMT"
COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
FIRST_REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
REQUESTS = [
    (FIRST_REQUEST, [(b":authority", b"www.example.com")], 57),
    (
        [*FIRST_REQUEST, (b"cache-control", b"no-cache")],
        [(b"cache-control", b"no-cache"), (b":authority", b"www.example.com")],
        110,
    ),
    (
        [
            (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"),
            (b":authority", b"www.example.com"), (b"custom-key", b"custom-value"),
        ],
        [
            (b"custom-key", b"custom-value"), (b"cache-control", b"no-cache"), (b":authority", b"www.example.com"),
        ],
        164,
    ),
]  # fmt: skip
FIRST_RESPONSE = [
    (b":status", b"302"), (b"cache-control", b"private"), (b"date", DATE), (b"location", b"https://www.example.com"),
]  # fmt: skip
RESPONSES = [
    (FIRST_RESPONSE, FIRST_RESPONSE[::-1], 222),
    ([(b":status", b"307"), *FIRST_RESPONSE[1:]], [(b":status", b"307"), *FIRST_RESPONSE[:0:-1]], 222),
    (
        [
            (b":status", b"200"), (b"cache-control", b"private"), (b"date", LATER),
            (b"location", b"https://www.example.com"), (b"content-encoding", b"gzip"), (b"set-cookie", COOKIE),
        ],
        [(b"set-cookie", COOKIE), (b"content-encoding", b"gzip"), (b"date", LATER)],
        215,
    ),
]  # fmt: skip
EXAMPLES = {
    "C.3": (
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        REQUESTS,
        4096,
    ),
    "C.4": (
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        REQUESTS,
        4096,
    ),
    "C.5": (
        [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a"
            "2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b4851"
            "4b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
        ],
        RESPONSES,
        256,
    ),
    "C.6": (
        [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43"
            "d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27"
            "087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        RESPONSES,
        256,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_appendix_c(name):
    blocks, steps, capacity = EXAMPLES[name]
    decoder = Decoder()
    if capacity != 4096:
        decode(decoder, b"\x3f\xe1\x01")
    for block, (fields, table, size) in zip(blocks, steps, strict=True):
        assert sorted(decode(decoder, bytes.fromhex(block))[0]) == sorted(fields)
        assert decoder.size == size
        assert entries(decoder) == table


@pytest.mark.parametrize(
    ("block", "field", "size"),
    [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", (b"custom-key", b"custom-header"), 55),  # C.2.1
        ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), 0),  # C.2.2
        ("100870617373776f726406736563726574", (b"password", b"secret"), 0),  # C.2.3
        ("82", (b":method", b"GET"), 0),  # C.2.4
    ],
)
def test_c_2_each_representation(block, field, size):
    decoder = Decoder()

    assert decode(decoder, bytes.fromhex(block)) == ([field], len(field[0]) + len(field[1]) + 32)
    assert decoder.size == size


INDEX = "an index beyond the table, or a block that ends too early: RFC 7541 section 2.3.3"
LARGE_INTEGER = "an integer that is too large: RFC 7541 section 5.1"
CUT_STRING = "a string beyond the end of its block: RFC 7541 section 5.2"
HUFFMAN = "a Huffman-coded string with EOS in it, or with wrong padding: RFC 7541 section 5.2"
LATE = "a change of the table behind a field, or a third: RFC 7541 section 4.2"
TOO_LARGE = "a table larger than allowed: RFC 7541 section 6.3"


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x80", "index 0: RFC 7541 section 6.1"),
        (b"\xbe", INDEX),
        (b"\xff\x00", INDEX),
        (b"\x7e\x01a", INDEX),
        (b"\xff", INDEX),
        (b"\x40", INDEX),
        (b"\x40\x01", CUT_STRING),
        (b"\x40\x01a", INDEX),
        (b"\x40\x01a\x02b", CUT_STRING),
        (b"\x41\x02b", CUT_STRING),
        (b"\x41\x7f\x01b", CUT_STRING),
        (b"\xff\xff\xff\xff\x7f", LARGE_INTEGER),
        (b"\xff\xff\xff\xff\xff\x7f", LARGE_INTEGER),
        (b"\xff\x80\x80\x80\x80\x80\x00", LARGE_INTEGER),
        (b"\x3f\xff\xff\xff\xff\x7f", LARGE_INTEGER),
        (b"\x41\xff\xff\xff\xff\x7f", LARGE_INTEGER),
        (b"\x41\x81\x00", HUFFMAN),
        (b"\x41\x81\xff", HUFFMAN),
        (b"\x00\x81\x00\x01a", HUFFMAN),
        (b"\x82\x20", LATE),
        (b"\x20" * 3, LATE),
        (b"\x82\x3f\xe1\x1f", LATE),
        (b"\x3f\xe2\x1f", TOO_LARGE),
    ],
)
def test_what_cannot_be_decoded(block, reason):
    with pytest.raises(CompressionError) as error:
        decode(Decoder(), block)

    assert str(error.value) == reason


def test_4_4_a_field_larger_than_the_table_leaves_it_empty():
    decoder = Decoder()
    decode(decoder, b"\x40\x01a\x01b")
    field = (b"a", b"b" * 5000)

    assert decode(decoder, b"\x40\x01a" + b"\x7f\x89\x26" + field[1])[0] == [field]
    assert decoder.size == 0
    assert entries(decoder) == []


def test_4_2_a_smaller_capacity_is_kept_to():
    decoder = Decoder()
    decode(decoder, b"\x40\x01a\x01b\x40\x01c\x01d")
    decode(decoder, b"\x3f\x03")

    assert entries(decoder) == [(b"c", b"d")]
    decode(decoder, b"\x20\x3f\x23\x40\x01e\x01f")
    assert entries(decoder) == [(b"e", b"f")]


def test_4_2_a_limit_below_the_capacity_has_to_be_followed():
    decoder = Decoder()
    decoder.set_limit(100)

    with pytest.raises(CompressionError, match="the table was not made smaller"):
        decode(decoder, b"\x82")
    with pytest.raises(CompressionError, match=TOO_LARGE):
        decode(decoder, b"\x3f\x46")
    assert decode(decoder, b"\x3f\x45\x82")[0] == [(b":method", b"GET")]
    assert decode(decoder, b"\x82")[0] == [(b":method", b"GET")]


def test_a_larger_limit_may_be_used_and_need_not():
    decoder = Decoder()
    decoder.set_limit(8192)

    assert decode(decoder, b"\x82")[0] == [(b":method", b"GET")]
    assert decode(decoder, b"\x3f\xe1\x3f\x82")[0] == [(b":method", b"GET")]
    with pytest.raises(CompressionError, match=TOO_LARGE):
        decode(decoder, b"\x3f\xe2\x3f")


def test_fields_beyond_the_most_end_it():
    decoder = Decoder()
    large = b"\x40\x01a" + b"\x7f\x81\x1e" + b"b" * 3968

    assert decode(decoder, large)[1] == 4001
    with pytest.raises(FieldsTooLarge):
        decode(decoder, b"\xbe" * 16384, 131072)
    with pytest.raises(FieldsTooLarge):
        decode(decoder, b"\x82" * 5000, 131072)


@pytest.mark.parametrize("name", [b"cookie", b"te", b":path", b"Upper", b""])
def test_nothing_is_looked_at_behind_the_most(name: bytes):
    # Of whatever kind the fields are: what is wrong with them is said once all have been read.
    literal = b"\x00" + bytes((len(name),)) + name + b"\x01a"
    most = 40 * len(literal)
    block = literal * (most // (len(name) + 33) + 1)

    with pytest.raises(FieldsTooLarge):
        decode(Decoder(), block + b"\x80", most)
    with pytest.raises(CompressionError):
        decode(Decoder(), block[: -len(literal)] + b"\x80", most)


def test_a_string_as_long_as_its_block_is_bounded_by_the_most():
    with pytest.raises(FieldsTooLarge):
        decode(Decoder(), b"\x00\x01a" + b"\x7f\x81\xf3\x07" + b"b" * 131_456, 131072)


def test_the_version_changes_with_the_table():
    decoder = Decoder()
    versions = []
    for block in (b"\x82", b"\x40\x01a\x01b", b"\xbe", b"\x00\x01a\x01b", b"\x20"):
        decode(decoder, block)
        versions.append(decoder.version)

    assert [after != before for before, after in zip([0, *versions], versions, strict=False)] == [
        False, True, False, False, True,
    ]  # fmt: skip


def test_fields_are_told_apart():
    headers, special = [], []
    Decoder().decode(b"\x82\x04\x02/a\x00\x03x-a\x01b\x00\x03X-A\x01b\x5c\x0212", headers, special, UNLIMITED)

    assert [entry[0] for entry in special] == [7, PATH, MALFORMED, 1]
    assert special[1][3] == (b"/a", b"")
    assert headers == [(b"x-a", b"b"), (b"content-length", b"12")]
    assert REGULAR not in [entry[0] for entry in special]


NAMES = [
    b":method", b":path", b":authority", b"cookie", b"accept", b"user-agent", b"x-request-id", b"authorization", b"te",
]  # fmt: skip
fields = st.lists(
    st.tuples(st.sampled_from(NAMES) | st.binary(min_size=1, max_size=20), st.binary(max_size=60)), max_size=12
)


@given(st.lists(st.tuples(fields, st.booleans(), st.sampled_from([None, 0, 40, 200, 4096])), max_size=6))
def test_blocks_of_the_oracle_are_read_as_they_were_meant(steps):
    encoder, decoder = hpack.Encoder(), Decoder()
    for fields, with_huffman, capacity in steps:
        if capacity is not None:
            encoder.header_table_size = capacity
        block = encoder.encode(fields, huffman=with_huffman)
        headers, special = [], []
        size = decoder.decode(block, headers, special, UNLIMITED)

        found = headers + [entry[1] for entry in special if entry[2] and entry[1] not in headers]
        assert sorted(set(found)) == sorted(set(fields))
        assert size == sum(len(name) + len(value) + 32 for name, value in fields)
        assert entries(decoder) == [tuple(entry) for entry in encoder.header_table.dynamic_entries]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_noise_means_the_same_to_the_oracle(blocks):
    own, oracle = Decoder(), hpack.Decoder(max_header_list_size=1 << 30)
    for block in blocks:
        try:
            found, _ = decode(own, block)
        except CompressionError:
            return
        # Where we have not refused it the oracle must not, and read the same. (It allows larger integers.)
        assert set(found) == {tuple(field) for field in oracle.decode(block, raw=True)}


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_the_table_never_outgrows_its_capacity(blocks):
    decoder = Decoder()
    for block in blocks:
        try:
            decode(decoder, block)
        except CompressionError:
            break
    assert decoder.size <= 4096
    assert len(entries(decoder)) <= 4096 // 32
