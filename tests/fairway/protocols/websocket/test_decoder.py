"""The decoder against RFC 6455, each sample in every way its bytes can arrive (`wire.decoded`)."""

from __future__ import annotations

from sys import getsizeof

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.protocols.websocket.wire import (
    MASK,
    binary,
    close,
    compressed,
    cut,
    decoded,
    decoder_for,
    deflated,
    failure,
    feed,
    fragmented,
    frame,
    more,
    ping,
    plain,
    pong,
    text,
)

from fairway.protocols.websocket.decoder import Decoder
from fairway.protocols.websocket.deflate import DeflateEncoder, Inflation
from fairway.protocols.websocket.events import Close, Failure, LongText, Ping, Pong
from fairway.protocols.websocket.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

NOT_UTF8 = (1007, "text is not UTF-8 (RFC 6455 section 8.1)")
NOT_SHORTEST = (1002, "length not in the shortest form (RFC 6455 section 5.2)")
RESERVED_BITS = (1002, "reserved bits set (RFC 6455 section 5.2)")
CORRUPT = (1007, "compressed data cannot be read (RFC 7692 section 7.2.2)")


# --- messages


@pytest.mark.parametrize("length", [0, 1, 5, 124, 125, 126, 127, 300])
def test_text_and_binary_messages_are_delivered(length: int) -> None:
    assert decoded(text("t" * length) + binary(b"\xff" * length)) == ["t" * length, b"\xff" * length]


@pytest.mark.parametrize("length", [0xFFFF, 0x10000, 0x10001])
def test_messages_around_the_64_bit_length_are_delivered(length: int) -> None:
    data = bytes(range(256)) * 257
    sample = binary(data[:length]) + text("é" * 10)
    for place in (1, 3, 9, 13, 14, 15, 4000, len(sample) - 3):
        assert feed([sample[:place], sample[place:]]) == [data[:length], "é" * 10]


def test_the_example_of_the_rfc_is_decoded() -> None:
    assert decoded(bytes.fromhex("818537fa213d7f9f4d5158")) == ["Hello"]


def test_each_frame_is_unmasked_with_its_own_mask() -> None:
    sample = text("one", mask=b"\x00\x00\x00\x00", fin=False) + more(b"two", mask=b"\xff\x01\x80\x7f") + text("three")
    assert decoded(sample) == ["onetwo", "three"]


def test_empty_fragments_are_part_of_a_message() -> None:
    assert decoded(fragmented(TEXT, b"", b"a", b"", b"b", b"")) == ["ab"]
    assert decoded(fragmented(BINARY, b"", b"", b"")) == [b""]


def test_control_frames_between_fragments_come_first_and_change_nothing() -> None:
    sample = text(b"a\xe2", fin=False) + ping(b"1") + more(b"\x82", fin=False) + pong(b"2") + ping() + more(b"\xac")
    assert decoded(sample) == [(Ping, b"1"), (Pong, b"2"), (Ping, b""), "a€"]


def test_a_close_between_fragments_ends_everything() -> None:
    assert decoded(text("a", fin=False) + close(1001, b"away") + more(b"b")) == [(Close, 1001, "away")]


def test_control_frames_may_be_125_bytes_long() -> None:
    assert decoded(ping(b"p" * 125) + pong(b"q" * 125)) == [(Ping, b"p" * 125), (Pong, b"q" * 125)]


# --- framing rules


@pytest.mark.parametrize("reserved", [0x10, 0x20, 0x40, 0x50, 0x60, 0x70])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
def test_a_reserved_bit_is_refused(opcode: int, reserved: int) -> None:
    assert failure(frame(opcode, b"", reserved=reserved)) == RESERVED_BITS


@pytest.mark.parametrize("reserved", [0x10, 0x20, 0x50, 0x60])
def test_other_reserved_bits_stay_refused_with_compression(reserved: int) -> None:
    assert failure(text("a", reserved=reserved), deflate=True) == RESERVED_BITS


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_compressed_control_frame_is_refused(opcode: int) -> None:
    assert failure(frame(opcode, b"", reserved=0x40), deflate=True) == RESERVED_BITS


def test_the_compression_bit_on_a_continuation_is_refused() -> None:
    start = text(b"a", fin=False, reserved=0x40)
    assert failure(start + more(b"b", reserved=0x40), deflate=True) == RESERVED_BITS


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_a_reserved_opcode_is_refused(opcode: int) -> None:
    assert failure(frame(opcode)) == (1002, f"reserved opcode {opcode} (RFC 6455 section 5.2)")


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
def test_an_unmasked_frame_is_refused(opcode: int) -> None:
    assert failure(frame(opcode, b"", mask=None)) == (1002, "frame not masked (RFC 6455 section 5.1)")
    assert failure(frame(opcode, b"abcdefgh", mask=None)) == (1002, "frame not masked (RFC 6455 section 5.1)")


@pytest.mark.parametrize(("length", "form"), [(0, 126), (125, 126), (0, 127), (125, 127), (126, 127), (0xFFFF, 127)])
def test_a_length_that_is_not_in_its_shortest_form_is_refused(length: int, form: int) -> None:
    assert failure(frame(TEXT, b"", length=length, form=form)) == NOT_SHORTEST


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1])
def test_a_length_with_the_highest_bit_set_is_refused(length: int) -> None:
    assert failure(frame(BINARY, b"", length=length)) == NOT_SHORTEST


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_fragmented_control_frame_is_refused(opcode: int) -> None:
    assert failure(frame(opcode, b"", fin=False)) == (1002, "fragmented control frame (RFC 6455 section 5.5)")


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("length", [126, 0x10000])
def test_a_long_control_frame_is_refused_from_its_first_two_bytes(opcode: int, length: int) -> None:
    expected = (1002, "control frame too long (RFC 6455 section 5.5)")
    sample = frame(opcode, b"", length=length)
    assert failure(sample) == expected
    assert feed([sample[:2]]) == [(Failure, *expected)]


def test_a_continuation_of_nothing_is_refused() -> None:
    expected = (1002, "nothing to continue (RFC 6455 section 5.4)")
    assert failure(more(b"a")) == expected
    assert decoded(text("a") + more(b"b")) == ["a", (Failure, *expected)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_new_message_inside_a_fragmented_one_is_refused(opcode: int) -> None:
    expected = (1002, "new message inside a fragmented one (RFC 6455 section 5.4)")
    assert failure(text("a", fin=False) + frame(opcode, b"b")) == expected


# --- closing


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_a_close_code_that_may_be_sent_is_reported(code: int) -> None:
    assert decoded(close(code, "why €".encode())) == [(Close, code, "why €")]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_a_close_code_that_must_not_be_sent_is_refused(code: int) -> None:
    assert failure(close(code)) == (1002, f"close code {code} (RFC 6455 section 7.4)")


def test_a_close_without_a_code_is_1005() -> None:
    assert decoded(close()) == [(Close, 1005, "")]


def test_a_close_of_one_byte_is_refused() -> None:
    assert failure(frame(CLOSE, b"\x03")) == (1002, "close frame of one byte (RFC 6455 section 5.5.1)")


@pytest.mark.parametrize("reason", [b"\xff", b"ok\xe2\x82", b"\xed\xa0\x80"])
def test_a_close_reason_that_is_not_utf8_is_refused(reason: bytes) -> None:
    assert failure(close(1000, reason)) == (1007, "close reason is not UTF-8 (RFC 6455 section 5.5.1)")


@pytest.mark.parametrize("end", [close(1000), frame(7), text(b"\xff")], ids=["close", "rule", "utf8"])
def test_after_the_end_nothing_comes_and_nothing_is_kept(end: bytes) -> None:
    decoder = Decoder()
    assert len(decoder.decode(end + text("x") * 3 + b"\x81")) == 1
    assert decoder.decode(text("x")) == decoder.decode(close()) == decoder.decode(b"\x81") == []
    assert (decoder.held_bytes, decoder.pending) == (0, False)


def test_controls_says_whether_there_is_more_than_messages() -> None:
    decoder = Decoder()
    for sample, expected in [(text("a"), False), (ping() + text("b"), True), (binary(b"c"), False), (frame(7), True)]:
        decoder.decode(sample)
        assert decoder.controls is expected


# --- UTF-8

BAD_TEXT = {
    "stray continuation": b"\x80",
    "impossible byte": b"ok\xff",
    "overlong slash": b"\xc0\xaf",
    "overlong of three": b"\xe0\x80\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond unicode": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "broken sequence": b"\xe2\x28\xa1",
}


@pytest.mark.parametrize("bad", [*BAD_TEXT.values(), b"cut \xe2\x82"], ids=[*BAD_TEXT, "cut"])
def test_text_that_is_not_utf8_is_refused(bad: bytes) -> None:
    assert failure(text(bad)) == NOT_UTF8
    assert failure(text(b"x" * 200 + bad)) == NOT_UTF8


@pytest.mark.parametrize("bad", BAD_TEXT.values(), ids=BAD_TEXT)
def test_bad_text_is_refused_before_its_frame_is_complete(bad: bytes) -> None:
    unfinished = text(b"fine so far " + bad + b"z" * 100)[:-100]
    assert failure(unfinished) == NOT_UTF8


@pytest.mark.parametrize("bad", BAD_TEXT.values(), ids=BAD_TEXT)
def test_bad_text_is_refused_before_its_message_is_complete(bad: bytes) -> None:
    assert failure(text(b"fine", fin=False) + more(b"fine" + bad, fin=False)) == NOT_UTF8


@pytest.mark.parametrize("start", [b"\xf4\x90", b"\xed\xa0\x80", b"\xe0\x80", b"\xf0\x80", b"\xc1"])
def test_a_code_point_that_cannot_become_valid_is_refused_in_its_middle(start: bytes) -> None:
    assert failure(text(b"ab" + start + b"....")[:-4]) == NOT_UTF8


def test_code_points_may_be_cut_anywhere_between_fragments() -> None:
    data = "aé€\U0001f600z".encode()
    for place in range(len(data) + 1):
        assert decoded(fragmented(TEXT, data[:place], data[place:])) == ["aé€\U0001f600z"]
    assert decoded(fragmented(TEXT, *(bytes((byte,)) for byte in data))) == ["aé€\U0001f600z"]


def test_a_message_that_ends_inside_a_code_point_is_refused() -> None:
    assert failure(fragmented(TEXT, b"a\xe2", b"\x82")) == NOT_UTF8
    assert failure(fragmented(TEXT, b"a\xe2\x82", b"")) == NOT_UTF8


def test_binary_messages_need_not_be_utf8() -> None:
    assert decoded(fragmented(BINARY, b"\xff", b"\xc0\x80")) == [b"\xff\xc0\x80"]


# --- limits


@pytest.mark.parametrize("length", [11, 126, 0x10000, 1 << 62])
def test_a_long_frame_is_refused_from_its_header(length: int) -> None:
    sample = frame(BINARY, b"", length=length)
    assert failure(sample, max_frame_bytes=10) == (1009, "frame longer than 10 bytes (RFC 6455 section 10.4)")


def test_a_frame_at_the_limit_is_taken() -> None:
    assert decoded(text("x" * 10), max_frame_bytes=10, max_message_bytes=10) == ["x" * 10]


def test_a_frame_longer_than_a_message_may_be_is_refused_from_its_header() -> None:
    sample = frame(TEXT, b"", length=11)
    assert failure(sample, max_message_bytes=10) == (1009, "message longer than 10 bytes (RFC 6455 section 7.4.1)")


def test_a_message_that_grows_too_long_is_refused_from_the_header_that_makes_it_so() -> None:
    sample = binary(b"x" * 6, fin=False) + more(b"x" * 4, fin=False) + frame(CONTINUATION, b"", length=1)
    assert failure(sample, max_message_bytes=10) == (1009, "message longer than 10 bytes (RFC 6455 section 7.4.1)")


def test_sizes_of_fragmented_messages_do_not_add_up() -> None:
    sample = fragmented(BINARY, b"x" * 5, b"y" * 5) * 3
    assert decoded(sample, max_message_bytes=10, max_fragments=2) == [b"xxxxxyyyyy"] * 3


def test_too_many_fragments_are_refused() -> None:
    sample = text("", fin=False) + more(b"", fin=False) * 3
    reason = "message of more than 3 fragments (RFC 6455 section 10.4)"
    assert failure(sample, max_fragments=3) == (1008, reason)
    assert decoded(fragmented(TEXT, b"a", b"b", b"c"), max_fragments=3) == ["abc"]


@pytest.mark.parametrize("budget", [1, 2, 3, 7])
def test_the_budget_bounds_what_one_call_returns(budget: int) -> None:
    sample = b"".join(map(text, "abcdefg")) + fragmented(TEXT, b"h", b"i") + ping() + close(1000)
    decoder = Decoder()
    items = decoder.decode(sample, budget)
    taken = [len(items)]
    while decoder.pending:
        new = decoder.decode(b"", budget)
        taken.append(len(new))
        items += new
    assert max(taken) <= budget
    assert [plain(item) for item in items] == [*"abcdefg", "hi", (Ping, b""), (Close, 1000, "")]


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_fragments_are_bounded_too(payload: bytes) -> None:
    sample = fragmented(TEXT, *[payload] * 1000) + text("next")
    decoder, sizes = Decoder(), []
    items = decoder.decode(sample)
    while decoder.pending:
        sizes.append(decoder.held_bytes)
        items += decoder.decode(b"")
    assert [plain(item) for item in items] == [payload.decode() * 1000, "next"]
    # A fragment has six bytes beside its payload, which is held in the message instead.
    assert sizes == [len(sample) - 6 * taken for taken in range(128, 1000, 128)]


def test_pending_input_is_decoded_before_what_comes_later() -> None:
    decoder = Decoder()
    assert decoder.decode(text("a") + text("b"), 1) == ["a"]
    assert decoder.pending
    assert decoder.decode(text("c"), 8) == ["b", "c"]
    assert not decoder.pending


def test_a_budget_of_nothing_keeps_a_whole_message() -> None:
    decoder = Decoder()
    assert decoder.decode(text("a"), 0) == []
    assert decoder.pending
    assert decoder.decode(b"", 1) == ["a"]


def test_what_is_held_is_no_more_than_the_message_may_be() -> None:
    decoder = Decoder(max_message_bytes=100)
    for byte in binary(b"x" * 60, fin=False) + more(b"y" * 40, fin=False) + ping(b"p" * 125)[:-1]:
        assert decoder.decode(bytes((byte,))) == []
        assert decoder.held_bytes <= 100 + 130
    assert decoder.held_bytes == 100 + 130


def test_behind_the_end_nothing_is_kept() -> None:
    decoder = Decoder()
    assert [type(item) for item in decoder.decode(b"\xff" * 20)] == [Failure]
    assert decoder.is_finished
    decoder.keep(b"x" * 100)
    assert not decoder.pending
    assert decoder.held_bytes == 0


def test_nothing_is_held_between_messages() -> None:
    decoder = Decoder()
    for byte in fragmented(TEXT, b"ab", b"cd"):
        decoder.decode(bytes((byte,)))
    assert decoder.held_bytes == 0


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_trickles_in_is_not_kept_as_a_list_of_tiny_objects(opcode: int) -> None:
    decoder = Decoder()
    sample = frame(opcode, b"x" * 5000)
    for place in range(0, len(sample) - 2, 2):
        assert decoder.decode(sample[place : place + 2]) == []
    assert decoder._message is None or len(decoder._message.parts) <= 5


# --- compression


def test_compressed_messages_are_delivered() -> None:
    sample = compressed(b"text " * 40) + compressed(b"\xff" * 300, opcode=BINARY) + text("plain")
    assert decoded(sample, deflate=True) == ["text " * 40, b"\xff" * 300, "plain"]


def test_a_compressed_message_may_be_fragmented_with_control_frames_between() -> None:
    data = deflated("zusammen€ ".encode() * 9)
    sample = text(data[:3], fin=False, reserved=0x40) + ping(b"!") + more(data[3:9], fin=False) + more(data[9:])
    assert decoded(sample, deflate=True) == [(Ping, b"!"), "zusammen€ " * 9]


@pytest.mark.parametrize(
    "payload",
    [
        "f248cdc9c90700",  # 7.2.3.1: one block
        "000500faff48656c6c6f00",  # 7.2.3.3: no compression
        "f348cdc9c9070000",  # 7.2.3.4: a final block
        "f24805000000ffffcac9c90700",  # 7.2.3.5: two blocks
    ],
)
def test_the_examples_of_rfc_7692_are_hello(payload: str) -> None:
    assert decoded(text(bytes.fromhex(payload), reserved=0x40), deflate=True) == ["Hello"]


@pytest.mark.parametrize("payload", [b"\x00", b""])
def test_an_empty_compressed_message_is_empty(payload: bytes) -> None:
    assert decoded(text(payload, reserved=0x40), deflate=True) == [""]


def test_the_compression_bit_without_negotiation_is_refused() -> None:
    assert failure(compressed(b"hello")) == RESERVED_BITS


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"\x06", b"not deflate at all", b"\x00\x05\x00\x00\x00hello"])
def test_corrupt_compressed_data_is_refused(payload: bytes) -> None:
    assert failure(binary(payload, reserved=0x40), deflate=True) == CORRUPT


def test_compressed_data_that_ends_early_is_refused_instead_of_delivered_in_part() -> None:
    data = deflated(b"the quick brown fox jumps over the lazy dog " * 8)
    for length in range(1, len(data)):
        assert feed([binary(data[:length], reserved=0x40)], deflate=True) == [(Failure, *CORRUPT)], length


def test_data_behind_the_final_block_is_refused() -> None:
    hello = bytes.fromhex("f348cdc9c90700")
    assert failure(text(hello + hello + b"\x00", reserved=0x40), deflate=True) == CORRUPT


def test_compressed_text_that_is_not_utf8_is_refused() -> None:
    assert failure(compressed(b"\xed\xa0\x80"), deflate=True) == NOT_UTF8


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_long_message_is_inflated_only_as_far_as_the_budget_allows(opcode: int) -> None:
    message = "a" * 299_999 + "é" if opcode == TEXT else b"a" * 300_001
    data = message.encode() if isinstance(message, str) else message
    inflation = Inflation(1)
    decoder = Decoder(inflation=inflation)
    turns = 0
    items = decoder.decode(compressed(data, opcode=opcode) + text("behind"))
    while decoder.pending:
        assert items == []
        turns += 1
        spent = 1 - inflation.left
        assert 0 < spent < 100_000
        assert decoder.held_bytes >= spent
        assert decoder.decode(b"") == []  # nothing without a budget
        inflation.left = 1
        items = decoder.decode(b"")
        if not decoder.is_inflating:  # whoever shares the budget has a turn before the next message
            assert (list(map(plain, items)), decoder.pending) == ([message], True)
            items = decoder.decode(b"")
    assert turns > 2
    assert items == ["behind"]
    assert decoder.is_at_rest


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("character", ["é", "雾", "🛥"])
def test_a_long_text_that_is_wide_waits_in_pieces_that_take_less_memory(character: str, deflate: bool) -> None:
    message = "a" * 399_999 + character
    data = compressed(message.encode(), opcode=TEXT) if deflate else text(message)
    decoder = Decoder(inflation=Inflation(1 << 20) if deflate else None)
    items = [item for start in range(0, len(data), 100_000) for item in decoder.decode(data[start : start + 100_000])]
    (item,) = items
    assert isinstance(item, LongText)
    assert (len(item), item.whole()) == (400_000, message)
    joined = getsizeof(message)
    assert getsizeof(item) < (0.6 * joined if character != "é" else 1.01 * joined)


@pytest.mark.parametrize("message", ["a" * 400_000, "a" * 65_000 + "🛥"], ids=["ASCII", "short"])
def test_another_text_is_joined_at_once(message: str) -> None:
    data = text(message)
    decoder = Decoder()
    assert decoder.decode(data[:50_000]) == []
    assert decoder.decode(data[50_000:]) == [message]


def test_a_long_message_that_breaks_a_rule_at_its_end_is_refused_there() -> None:
    inflation = Inflation(1)
    decoder = Decoder(inflation=inflation)
    assert decoder.decode(compressed(b"a" * 200_000 + b"\xff")) == []
    while decoder.pending:
        inflation.left = 1
        items = decoder.decode(b"")
    assert [plain(item) for item in items] == [(Failure, *NOT_UTF8)]


def test_a_compression_bomb_is_refused() -> None:
    bomb = compressed(bytes(10 << 20), opcode=BINARY)
    assert len(bomb) < 1 << 15
    reason = "message longer than 32768 bytes (RFC 6455 section 7.4.1)"
    assert feed([bomb], deflate=True, max_message_bytes=1 << 15) == [(Failure, 1009, reason)]


def test_a_compressed_message_at_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    assert feed([compressed(b"a" * 1000)], deflate=True, max_message_bytes=1000) == ["a" * 1000]
    reason = "message longer than 1000 bytes (RFC 6455 section 7.4.1)"
    assert feed([compressed(b"a" * 1001)], deflate=True, max_message_bytes=1000) == [(Failure, 1009, reason)]


# --- properties

masks = st.binary(min_size=4, max_size=4)
pieces = st.lists(st.binary(max_size=12), min_size=1, max_size=3)
good = st.one_of(
    st.builds(lambda data, mask: text(data, mask=mask), st.text(max_size=150), masks),
    st.builds(lambda data, mask: binary(data, mask=mask), st.binary(max_size=150), masks),
    st.builds(lambda parts: fragmented(BINARY, *parts), pieces),
    st.builds(lambda parts: fragmented(TEXT, *parts), pieces),
    st.binary(max_size=60).map(compressed),
    st.binary(max_size=20).map(ping),
    st.binary(max_size=20).map(pong),
)
any_frame = st.builds(
    lambda opcode, payload, fin, reserved, length: frame(opcode, payload, fin=fin, reserved=reserved, length=length),
    st.integers(0, 15),
    st.binary(max_size=20),
    st.booleans(),
    st.sampled_from([0, 0, 0, 0x40, 0x20]),
    st.none() | st.integers(0, 1 << 64).map(lambda length: min(length, (1 << 64) - 1)),
)
ends = st.sampled_from(
    [b"", close(1000, b"bye"), close(), close(1005), more(b"x"), text(b"\xff"), b"\x81", b"\x82\xfe\x00"]
)
streams = st.builds(lambda frames, end: b"".join(frames) + end, st.lists(good | any_frame, max_size=6), ends)
limits = st.fixed_dictionaries(
    {
        "max_frame_bytes": st.sampled_from([0, 7, 125, 1 << 20]),
        "max_message_bytes": st.sampled_from([0, 9, 130, 1 << 20]),
        "max_fragments": st.sampled_from([1, 2, 1024]),
        "deflate": st.booleans(),
    }
)


@given(streams | st.binary(max_size=80), st.lists(st.integers(0, 1000), max_size=8), limits)
def test_any_split_gives_the_same_items(data: bytes, places: list[int], how: dict[str, int]) -> None:
    whole = feed([data], **how)
    assert feed(cut(data, places), **how) == whole
    assert feed((data[i : i + 1] for i in range(len(data))), **how) == whole


@given(streams | st.binary(max_size=200), st.integers(1, 4), limits)
def test_any_budget_gives_the_same_items(data: bytes, budget: int, how: dict[str, int]) -> None:
    decoder = decoder_for(**how)
    items = decoder.decode(data, budget)
    while decoder.pending:
        before = decoder.held_bytes
        items += decoder.decode(b"", budget)
        assert decoder.held_bytes < before or not decoder.pending
    assert [plain(item) for item in items] == feed([data], **how)


@given(st.lists(st.binary(max_size=60) | any_frame, max_size=12), limits)
def test_noise_never_raises_and_is_not_hoarded(chunks: list[bytes], how: dict[str, int]) -> None:
    decoder = decoder_for(**how)
    for chunk in chunks:
        items = decoder.decode(chunk)
        assert not any(isinstance(item, Close | Failure) for item in items[:-1])
        assert decoder.held_bytes <= how["max_message_bytes"] + 131
        if items and isinstance(items[-1], Close | Failure):
            assert decoder.decode(text("x")) == []


@given(st.lists(st.text(max_size=200) | st.binary(max_size=200), max_size=5), masks)
def test_what_a_client_encodes_is_what_is_decoded(messages: list[str | bytes], mask: bytes) -> None:
    data = b"".join(
        text(message, mask=mask) if isinstance(message, str) else binary(message, mask=mask) for message in messages
    )
    assert feed([data]) == messages


@given(st.text(max_size=300), st.integers(9, 15), st.integers(1, 9))
def test_what_the_deflate_encoder_makes_is_decoded(message: str, bits: int, level: int) -> None:
    sent = DeflateEncoder(level, 0, bits).encode_text(message)
    first, payload = sent[0], sent[2:] if sent[1] < 126 else sent[4:]
    masked = frame(first & 0x0F, payload, reserved=first & 0x70, mask=MASK)
    assert feed([masked], deflate=True) == [message]
