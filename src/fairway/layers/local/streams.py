"""Histories over the local broker, which keeps the messages (`../histories.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fairway.layers.backplane import Appended, BackplaneStatistics, Keep, Page, Position, Streams
from fairway.layers.histories import PAGES_AT_ONCE
from fairway.layers.local import history_frames, protocol
from fairway.layers.local.link import Frame, Link
from fairway.layers.local.protocol import Answer, Ask


class LocalStreams(Streams):
    """`ask` returns the answer to what is asked over the link. `statistics` returns those of the backplane."""

    def __init__(
        self,
        ask: Callable[[Callable[[Link], Awaitable[Frame]]], Awaitable[Frame]],
        statistics: Callable[[], BackplaneStatistics],
    ) -> None:
        self._ask = ask
        self._statistics = statistics
        self._turns = asyncio.Semaphore(PAGES_AT_ONCE)

    async def append_once(self, subject: str, data: bytes, keep: Keep, key: str) -> Appended:
        answer, _, body = await self._call(history_frames.append(subject, data, keep, key))
        self._statistics().published += 1
        return Appended(history_frames.read_position(body), answer is not Answer.REPEATED)

    async def read(self, subject: str, after: Position | float | None, limit: int) -> Page[bytes]:
        frame = history_frames.read(subject, after, limit)
        _, _, body = await self._ask(lambda link: self._in_turn(link, frame))
        return history_frames.read_page(body)

    async def tops(self, subjects: Sequence[str]) -> Sequence[Position]:
        found: list[Position] = []
        for frame in protocol.names(Ask.TOPS, subjects):
            _, _, body = await self._call(frame)
            found += history_frames.read_positions(body)
        return found

    async def changes(self) -> str:
        _, _, body = await self._call(protocol.frame(Ask.CHANGES))
        return str(protocol.number(body))

    def _call(self, frame: bytes) -> Awaitable[Frame]:
        return self._ask(lambda link: link.call(frame))

    async def _in_turn(self, link: Link, frame: bytes) -> Frame:
        async with self._turns:
            return await link.call(frame)
