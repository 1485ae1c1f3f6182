"""A place where a consumer waits until the test lets it go on."""

from __future__ import annotations

import asyncio

from tests.contracts.journal import DEADLINE


class Gate:
    """`yield self.through(gate.wait)` in a consumer of either family; the test awaits `reached` and calls `open`."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    async def wait(self) -> None:
        self._reached.set()
        await asyncio.wait_for(self._open.wait(), DEADLINE)

    async def reached(self) -> None:
        await asyncio.wait_for(self._reached.wait(), DEADLINE)

    def open(self) -> None:
        self._open.set()
