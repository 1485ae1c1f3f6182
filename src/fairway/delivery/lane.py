"""A queue in which some items do not count against its capacity.

A consumer that comes back gets all that it has missed at once. What is sent afterwards has the same room behind it as
ever: the missed items must not use up the capacity that is for live ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class Lane(deque[T]):
    """Items are appended, and taken at the front. `waiting` returns how many of those that are left count."""

    __slots__ = ("_appended", "_uncounted")

    def __init__(self, items: Iterable[T] = ()) -> None:
        super().__init__(items)
        self._appended = len(self)  # how many ever were
        self._uncounted: list[tuple[int, int]] = []  # ranges of them, the oldest first

    def append(self, item: T) -> None:
        """Add an item that counts."""
        super().append(item)
        self._appended += 1

    def uncount(self) -> None:
        """The item that was appended last does not count."""
        begin = end = self._appended
        if self._uncounted and self._uncounted[-1][1] == end - 1:
            begin, _ = self._uncounted.pop()
        else:
            begin -= 1
        self._uncounted.append((begin, end))

    @property
    def counted(self) -> int:
        """How many of the items that are left count."""
        first = self._appended - len(self)
        while self._uncounted and self._uncounted[0][1] <= first:
            del self._uncounted[0]
        return len(self) - sum(end - max(begin, first) for begin, end in self._uncounted)


def counted(items: deque[Any]) -> int:
    """How many items of a queue count against its capacity."""
    return items.counted if isinstance(items, Lane) else len(items)
