"""Microseconds for text that the decoder checks: ASCII, Chinese, and bytes that are no UTF-8.

Run ``python bench/micro/utf8.py``. The same message comes whole, in four frames, and in one frame that arrives in
segments: then it is checked as it comes, and a bad byte is refused where it stands.
"""

from __future__ import annotations

from functools import partial

from measuring import microseconds, report
from websocket import masked

from fairway.protocols.websocket.decoder import Decoder
from fairway.protocols.websocket.events import Failure

SIZES = (96, 16_384)
SEGMENT = 1448
IN_SEGMENTS = f"segments of {SEGMENT:,} bytes"
LETTERS = {"ASCII": "x", "Chinese": "汉"}
CONTINUATION, TEXT = 0, 1


def text_of(letter: str, size: int) -> bytes:
    """At most so many bytes."""
    return (letter * (size // len(letter.encode()))).encode()


def in_frames(payload: bytes, count: int = 4) -> bytes:
    size = -(-len(payload) // count)
    data = b""
    for number in range(count):
        is_last = number == count - 1
        piece = payload[number * size : (number + 1) * size]
        data += masked(CONTINUATION if number else TEXT, piece, 0x80 if is_last else 0)
    return data


def in_segments(payload: bytes) -> list[bytes]:
    data = masked(TEXT, payload)
    return [data[start : start + SEGMENT] for start in range(0, len(data), SEGMENT)]


def decode(decoder: Decoder, reads: list[bytes]) -> list[object]:
    return [item for read in reads for item in decoder.decode(read)]


def good(size: int) -> None:
    print(f"{size} bytes, a message")
    for name, letter in LETTERS.items():
        payload = text_of(letter, size)
        decoder = Decoder()
        forms = {"one frame": [masked(TEXT, payload)], "four frames": [in_frames(payload)]}
        if size > SEGMENT:
            forms[IN_SEGMENTS] = in_segments(payload)
        for form, reads in forms.items():
            assert decode(decoder, reads) == [payload.decode()]
            report(f"{name}, {form}", microseconds(partial(decode, decoder, reads)))
        report(f"{name}, decode() alone", microseconds(payload.decode))


def bad(size: int) -> None:
    print(f"{size} bytes that are no UTF-8, a message, with the decoder that it ends")
    text = text_of(LETTERS["Chinese"], size)
    for name, payload in {"the first byte": b"\xff" + text, "the last byte": text + b"\xff"}.items():
        for form, reads in (("one frame", [masked(TEXT, payload)]), (IN_SEGMENTS, in_segments(payload))):
            assert [type(item) for item in decode(Decoder(), reads)] == [Failure]
            report(f"{name}, {form}", microseconds(lambda reads=reads: decode(Decoder(), reads)))
    report("Decoder() alone", microseconds(Decoder))


def main() -> None:
    for size in SIZES:
        good(size)
    bad(SIZES[-1])


if __name__ == "__main__":
    main()
