"""The event loop: which one runs, and letting it make a few passes."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

running_loop_or_none = asyncio._get_running_loop


class Passes:
    """Awaiting it lets the event loop make so many passes, in which others have their turn."""

    __slots__ = ("_count",)

    def __init__(self, count: int) -> None:
        self._count = count

    def __await__(self) -> Generator[None, None, None]:
        for _ in range(self._count):
            yield


NEXT_PASS = Passes(1)
"""A handler that never stops sending must not stop the others."""
