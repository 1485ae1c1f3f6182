"""Helpers for the event loop: which one is running, and waiting for some of its passes."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

running_loop_or_none = asyncio._get_running_loop


class Passes:
    """An awaitable that lets the event loop make `count` passes, in which other tasks can run."""

    __slots__ = ("_count",)

    def __init__(self, count: int) -> None:
        self._count = count

    def __await__(self) -> Generator[None, None, None]:
        for _ in range(self._count):
            yield


NEXT_PASS = Passes(1)
"""Awaited by a sender that need not wait otherwise, so that a handler that sends without end lets other tasks run."""
