"""Copies of messages, so that sender and receivers do not see each other's changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

_IMMUTABLE = frozenset({str, int, float, bool, bytes, type(None), complex})


def is_flat(message: Mapping[Any, Any]) -> bool:
    """Whether a shallow copy is enough: all keys and values are of exact immutable built-in types."""
    return _IMMUTABLE.issuperset(map(type, message.values())) and _IMMUTABLE.issuperset(map(type, message))


def copied(value: Any) -> Any:
    """A deep copy: quick for whatever JSON can hold, and correct for everything else."""
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if kind is dict:
        return {key if type(key) in _IMMUTABLE else copy.deepcopy(key): copied(item) for key, item in value.items()}
    if kind is list:
        return [copied(item) for item in value]
    return copy.deepcopy(value)
