"""Copies of messages: isolated, equal, and shallow where that is enough."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.delivery import Message
from fairway.layers.copying import copied, is_flat


class Shout(str):
    """A str that could carry attributes: not of an exact built-in type."""


@pytest.mark.parametrize(
    ("message", "flat"),
    [
        ({"type": "a", "n": 1, "f": 1.5, "b": b"x", "t": True, "none": None}, True),
        ({}, True),
        ({"list": []}, False),
        ({"dict": {}}, False),
        ({"tuple": ()}, False),
        ({"shout": Shout("a")}, False),
        ({Shout("key"): 1}, False),
        ({"bytes": bytearray()}, False),
    ],
)
def test_flat_means_that_a_shallow_copy_isolates(message: Message, flat: bool) -> None:
    assert is_flat(message) is flat


def test_a_copy_shares_nothing_that_can_change() -> None:
    original: Message = {"list": [1, {"deep": []}], "set": {1}, "tuple": ([],), (1, 2): bytearray(b"x")}

    copy = copied(original)

    assert copy == original
    copy["list"][1]["deep"].append(1)
    copy["set"].add(2)
    copy["tuple"][0].append(1)
    copy[(1, 2)].extend(b"y")
    assert original == {"list": [1, {"deep": []}], "set": {1}, "tuple": ([],), (1, 2): bytearray(b"x")}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_json)
def test_a_copy_is_equal_and_of_the_same_types(value: Any) -> None:
    copy = copied(value)

    assert copy == value
    assert repr(copy) == repr(value)
