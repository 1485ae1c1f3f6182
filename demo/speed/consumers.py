"""The panel's connection, and that of a simulated visitor.

A page sends ten pulses a second. Each is broadcast to every page and visitor: `group_broadcast_json` makes one frame
and writes it to all of them. The page measures how long its own pulse takes to come back.

From the browser: ``pulse`` (id) and ``bring``. To the browser: ``hello``, ``pulse`` (page, id), ``figures`` (once a
second), ``crowd`` and ``notice``.
"""

from __future__ import annotations

import asyncio
import os
import time
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer
from django.conf import settings
from django.utils.crypto import get_random_string
from fairway.delivery import process_statistics

from chat.ratelimit import RateLimit
from people.identity import person_of_scope
from speed.crowd import crowd, is_ticket

EVERYBODY = "speed.everybody"  # pages and visitors
PAGES = "speed.pages"
MAX_ID = 2**31

# For all pages of this process together: how often everybody is written to.
pulses = RateLimit(burst=60, per_second=60)


@lru_cache(maxsize=1000)
def crowds_of(person_id: int) -> RateLimit:
    return RateLimit(burst=1, per_second=1 / 30)


class VisitorConsumer(AsyncWebsocketConsumer):
    """Hears what everybody hears, and says nothing."""

    groups = [EVERYBODY]

    async def connect(self) -> None:
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        if is_ticket(query.get("ticket", [""])[-1]):
            await self.accept()
        else:
            await self.close()


class SpeedConsumer(AsyncJsonWebsocketConsumer):
    groups = [EVERYBODY, PAGES]
    figures: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        person = await database_sync_to_async(person_of_scope)(self.scope)
        if person is None:
            await self.close()
            return
        self.crowds = crowds_of(person.pk)
        self.page = get_random_string(8)
        await self.accept()
        transport = {"http": self.scope.get("http_version", "1.1"), "tls": self.scope.get("scheme") == "wss"}
        await self.send_json({"type": "hello", "page": self.page, "worker": os.getpid(), **transport})
        self.figures = asyncio.create_task(self.tell_figures())

    async def disconnect(self, code: int) -> None:
        if self.figures is not None:
            self.figures.cancel()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"type": "pulse", "id": int(number)} if 0 <= number < MAX_ID:
                if pulses.allow(time.monotonic()):
                    pulse = {"type": "pulse", "page": self.page, "id": number}
                    await self.channel_layer.group_broadcast_json(EVERYBODY, pulse)
            case {"type": "bring"}:
                code = self.bring()
                if code:
                    await self.send_json({"type": "notice", "code": code})
            case _:
                await self.send_json({"type": "notice", "code": "unknown"})

    def bring(self) -> str | None:
        """Let a crowd come, or say why not."""
        host, port = self.scope.get("server") or (None, None)
        if not settings.SPEED_VISITORS or port is None:
            return "noCrowd"
        if crowd.is_here:
            return "crowdIsHere"
        if not self.crowds.allow(time.monotonic()):
            return "crowdTooSoon"
        is_tls = "tls" in self.scope.get("extensions", {})
        crowd.come(settings.SPEED_VISITORS, host, port, is_tls, self.tell_pages)
        return None

    async def tell_pages(self, content: dict[str, Any]) -> None:
        await self.channel_layer.group_send(PAGES, {"type": "speed.event", "content": content})

    async def speed_event(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])

    async def tell_figures(self) -> None:
        while True:
            await self.send_json({"type": "figures", **figures()})
            await asyncio.sleep(1)


def figures() -> dict[str, int]:
    """What this process counts. Under another server than Fairway some of it is not known, and is 0."""
    counters = process_statistics().counters
    layers, server = counters.get("layers", {}), counters.get("server", {})
    return {
        "sockets": layers.get("channels", 0),
        "dropped": layers.get("dropped_messages", 0) + server.get("dropped_frames", 0),
    }
