"""The site of `soak_workers.py`. Its channel layer stands in SOAK_LAYER, as JSON.

| path | what it does |
|---|---|
| `/echo/` | says which process this is, then sends back what it gets |
| `/room/N/` | the same, but what it gets goes to everybody in the room: by handlers, in odd rooms as a broadcast |
| `/left/` | answers anything with what exists in this process: tasks and threads |
| `GET /view/` | a Django view; answers with the process |
"""

import asyncio
import json
import os
import threading

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    CHANNEL_LAYERS={"default": json.loads(os.environ["SOAK_LAYER"])},
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    ROOT_URLCONF="soaked_app",
    SECRET_KEY="not a secret",
    USE_TZ=True,
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402


class Echo(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.send(str(os.getpid()))

    async def receive(self, text_data):
        await self.send(text_data)


class Room(Echo):
    async def connect(self):
        self.number = self.scope["url_route"]["kwargs"]["number"]
        self.room = f"room-{self.number}"
        await self.channel_layer.group_add(self.room, self.channel_name)
        await super().connect()

    async def receive(self, text_data):
        if self.number % 2:
            await self.group_broadcast(self.room, text_data)
        else:
            await self.channel_layer.group_send(self.room, {"type": "room.text", "text": text_data})

    async def room_text(self, event):
        await self.send(event["text"])

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)


class Left(Echo):
    async def receive(self, text_data):
        found = {"pid": os.getpid(), "tasks": len(asyncio.all_tasks()), "threads": threading.active_count()}
        await self.send(json.dumps(found))


async def view(request):
    return JsonResponse({"pid": os.getpid()})


urlpatterns = [path("view/", view)]

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [
                path("echo/", Echo.as_asgi()),
                path("room/<int:number>/", Room.as_asgi()),
                path("left/", Left.as_asgi()),
            ]
        ),
    }
)
