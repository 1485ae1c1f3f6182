"""permessage-deflate: negotiation by RFC 7692 section 7.1, and interoperability with another implementation."""

from __future__ import annotations

import re
import tracemalloc
import zlib
from random import randbytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode

from fairway.protocols.websocket.deflate import (
    DEFLATED_AT_ONCE,
    MAX_DEFLATED_BYTES,
    SHORT_MESSAGE,
    WINDOW_BITS,
    DeflateEncoder,
    Deflating,
    InflateError,
    Inflating,
    TooLarge,
    encoder,
    inflate_short,
    negotiate,
)
from fairway.protocols.websocket.frames import FIN, RSV1, binary_frame, text_frame
from fairway.protocols.websocket.handshake import parse_extensions

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def answer(value: str) -> tuple[str, int] | None:
    return negotiate(parse_extensions([value.encode()]))


def split(sent: bytes) -> tuple[int, bytes]:
    """First byte and payload of a server's frame, whose header says how long it is."""
    start, length = 2, sent[1]
    if length == 126:
        start, length = 4, int.from_bytes(sent[2:4], "big")
    elif length == 127:
        start, length = 10, int.from_bytes(sent[2:10], "big")
    assert len(sent) == start + length
    return sent[0], sent[start:]


def inflate(data: bytes, max_bytes: int, at_once: int = 64) -> bytes:
    """The message, decompressed in pieces of this size. A short one is the same, or fails the same way, in one go."""
    try:
        message = inflate_in_pieces(data, max_bytes, at_once)
    except InflateError as error:
        with pytest.raises(InflateError, match=f"^{re.escape(str(error))}$"):
            inflate_short(data)
        raise
    is_short = len(data) <= SHORT_MESSAGE and len(message) <= SHORT_MESSAGE
    assert inflate_short(data) == (message if is_short else None)
    return message


def inflate_in_pieces(data: bytes, max_bytes: int, at_once: int) -> bytes:
    inflating = Inflating(data, max_bytes)
    pieces: list[bytes] = []
    while not inflating.ended:
        pieces.append(inflating.take(at_once))
        assert len(pieces[-1]) <= at_once
    return b"".join(pieces)


# --- negotiation


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=15",
        'permessage-deflate; client_max_window_bits="10"',
    ],
)
def test_an_offer_without_our_window_is_accepted_without_context_takeover(offer: str) -> None:
    assert answer(offer) == (ANSWER, WINDOW_BITS)


@pytest.mark.parametrize(("wanted", "bits"), [(9, 9), (10, 10), (11, 11), (12, 12), (13, 12), (14, 12), (15, 12)])
def test_our_window_is_never_larger_than_the_client_wants_it(wanted: int, bits: int) -> None:
    expected = (f"{ANSWER}; server_max_window_bits={bits}", bits)
    assert answer(f"permessage-deflate; server_max_window_bits={wanted}") == expected


@pytest.mark.parametrize(
    "parameters",
    [
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_max_window_bits",
        "server_max_window_bits=8",  # legal, but zlib cannot do it
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=012",
        "server_max_window_bits=1x",
        "server_max_window_bits=-9",
        "server_max_window_bits=999999999999",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=09",
        "client_max_window_bits=x",
        "unknown",
        "unknown=1",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_no_context_takeover; client_no_context_takeover",
    ],
)
def test_an_offer_with_a_parameter_that_cannot_be_met_is_declined(parameters: str) -> None:
    assert answer(f"permessage-deflate; {parameters}") is None


def test_the_first_acceptable_offer_is_taken() -> None:
    offers = "x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=8, permessage-deflate; unknown, "
    third = "permessage-deflate; server_max_window_bits=10, permessage-deflate"
    assert answer(offers + third) == (f"{ANSWER}; server_max_window_bits=10", 10)


@pytest.mark.parametrize("offer", ["", "permessage-bzip2", "x; y=z"])
def test_without_an_offer_there_is_no_compression(offer: str) -> None:
    assert answer(offer) is None


def test_digits_outside_ascii_are_no_window() -> None:
    assert negotiate([("permessage-deflate", {"server_max_window_bits": "\u0661\u0662"})]) is None


@pytest.mark.parametrize("wanted", [None, 9, 11, 15])
def test_another_implementation_agrees_with_our_answer(wanted: int | None) -> None:
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=wanted, client_max_window_bits=True)
    offer = "; ".join(
        [
            "permessage-deflate",
            *(name if value is None else f"{name}={value}" for name, value in factory.get_request_params()),
        ]
    )
    agreed = answer(offer)
    assert agreed is not None
    ((_, agreement),) = parse_extensions([agreed[0].encode()])
    extension = factory.process_response_params(list(agreement.items()), [])
    assert extension.remote_no_context_takeover
    assert extension.local_no_context_takeover


# --- messages


def peer(window_bits: int = 15) -> PerMessageDeflate:
    return PerMessageDeflate(True, True, window_bits, 15)


@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("level", [1, 6, 9])
def test_what_we_compress_another_implementation_reads(window_bits: int, level: int) -> None:
    messages = ["short", "a longer message, longer, longer, longer €" * 400, "", "x" * 70_000]
    ours, theirs = DeflateEncoder(level, 0, window_bits), peer(window_bits)
    for message in messages:
        first, payload = split(ours.encode_text(message))
        if first & RSV1:
            payload = bytes(theirs.decode(Frame(Opcode.TEXT, payload, rsv1=True)).data)
        assert payload.decode() == message


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_what_another_implementation_compresses_we_read(messages: list[bytes]) -> None:
    theirs = peer()
    for message in messages:
        frame = theirs.encode(Frame(Opcode.BINARY, message))
        assert frame.rsv1
        assert inflate(bytes(frame.data), 300) == message


@given(st.binary(max_size=300), st.integers(0, 9), st.integers(1 << 10, 1 << 17), st.booleans())
def test_a_message_in_pieces_arrives_as_it_was(some: bytes, repeat: int, at_once: int, is_noise: bool) -> None:
    data = (randbytes(1 << 17) if is_noise else b"") + some * 4**repeat
    frame = encoder(1, 1024).begin_bytes(data)
    if isinstance(frame, Deflating):
        assert len(frame) == len(data) > DEFLATED_AT_ONCE
        calls = 1
        while (made := frame.go_on(at_once)) is None:
            calls += 1
        assert calls == -(-len(data) // at_once)
        frame = made
    first, payload = split(frame)
    assert len(payload) <= len(data)
    assert (inflate(payload, len(data), 1 << 16) if first & RSV1 else payload) == data


@pytest.mark.parametrize("window_bits", [9, 12, 15])
def test_a_message_that_is_being_made_tells_what_it_takes(window_bits: int) -> None:
    """One that waits has no compressor."""
    data = randbytes(1 << 19)
    frame = encoder(1, 1024, window_bits).begin_bytes(data)
    assert isinstance(frame, Deflating)
    assert len(frame) == len(data)
    tracemalloc.start()
    try:
        for _ in range(10):
            assert frame.go_on(1 << 15) is None
            taken = tracemalloc.get_traced_memory()[0]
            assert 0.9 < (len(frame) - len(data)) / taken < 1.1
    finally:
        tracemalloc.stop()


def test_only_long_messages_are_left_to_be_compressed_in_pieces() -> None:
    ours, longest = encoder(1, 1024), b"x" * DEFLATED_AT_ONCE
    assert ours.begin_bytes(longest) == ours.encode_bytes(longest)
    assert ours.begin_text(longest.decode()) == ours.encode_text(longest.decode())
    for long in (ours.begin_bytes(longest + b"x"), ours.begin_text(longest.decode() + "x")):
        assert isinstance(long, Deflating)
    too_long = bytes(MAX_DEFLATED_BYTES + 1)
    assert ours.begin_bytes(too_long) == binary_frame(too_long)


def test_small_messages_stay_plain() -> None:
    ours = encoder(1, 1024)
    assert ours.encode_text("x" * 1023) == text_frame(b"x" * 1023)
    assert ours.encode_bytes(b"x" * 1023) == binary_frame(b"x" * 1023)


def test_messages_from_the_least_size_on_are_compressed() -> None:
    ours = encoder(1, 1024)
    for sent, opcode in [(ours.encode_text("x" * 1024), 1), (ours.encode_bytes(b"x" * 1024), 2)]:
        first, payload = split(sent)
        assert first == FIN | RSV1 | opcode
        assert len(payload) < 50
        assert inflate(payload, 1024) == b"x" * 1024


def test_the_least_size_counts_bytes_and_not_characters() -> None:
    first, _ = split(encoder(1, 1024).encode_text("é" * 512))
    assert first & RSV1


def test_long_messages_stay_plain() -> None:
    """Compressing one would stop everybody else for as long as that takes."""
    ours = encoder(1, 0)
    longest = b"x" * MAX_DEFLATED_BYTES
    assert split(ours.encode_bytes(longest))[0] & RSV1
    assert split(ours.encode_text(longest.decode()))[0] & RSV1
    assert ours.encode_bytes(longest + b"x") == binary_frame(longest + b"x")
    assert ours.encode_text(longest.decode() + "x") == text_frame(longest + b"x")


def test_what_compression_does_not_shorten_stays_plain() -> None:
    noise = zlib.compress(bytes(range(256)) * 8, 9)
    ours = encoder(1, 0)
    assert ours.encode_bytes(noise) == binary_frame(noise)
    assert ours.encode_text("ab") == text_frame(b"ab")


def test_the_same_message_is_the_same_bytes_each_time() -> None:
    ours = encoder(1, 0)
    assert ours.encode_text("again and again " * 90) == ours.encode_text("again and again " * 90)


def test_equal_parameters_share_one_encoder() -> None:
    assert encoder(1, 1024) is encoder(1, 1024)
    assert encoder(1, 1024) is not encoder(1, 1024, 10)
    assert encoder(1, 1024) is not encoder(2, 1024)


# --- inflate


def test_a_bomb_is_stopped_at_the_limit() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(50 << 20)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(TooLarge):
        inflate(bomb[:-4], 1000)


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_one_byte_more_than_the_limit_is_too_large(limit: int) -> None:
    data = bytes(peer().encode(Frame(Opcode.BINARY, b"z" * (limit + 1))).data)
    assert inflate(data, limit + 1) == b"z" * (limit + 1)
    with pytest.raises(TooLarge):
        inflate(data, limit)


@given(st.binary(max_size=400), st.integers(1, 450))
def test_the_size_of_the_pieces_makes_no_difference(message: bytes, at_once: int) -> None:
    data = bytes(peer().encode(Frame(Opcode.BINARY, message)).data)
    assert inflate(data, 400, at_once) == message


@pytest.mark.parametrize("size", [0, 1, SHORT_MESSAGE - 1, SHORT_MESSAGE, SHORT_MESSAGE + 1])
@pytest.mark.parametrize("content", ["zeros", "noise"])
def test_a_message_is_the_same_whether_or_not_it_is_short(size: int, content: str) -> None:
    message = bytes(size) if content == "zeros" else randbytes(size)
    data = bytes(peer().encode(Frame(Opcode.BINARY, message)).data)
    assert inflate(data, 1 << 20, 1 << 16) == message


def test_compressed_data_is_counted_until_the_message_has_ended() -> None:
    noise = zlib.compress(bytes(range(256)) * 8, 9)
    data = bytes(peer().encode(Frame(Opcode.BINARY, noise * 4)).data)
    inflating = Inflating(data, 1 << 20)
    while not inflating.ended:
        assert len(data) <= inflating.held_bytes <= len(data) + 4
        inflating.take(100)
    assert inflating.held_bytes == 0


def test_a_long_message_is_not_copied_with_each_piece() -> None:
    noise = randbytes(8 << 20)
    data = bytes(peer().encode(Frame(Opcode.BINARY, noise)).data)
    inflating = Inflating(data, 8 << 20)
    pieces: list[bytes] = []
    copied = 0
    while not inflating.ended:
        pieces.append(inflating.take(1 << 16))
        copied += len(inflating._inflater.unconsumed_tail)
    assert b"".join(pieces) == noise
    assert copied <= len(data)


@pytest.mark.parametrize("room", [0, 1, 1000])
def test_a_message_of_nothing_but_empty_blocks_takes_few_pieces(room: int) -> None:
    nothing = b"\x00\x00\x00\xff\xff" * 100_000
    inflating = Inflating(nothing + b"\x00", room)
    pieces = []
    while not inflating.ended:
        pieces.append(inflating.take(1 << 16))
        assert len(pieces) < 130  # of 100,000 blocks
    assert b"".join(pieces) == b""


def test_corrupt_data_is_named() -> None:
    with pytest.raises(InflateError, match="invalid block type"):
        inflate(b"\x06", 100)


def test_data_that_ends_inside_a_block_is_named() -> None:
    with pytest.raises(InflateError, match="the data ends inside a block"):
        inflate(bytes.fromhex("f248cd"), 100)


def test_data_behind_the_final_block_is_named() -> None:
    with pytest.raises(InflateError, match="data behind the final block"):
        inflate(bytes.fromhex("f348cdc9c90700ff"), 100)


@given(st.binary(max_size=60))
def test_noise_gives_a_message_within_the_limit_or_one_of_two_errors(data: bytes) -> None:
    try:
        message = inflate(data, 50)
    except (InflateError, TooLarge):
        return
    assert len(message) <= 50
