"""What a client sends, byte for byte, and one helper that decodes it in every way it can arrive."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import pairwise

from fairway.protocols.websocket.decoder import Decoder
from fairway.protocols.websocket.deflate import Inflation
from fairway.protocols.websocket.events import Close, Failure, LongText, Ping, Pong
from fairway.protocols.websocket.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from fairway.protocols.websocket.masking import apply_mask_pure

MASK = b"\x37\xfa\x21\x3d"  # the one of RFC 6455 section 5.7
EVENTS = (Ping, Pong, Close, Failure)
BEHIND = "behind"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes | None = MASK,
    form: int | None = None,
    length: int | None = None,
) -> bytes:
    """One frame of a client. `form` 125, 126 or 127 forces a form of the length; `length` claims another than the
    payload's; `mask` None leaves it unmasked.
    """
    count = len(payload) if length is None else length
    if form is None:
        form = 125 if count < 126 else 126 if count < 0x10000 else 127
    masked = 0x80 if mask is not None else 0
    head = bytes((opcode | reserved | (0x80 if fin else 0), masked | (count if form == 125 else form)))
    if form > 125:
        head += count.to_bytes(2 if form == 126 else 8, "big")
    return head + payload if mask is None else head + mask + apply_mask_pure(payload, mask)


def text(data: str | bytes, **how: object) -> bytes:
    return frame(TEXT, data.encode() if isinstance(data, str) else data, **how)  # type: ignore[arg-type]


def binary(data: bytes, **how: object) -> bytes:
    return frame(BINARY, data, **how)  # type: ignore[arg-type]


def more(data: bytes, **how: object) -> bytes:
    return frame(CONTINUATION, data, **how)  # type: ignore[arg-type]


def ping(data: bytes = b"") -> bytes:
    return frame(PING, data)


def pong(data: bytes = b"") -> bytes:
    return frame(PONG, data)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def fragmented(opcode: int, *pieces: bytes, reserved: int = 0) -> bytes:
    """One message in as many frames as there are pieces."""
    last = len(pieces) - 1
    return b"".join(
        frame(CONTINUATION if index else opcode, piece, fin=index == last, reserved=0 if index else reserved)
        for index, piece in enumerate(pieces)
    )


def deflated(data: bytes) -> bytes:
    """Compressed as RFC 7692 section 7.2.1 says."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def compressed(data: bytes, *, opcode: int = TEXT, fin: bool = True) -> bytes:
    return frame(opcode, deflated(data), reserved=0x40, fin=fin)


def plain(item: object) -> object:
    """An item as something that can be compared: events become tuples that begin with their class."""
    if isinstance(item, LongText):
        return item.whole()
    if isinstance(item, Ping | Pong):
        return (type(item), item.data)
    if isinstance(item, Close | Failure):
        return (type(item), item.code, item.reason)
    return item


def decoder_for(*, deflate: bool = False, **how: int) -> Decoder:
    return Decoder(**how, inflation=Inflation() if deflate else None)


def feed(pieces: Iterable[bytes], **how: int) -> list[object]:
    decoder = decoder_for(**how)
    result = [plain(item) for piece in pieces for item in decoder.decode(piece)]
    assert not decoder.pending
    return result


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces; every number is a place to cut at."""
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(bounds)]


def decoded(data: bytes, **how: int) -> list[object]:
    """The items of `data`, which must be the same however it arrives: whole, byte by byte, in every two pieces, and
    with another message behind it.
    """
    items = feed([data], **how)
    assert feed((data[i : i + 1] for i in range(len(data))), **how) == items, "byte by byte gives other items"
    step = max(1, len(data) // 300)
    for place in [*range(1, min(len(data), 40)), *range(40, len(data), step)]:
        assert feed([data[:place], data[place:]], **how) == items, f"cut at {place}: other items"
    over = bool(items) and isinstance(items[-1], tuple) and items[-1][0] in (Close, Failure)
    for way in ([data + text(BEHIND)], [data, text(BEHIND)]):
        assert feed(way, **how) == (items if over else [*items, BEHIND]), "bytes behind it change the items"
    return items


def failure(data: bytes, **how: int) -> tuple[int, str]:
    """The code and reason with which `data` is refused; nothing else may come of it."""
    (item,) = decoded(data, **how)
    assert isinstance(item, tuple)
    assert item[0] is Failure, item
    return item[1], item[2]
