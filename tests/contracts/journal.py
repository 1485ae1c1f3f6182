"""What happened inside an application under test, in order, to be waited for from outside."""

from __future__ import annotations

import asyncio
from typing import Any

DEADLINE = 20.0
"""Seconds until a test that waits for something fails. Nothing takes that long, on however loaded a machine."""


class Journal(list[Any]):
    """Entries may be made in any thread, and are waited for in the event loop that made the journal."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._grown = asyncio.Event()

    def note(self, entry: Any) -> None:
        self.append(entry)
        self._loop.call_soon_threadsafe(self._grown.set)

    async def until(self, entry: Any) -> None:
        """Return when the entry is there."""
        await self._until(lambda: entry in self, f"{entry!r} did not happen")

    async def length(self, count: int) -> None:
        """Return when there are so many entries."""
        await self._until(lambda: len(self) >= count, f"there are not {count} entries")

    async def _until(self, reached: Any, complaint: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                while not reached():
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"{complaint} within {DEADLINE:g} s, only {list(self)!r}") from None
