"""What tests of the ASGI conversations stand in for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def others_run_between(calls: int, call: Callable[[], Awaitable[object]]) -> bool:
    """Whether other tasks of the loop have a turn between any two of so many calls in a row."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    for _ in range(calls):
        await call()
    counting.cancel()
    return turns >= calls - 1


class FakeTask:
    """The task of an application that has returned, or ended with an error or by being cancelled."""

    def __init__(self, error: BaseException | None = None, is_cancelled: bool = False) -> None:
        self._error = error
        self._is_cancelled = is_cancelled

    def cancelled(self) -> bool:
        return self._is_cancelled

    def exception(self) -> BaseException | None:
        assert not self._is_cancelled
        return self._error
