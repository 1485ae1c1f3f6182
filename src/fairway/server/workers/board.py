"""What the workers of a server know of each other: how many connections each has, and that it lives.

By that they share the connections that come (`turns.py`). A worker that hangs stops counting after a second, and the
others serve the clients that it would have taken.

The board is memory that all processes map: a slot for each worker, which only that worker writes to. A slot may be read
while it is written. Each of its two numbers is whole then, and nothing depends on both being of the same moment.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile

BEAT_SECONDS = 0.25
"""How often a worker reports that it lives."""

_STALE_SECONDS = 1.0

# Connections, and the time of the last beat by the monotonic clock, which all processes share. Padded to a cache line,
# so that workers do not wait for each other's writes.
_SLOT = struct.Struct("=qd48x")


class Board:
    """Slots are numbered from 0. `now` is always `time.monotonic()`."""

    def __init__(self, descriptor: int, slots: int) -> None:
        """Map the board behind a descriptor, and own the descriptor from now on."""
        self.descriptor = descriptor
        self.slots = slots
        self._memory = mmap.mmap(descriptor, slots * _SLOT.size)

    def tell(self, slot: int, connections: int, now: float) -> None:
        """Report that a worker lives, and how many connections it has."""
        _SLOT.pack_into(self._memory, slot * _SLOT.size, connections, now)

    def clear(self, slot: int) -> None:
        """Report that the slot's worker takes no more connections."""
        self.tell(slot, 0, 0.0)

    def told_at(self, slot: int) -> float:
        """When the slot's worker last reported that it lives; 0 if it never has."""
        return float(_SLOT.unpack_from(self._memory, slot * _SLOT.size)[1])

    def others(self, slot: int, now: float) -> tuple[int, int]:
        """How many workers live besides that of the slot, and how many connections they have together."""
        number = total = 0
        for other, (count, told_at) in enumerate(_SLOT.iter_unpack(self._memory)):
            if other != slot and now - told_at < _STALE_SECONDS:
                number += 1
                total += count
        return number, total

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.descriptor)


def make_board(slots: int) -> Board:
    """Return a new board. Other processes can inherit its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("fairway board", 0)
    else:
        descriptor, path = tempfile.mkstemp(prefix="fairway-board-")
        os.unlink(path)
        os.set_inheritable(descriptor, True)
    os.ftruncate(descriptor, slots * _SLOT.size)
    return Board(descriptor, slots)
