"""What waits in an outbox: whole frames, the rest of one, and frames that are not made yet."""

from __future__ import annotations

from typing import TypeAlias

from fairway.delivery import Unfinished


class Droppable:
    """A whole frame that may be dropped while it waits. `key` says which frames can replace each other."""

    __slots__ = ("frame", "key")

    def __init__(self, frame: bytes, key: str) -> None:
        self.frame = frame
        self.key = key

    def __len__(self) -> int:
        return len(self.frame)


Piece: TypeAlias = bytes | memoryview | Droppable | Unfinished

FINISHED = frozenset({bytes, memoryview, Droppable})
"""The types of pieces that can be written. A memoryview is the rest of a frame whose beginning has been written."""
