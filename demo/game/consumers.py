"""The game's consumer: one connection is one page of a player or of a spectator. Boats belong to persons.

From the browser: ``steer`` (turn, throttle, seq) and, when there is nothing to steer, ``here`` once a second. To the
browser: ``welcome`` (who you are, the shape of the world), then what the room says: ``state`` and ``crew``
(`game.race`). Should the room fail, ``failed``.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway.rooms import AsyncRoomsMixin, TooManyRooms, Visit

from chat.ratelimit import RateLimit
from game.water import MAX_NAME, Water
from game.world import SHAPE
from people.identity import person_of_scope
from people.models import Person

MOST_SEQ = 2**31
MOST = 1000  # no boat turns faster than at 1; an integer that no float can hold, NaN and infinity are none


class GameConsumer(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
    person: Person | None = None
    water: Visit
    plays = True

    async def connect(self) -> None:
        room: str = self.scope["url_route"]["kwargs"]["room"]
        self.person = await database_sync_to_async(person_of_scope)(self.scope)
        if self.person is None or len(room) > MAX_NAME:
            await self.close()
            return
        # A page sends twenty a second at most. Who sends more is not faster for it.
        self.inputs = RateLimit(burst=20, per_second=25)
        try:
            self.water = await self.enter(Water, f"game.{room}")
        except TooManyRooms:
            await self.close()
            return
        await self.accept()
        me = str(self.person.pk) if self.plays else None
        await self.send_json({"type": "welcome", "me": me, "world": SHAPE})
        await self.tell_water()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if not self.inputs.allow(time.monotonic()):
            return
        match content:
            case {"type": "here"}:
                await self.tell_water()
            case {
                "type": "steer",
                "turn": int() | float() as turn,
                "throttle": int() | float() as throttle,
                "seq": int() as seq,
            } if abs(turn) <= MOST and abs(throttle) <= MOST and 0 < seq < MOST_SEQ:
                await self.tell_water(turn=turn, throttle=throttle, seq=seq)

    async def tell_water(self, **steering: float) -> None:
        if self.plays and self.person is not None:
            # While the layer's service is away, nothing is said: the page says it again in a second.
            with contextlib.suppress(ConnectionError):
                await self.water.send({"who": str(self.person.pk), "name": self.person.name, **steering})

    async def room_failed(self, event: dict[str, Any]) -> None:
        await self.send_json({"type": "failed", "againIn": event["again_in"]})


class SpectatorConsumer(GameConsumer):
    """Sees everything, and has no boat."""

    plays = False
