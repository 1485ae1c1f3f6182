"""Work in rounds: whatever becomes due while one round is under way is done in the next one, all together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

Work = Coroutine[Any, Any, None]


class Rounds:
    """`work` gets the names that are due, and whether others are to be told of them; `start` makes a task of it."""

    def __init__(self, start: Callable[[Work], asyncio.Task[None]], work: Callable[[Mapping[str, bool]], Work]) -> None:
        self._start = start
        self._work = work
        self._due: dict[str, bool] = {}
        self._next: asyncio.Task[None] | None = None
        self._last: asyncio.Task[None] | None = None

    def take(self, names: Iterable[str], is_told: bool = False) -> asyncio.Task[None]:
        """Do these in the next round, which is returned."""
        for name in names:
            self._due[name] = is_told or self._due.get(name, False)
        if self._next is None:
            self._next = self._last = self._start(self._go(self._last))
        return self._next

    async def _go(self, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        due, self._due = self._due, {}
        self._next = None
        await self._work(due)
