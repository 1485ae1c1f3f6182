"""Microseconds for WebSocket frames in and out, masking, UTF-8, inflating and handshakes, beside `websockets`.

Run ``python bench/micro/websocket.py``. Frames come in as a server reads them: masked, whole, one or many in a read.
`websockets` is measured through its sans-I/O `Protocol`, with the same bytes and without its extensions.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from measuring import microseconds, report
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol, State

from fairway.protocols.websocket import deflate, handshake
from fairway.protocols.websocket.decoder import Decoder
from fairway.protocols.websocket.frames import PLAIN
from fairway.protocols.websocket.masking import apply_mask, apply_mask_pure, has_c_version

SIZES = (16, 125, 1024, 16384)
MASK = b"\x37\xfa\x21\x3d"
MESSAGE = json.dumps({"type": "chat", "room": 7, "author": "somebody", "text": "x" * 90, "id": "0123456789"})


def masked(opcode: int, payload: bytes, first: int = 0x80) -> bytes:
    length = len(payload)
    if length < 126:
        head = bytes((first | opcode, 0x80 | length))
    elif length < 0x10000:
        head = bytes((first | opcode, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first | opcode, 0x80 | 127)) + length.to_bytes(8, "big")
    return head + MASK + apply_mask_pure(payload, MASK)


def reference(data: bytes) -> Callable[[], object]:
    protocol = Protocol(SERVER, state=State.OPEN, max_size=1 << 20)

    def run() -> object:
        protocol.receive_data(data)
        return [
            event.data.decode() if event.opcode is Opcode.TEXT else event.data for event in protocol.events_received()
        ]

    return run


def frames_in() -> None:
    print("frame in, per message")
    decoder = Decoder()
    text = MESSAGE.encode()
    for name, data, count in (
        (f"text of {len(text)} bytes, one in a read", masked(1, text), 1),
        (f"text of {len(text)} bytes, 64 in a read", masked(1, text) * 64, 64),
        ("text of 16 bytes, one in a read", masked(1, b"x" * 16), 1),
        ("binary of 125 bytes, one in a read", masked(2, b"\x00" * 125), 1),
        ("binary of 16 KB, one in a read", masked(2, b"\x00" * 16384), 1),
        ("text of 16 KB of German, one in a read", masked(1, ("übergrößt " * 1260).encode()), 1),
    ):
        ours = microseconds(lambda data=data: decoder.decode(data), count)
        theirs = microseconds(reference(data), count)
        report(name, ours, f"websockets {theirs:.3f}")
    data = masked(2, b"\x00" * 16384)
    pieces = [data[start : start + 1448] for start in range(0, len(data), 1448)]
    report(
        "binary of 16 KB, in segments of 1,448 bytes", microseconds(lambda: [decoder.decode(piece) for piece in pieces])
    )
    text_data = masked(1, b"x" * 16384)
    pieces = [text_data[start : start + 1448] for start in range(0, len(data), 1448)]
    report(
        "text of 16 KB, in segments of 1,448 bytes", microseconds(lambda: [decoder.decode(piece) for piece in pieces])
    )


def frames_out() -> None:
    print("frame out")
    for name, text in ((f"text of {len(MESSAGE)} characters", MESSAGE), ("text of 16 KB", "x" * 16384)):
        ours = microseconds(lambda text=text: PLAIN.encode_text(text))
        theirs = microseconds(lambda text=text: Frame(Opcode.TEXT, text.encode()).serialize(mask=False))
        report(name, ours, f"websockets {theirs:.3f}")


def masks() -> None:
    print("unmasking, C" + ("" if has_c_version else " (not installed: the pure version twice)"))
    for size in SIZES:
        data = bytes(size)
        pure = microseconds(lambda data=data: apply_mask_pure(data, MASK))
        report(f"{size} bytes", microseconds(lambda data=data: apply_mask(data, MASK)), f"pure {pure:.3f}")


def rows(count: int) -> str:
    return json.dumps([{"id": number, "name": f"row {number}", "price": number * 1.25} for number in range(count)])


def inflate(payload: bytes) -> bytes:
    whole = deflate.inflate_short(payload)
    if whole is not None:
        return whole
    pieces = []
    inflating = deflate.Inflating(payload, 1 << 20)
    while not inflating.ended:
        pieces.append(inflating.take(1 << 16))
    return b"".join(pieces)


def compression() -> None:
    encoder = deflate.encoder(1, 64)
    for count in (3, 60, 1200):
        text = rows(count)
        data = encoder.encode_text(text)
        payload = data[2:] if data[1] < 126 else data[4:]
        print(f"permessage-deflate, {len(text)} bytes of JSON as {len(payload)}")
        report("deflate, level 1, window of 12 bits", microseconds(lambda text=text: encoder.encode_text(text)))
        report("inflate", microseconds(lambda payload=payload: inflate(payload)))
        decoder = Decoder(inflation=deflate.Inflation())
        frame = masked(1, payload, 0xC0)
        report("compressed frame in", microseconds(lambda decoder=decoder, frame=frame: decoder.decode(frame)))


def handshakes() -> None:
    print("handshake")
    headers = [
        (b"host", b"example.org"),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits"),
    ]
    report("check", microseconds(lambda: handshake.check("GET", "1.1", headers)))
    offer = handshake.check("GET", "1.1", headers)
    assert isinstance(offer, handshake.Offer)
    report("lines of the answer", microseconds(lambda: handshake.accept_lines(offer)))


def main() -> None:
    for part in (frames_in, frames_out, masks, compression, handshakes):
        part()


if __name__ == "__main__":
    main()
