"""An application whose room runs in one of two server processes."""

from __future__ import annotations

import os
from typing import Any

from fairway.rooms import AsyncRoomsMixin, Room


class Clock(Room):
    step = 0.02
    save_every = 0.1

    async def begin(self, saved: Any) -> None:
        self.ticks, self.said = saved or (0, [])

    async def tick(self, seconds: float) -> None:
        self.ticks += 1

    async def receive(self, message: Any) -> None:
        self.said.append(message)

    async def publish(self) -> None:
        await self.broadcast_json({"ticks": self.ticks, "said": self.said, "process": os.getpid()})

    def save(self) -> Any:
        return [self.ticks, self.said]


def application() -> Any:
    from channels.generic.websocket import AsyncJsonWebsocketConsumer

    class Watching(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            self.clock = await self.enter(Clock, "clock")
            await self.accept()

        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.clock.send(content)

    return Watching.as_asgi()
