"""Unmasking of what clients send (RFC 6455 section 5.3): a pure version, and a C one where it is available.

`apply_mask(data, mask)` is the faster of the two on this installation; `apply_mask_pure` is always there. Both give
the same bytes. The C one comes with the `websockets` package. Measured by bench/micro/websocket.py.
"""

from __future__ import annotations

from collections.abc import Callable

# One table of 256 bytes for each key byte: x -> x ^ key, for bytes.translate.
_XOR = [bytes(value ^ key for value in range(256)) for key in range(256)]

# From here on four strided translations beat one exclusive or of two large integers.
_STRIDES_FROM = 1024


def apply_mask_pure(data: bytes, mask: bytes) -> bytes:
    """`data` with each byte xor-ed with the mask byte of its position modulo 4."""
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
