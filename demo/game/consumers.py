"""The game's consumer: one connection is one boat.

From the browser: ``steer`` (turn, throttle). To the browser: ``welcome`` (which boat is yours, the shape of the world)
and ``state``.
"""

from __future__ import annotations

from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from game import world
from game.harbour import GROUP, harbour
from people.identity import person_of_scope


class GameConsumer(AsyncJsonWebsocketConsumer):
    boat: world.Boat | None = None

    async def connect(self) -> None:
        person = await database_sync_to_async(person_of_scope)(self.scope)
        if person is None:
            await self.close()
            return
        await self.channel_layer.group_add(GROUP, self.channel_name)
        self.boat = harbour.enter(self.channel_name, person.name)
        await self.accept()
        await self.send_json(
            {
                "type": "welcome",
                "boat": self.boat.id if self.boat else None,
                "width": world.WIDTH,
                "height": world.HEIGHT,
                "amplitude": world.CHANNEL_AMPLITUDE,
                "halfWidth": world.CHANNEL_HALF_WIDTH,
            }
        )

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)
        if self.boat:
            await harbour.leave(self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"type": "steer", "turn": int() | float() as turn, "throttle": int() | float() as throttle}:
                if self.boat:
                    self.boat.steer(turn, throttle)

    async def game_state(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])
