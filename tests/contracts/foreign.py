"""Channel layers as others write them: one on the base class, one that changes how the in-memory layer receives."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from channels.layers import BaseChannelLayer, InMemoryChannelLayer


class Breakable:
    """A layer whose every call fails while it is broken; who waits in `receive` learns of it by a message with the
    key `error`.
    """

    broken: Exception | None = None

    def require_working(self) -> None:
        if self.broken is not None:
            raise self.broken


class QueueLayer(Breakable, BaseChannelLayer):
    """Knows nothing of hubs and members: an `asyncio.Queue` for each channel."""

    extensions = ["groups", "flush"]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.queues: dict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self.groups: dict[str, set[str]] = defaultdict(set)
        self.receiving = 0
        self._names = 0

    async def new_channel(self, prefix: str = "specific") -> str:
        self._names += 1
        return f"{prefix}!{self._names}"

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self.require_working()
        self.queues[channel].put_nowait(dict(message))

    async def receive(self, channel: str) -> dict[str, Any]:
        self.receiving += 1
        try:
            self.require_working()
            message = await self.queues[channel].get()
        finally:
            self.receiving -= 1
        if isinstance(message.get("error"), Exception):
            raise message["error"]
        return message

    async def group_add(self, group: str, channel: str) -> None:
        self.require_working()
        self.groups[group].add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_working()
        self.groups[group].discard(channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        for channel in self.groups[group]:
            await self.send(channel, message)

    async def flush(self) -> None:
        self.queues.clear()
        self.groups.clear()


class StampingLayer(Breakable, InMemoryChannelLayer):
    """The in-memory layer with a `receive` of its own, which must not be passed by."""

    receiving = 0

    async def receive(self, channel: str) -> dict[str, Any]:
        self.receiving += 1
        try:
            self.require_working()
            message = await super().receive(channel)
        finally:
            self.receiving -= 1
        if isinstance(message.get("error"), Exception):
            raise message["error"]
        return {**message, "stamp": "received"}

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self.require_working()
        await super().send(channel, message)

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_working()
        await super().group_discard(group, channel)
