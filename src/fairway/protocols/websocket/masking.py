"""Unmasks the payload of clients' frames (RFC 6455 section 5.3), in Python or, if it is available, in C.

`apply_mask(data, mask)` is the C version if the `websockets` package is installed, which contains it. Otherwise it is
`apply_mask_pure`. Both return the same bytes. bench/micro/websocket.py measures them.
"""

from __future__ import annotations

from collections.abc import Callable

# For each byte of a mask, a table for `bytes.translate`: x -> x ^ key.
_XOR = [bytes(value ^ key for value in range(256)) for key in range(256)]

# From this length on, four strided translations are faster than one exclusive or of two large integers.
_STRIDES_FROM = 1024


def apply_mask_pure(data: bytes, mask: bytes) -> bytes:
    """Return `data`, with each byte xor-ed with the byte of the mask at its position modulo 4."""
    length = len(data)
    if length >= _STRIDES_FROM:
        out = bytearray(length)
        for offset in range(4):
            out[offset::4] = data[offset::4].translate(_XOR[mask[offset]])
        return bytes(out)
    repeated = (mask * ((length + 3) // 4))[:length]
    return (int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")).to_bytes(length, "little")


try:
    from websockets import speedups
except ImportError:
    has_c_version = False
else:
    has_c_version = True

apply_mask: Callable[[bytes, bytes], bytes] = speedups.apply_mask if has_c_version else apply_mask_pure
