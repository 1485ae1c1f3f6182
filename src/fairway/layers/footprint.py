"""How many bytes of memory a message takes. Pure."""

from __future__ import annotations

from sys import getsizeof
from typing import Any

_SHARED = (bool, type(None))
_FULL = (list, tuple, set, frozenset)


def footprint(value: Any) -> int:
    """Bytes that a value and everything in it takes. What is in objects of other types is not looked at.

    Texts that are keys do not count: they usually stand in the code, and are the same for all messages.
    """
    kind = type(value)
    if kind in _SHARED:
        return 0
    size = getsizeof(value)
    if kind is dict:
        keys = sum(footprint(key) for key in value if type(key) is not str)
        return size + keys + sum(map(footprint, value.values()))
    return size + sum(map(footprint, value)) if kind in _FULL else size
