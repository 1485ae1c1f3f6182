"""The parts of which the bodies of frames are made: names, numbers and texts. Pure.

Numbers are big-endian. A *short* text is preceded by one byte, its length. Whatever is read may come from anybody: what
makes no sense is a `ProtocolError`.
"""

from __future__ import annotations

import struct
from typing import Any

NUMBER = struct.Struct("!I")
SECONDS = struct.Struct("!d")


class ProtocolError(Exception):
    """The bytes are not a frame, or not one of ours."""


def short(name: str) -> bytes:
    """An ASCII text of at most 255 letters, preceded by its length."""
    encoded = name.encode("ascii")
    return bytes([len(encoded)]) + encoded


def name_at(body: bytes, position: int) -> tuple[str, int]:
    """The short text that begins there, and where it ends."""
    if position >= len(body) or position + 1 + body[position] > len(body):
        raise ProtocolError("a name that is cut off")
    end = position + 1 + body[position]
    return ascii_of(body[position + 1 : end]), end


def unpacked(layout: struct.Struct, body: bytes, whole: bool = False) -> tuple[Any, ...]:
    """The values at the beginning of a body. If it is `whole`, nothing may follow them."""
    if len(body) < layout.size or (whole and len(body) != layout.size):
        raise ProtocolError(f"a body of {len(body)} bytes")
    return layout.unpack_from(body)


def plausible(seconds: float) -> float:
    """The number of seconds, unless it is none."""
    if not 0 <= seconds < 1e10:  # neither does a NaN
        raise ProtocolError(f"a time of {seconds} s")
    return seconds


def ascii_of(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise ProtocolError("a name that is not ASCII") from None


def text_of(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError("a text that is not UTF-8") from None
