"""Server processes with a group that has a history and presence, and clients that keep what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlencode

import django
from django.conf import settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

DEADLINE = 60.0


def set_up(layer: dict[str, Any], hours: float) -> None:
    """What a server process begins with. Its clock is so many hours ahead."""
    real = time.time
    time.time = lambda: real() + 3600 * hours
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    settings.CHANNEL_LAYERS = {"default": layer}


def application() -> Any:
    from channels.generic.websocket import AsyncJsonWebsocketConsumer
    from fairway import AsyncGroupsMixin

    class Room(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            query = dict(part.split("=") for part in self.scope["query_string"].decode().split("&"))
            recovery = await self.join(query["group"], since=self.since(query["group"]))
            await self.send_json({"kind": "joined", "recovered": recovery.recovered, "position": recovery.position})
            await self.track(query["group"], key=query["name"])

        async def said(self, event: Any) -> None:
            await self.send_json({"kind": "said", "number": event["number"], "position": event["layer.position"]})

        async def layer_gap(self, event: Any) -> None:
            await self.send_json({"kind": "gap", "reason": event["reason"]})

        async def presence_state(self, event: Any) -> None:
            await self.send_json({"kind": "state", "members": list(event["members"])})

        async def presence_diff(self, event: Any) -> None:
            await self.send_json({"kind": "diff", "joined": list(event["joined"]), "left": list(event["left"])})

    return Room.as_asgi()


class Tab:
    """A connection of a person. `heard` has the numbers and the reasons of gaps, `events` who has joined and left."""

    def __init__(self, port: int, name: str, since: str = "", group: str = "room") -> None:
        self.heard: list[int | str] = []
        self.events: list[str] = []
        self.people: set[str] = set()
        self.position = since
        self.is_recovered = False
        self._url = f"ws://127.0.0.1:{port}/?" + urlencode({"name": name, "since": since, "group": group})
        self._changed = asyncio.Event()
        self._connection: ClientConnection
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._connection = await connect(self._url)
        self._reading = asyncio.ensure_future(self._read())
        await self.until(lambda: self.people)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connection.close()
        await asyncio.wait([self._reading])

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it is so, after a message."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # its process was killed
            async for text in self._connection:
                message = json.loads(text)
                getattr(self, f"_on_{message.pop('kind')}")(**message)
                self._changed.set()

    def _on_joined(self, recovered: bool, position: str) -> None:
        self.is_recovered, self.position = recovered, position

    def _on_said(self, number: int, position: str) -> None:
        self.heard.append(number)
        self.position = position

    def _on_gap(self, reason: str) -> None:
        self.heard.append(reason)

    def _on_state(self, members: list[str]) -> None:
        self.people = set(members)

    def _on_diff(self, joined: list[str], left: list[str]) -> None:
        assert not self.people & set(joined), "joined twice"
        assert self.people >= set(left), "left without having joined"
        self.people = (self.people | set(joined)) - set(left)
        self.events += [f"{name} joined" for name in joined] + [f"{name} left" for name in sorted(left)]
