"""What the server sends: frames in their shortest form, read back by another implementation of RFC 6455."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.protocols.websocket.wire import feed
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from fairway.protocols.websocket.deflate import DeflateEncoder
from fairway.protocols.websocket.frames import (
    FIN,
    FRAMED_AT_ONCE,
    NO_STATUS_RECEIVED,
    PLAIN,
    TEXT,
    Framing,
    PlainEncoder,
    binary_frame,
    close_frame,
    header,
    is_valid_close_code,
    ping_frame,
    pong_frame,
    text_frame,
)


@pytest.mark.parametrize("size", [0, 125, 126, FRAMED_AT_ONCE, FRAMED_AT_ONCE + 1])
def test_only_very_long_messages_are_framed_later(size: int) -> None:
    for frame, whole in (
        (PLAIN.begin_text("x" * size), PLAIN.encode_text("x" * size)),
        (PLAIN.begin_bytes(b"x" * size), PLAIN.encode_bytes(b"x" * size)),
    ):
        assert isinstance(frame, Framing) == (size > FRAMED_AT_ONCE)
        if isinstance(frame, Framing):
            assert len(frame) == size
            frame = frame.go_on(1)
        assert frame == whole


def read_back(data: bytes) -> list[Frame]:
    """The frames as an independent client sees them."""
    client = ClientProtocol(parse_uri("ws://example.org/"), state=State.OPEN, max_size=None)
    client.receive_data(data)
    assert client.parser_exc is None, client.parser_exc
    frames = client.events_received()
    assert all(isinstance(frame, Frame) for frame in frames)
    return frames  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, "8100"),
        (125, "817d"),
        (126, "817e007e"),
        (0xFFFF, "817effff"),
        (0x10000, "817f0000000000010000"),
        (1 << 40, "817f0000010000000000"),
    ],
)
def test_a_length_has_its_shortest_form(length: int, expected: str) -> None:
    assert header(FIN | TEXT, length).hex() == expected


def test_the_examples_of_the_rfc() -> None:
    assert text_frame(b"Hello") == bytes.fromhex("810548656c6c6f")
    assert ping_frame(b"Hello") == bytes.fromhex("890548656c6c6f")
    assert pong_frame(b"Hello") == bytes.fromhex("8a0548656c6c6f")
    assert binary_frame(bytes(256)) == bytes.fromhex("827e0100") + bytes(256)
    assert binary_frame(bytes(65536)) == bytes.fromhex("827f0000000000010000") + bytes(65536)


@pytest.mark.parametrize("length", [0, 1, 124, 125, 126, 127, 0xFFFF, 0x10000])
def test_a_message_of_any_length_is_read_back(length: int) -> None:
    data = b"x" * length
    assert read_back(text_frame(data) + binary_frame(data)) == [Frame(Opcode.TEXT, data), Frame(Opcode.BINARY, data)]


@given(st.lists(st.text(max_size=80) | st.binary(max_size=200), max_size=5))
def test_what_the_plain_encoder_makes_is_read_back(messages: list[str | bytes]) -> None:
    sent = b"".join(
        PLAIN.encode_text(message) if isinstance(message, str) else PLAIN.encode_bytes(message) for message in messages
    )
    assert [
        frame.data.decode() if frame.opcode is Opcode.TEXT else bytes(frame.data) for frame in read_back(sent)
    ] == messages


@pytest.mark.parametrize("encoder", [PLAIN, DeflateEncoder(1, 0, 12), DeflateEncoder(1, 1000, 12)])
@pytest.mark.parametrize("length", [1, 2000])
def test_half_a_character_is_sent_with_a_replacement(encoder: PlainEncoder | DeflateEncoder, length: int) -> None:
    text = "é\ud800" * length + "\ud83d\ude00"
    frame = encoder.encode_text(text)
    assert encoder.begin_text(text) == frame
    # A client would mask it; nothing else is different.
    masked = bytes((frame[0], frame[1] | 0x80)) + frame[2:]
    at = {126: 4, 127: 10}.get(frame[1], 2)
    assert feed([masked[:at] + bytes(4) + masked[at:]], deflate=True) == ["é\ufffd" * length + "\U0001f600"]


def test_the_close_codes_that_may_be_sent() -> None:
    allowed = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
    assert {code for code in range(-1, 70000) if is_valid_close_code(code)} == allowed


def test_a_close_frame_holds_code_and_reason() -> None:
    assert close_frame(1000, "bye") == b"\x88\x05\x03\xe8bye"
    assert close_frame(4999) == b"\x88\x02\x13\x87"


@pytest.mark.parametrize("code", [None, NO_STATUS_RECEIVED])
def test_a_close_frame_without_a_code_is_empty(code: int | None) -> None:
    assert close_frame(code, "no room for it") == b"\x88\x00"


def test_a_reason_of_123_bytes_fits() -> None:
    assert close_frame(1000, "r" * 123) == b"\x88\x7d\x03\xe8" + b"r" * 123


def test_a_longer_reason_is_cut_between_characters() -> None:
    sent = close_frame(1000, "r" * 121 + "€€")
    assert sent == b"\x88\x7b\x03\xe8" + b"r" * 121


def test_a_reason_that_utf8_cannot_hold_is_sent_with_replacements() -> None:
    assert close_frame(1000, "a\ud800b") == b"\x88\x05\x03\xe8a?b"


@given(st.sampled_from([1000, 1011, 3000, 4321]), st.text(max_size=200))
def test_a_close_frame_is_read_back_whatever_the_reason(code: int, reason: str) -> None:
    (frame,) = read_back(close_frame(code, reason))
    assert frame.opcode is Opcode.CLOSE
    assert int.from_bytes(frame.data[:2], "big") == code
    assert reason.startswith(bytes(frame.data[2:]).decode())
