"""The room that a race runs in: one in all processes, while somebody is there. See docs/howto/make-a-game.md."""

from __future__ import annotations

from typing import Any

from fairway.rooms import Room

from game.race import GONE_AFTER, Race

MAX_NAME = 40  # characters, of a room


class Water(Room):
    step = 1 / 20
    # A link makes a room: this is as many as one process can sail at once, with time left for other pages.
    most = 100
    # Somebody who is alone and loads the page again finds everything as it was.
    linger = GONE_AFTER

    async def begin(self, saved: Any) -> None:
        self.race = Race.of(saved) if saved else Race()
        self.told: Any = None
        self.until_crew = 0.0

    async def receive(self, message: Any) -> None:
        """From ``GameConsumer``, which says who it is and has checked the rest."""
        self.race.hear(message["who"], message["name"])
        if "seq" in message:
            self.race.steer(message["who"], message["turn"], message["throttle"], message["seq"])

    async def tick(self, seconds: float) -> None:
        self.race.step(seconds)
        self.until_crew -= seconds

    async def publish(self) -> None:
        crew = self.race.crew()
        seen = {**crew, "at": None}
        # Whoever has just come learns within a second who the others are.
        if seen != self.told or self.until_crew <= 0:
            self.told, self.until_crew = seen, 1.0
            await self.broadcast_json(crew)
        await self.broadcast_json(self.race.state())

    def save(self) -> Any:
        return self.race.save()
