"""Long lists in parts."""

from __future__ import annotations

from fairway.layers.parts import parts


def test_parts_have_all_items_in_order() -> None:
    assert list(parts(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(parts({"a": 1, "b": 2}, 2)) == [["a", "b"]]
    assert list(parts([], 2)) == []
