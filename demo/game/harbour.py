"""The running game: one world, and one task that moves it twenty times a second while somebody plays."""

from __future__ import annotations

import asyncio
import json

from channels.layers import get_channel_layer

from game.world import Boat, World

GROUP = "game.harbour"
TICK = 1 / 20
MAX_BOATS = 16


class Harbour:
    """Belongs to the process, and is used from its event loop only."""

    def __init__(self) -> None:
        self.world = World()
        self._ticking: asyncio.Task[None] | None = None

    def enter(self, key: str, name: str) -> Boat | None:
        """A boat for this connection, or None when the water is full. The first boat starts the clock."""
        if len(self.world.boats) >= MAX_BOATS:
            return None
        boat = self.world.add_boat(key, name)
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.create_task(self._tick())
        return boat

    async def leave(self, key: str) -> None:
        """The last boat stops the clock; when this returns, it has stopped."""
        del self.world.boats[key]
        ticking = self._ticking
        if not self.world.boats and ticking is not None:
            self._ticking = None
            ticking.cancel()
            await asyncio.wait([ticking])

    async def _tick(self) -> None:
        layer = get_channel_layer()
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self.world.step(TICK)
            # Encoded here, once, and not once by each player's consumer.
            text = json.dumps({"type": "state", **self.world.state()})
            await layer.group_send(GROUP, {"type": "game.state", "text": text})
            # A late tick is not made up for: boats pause instead of jumping.
            due = max(due + TICK, loop.time())
            await asyncio.sleep(due - loop.time())


harbour = Harbour()
