"""The site of `soak_workers.py` and `soak_streams.py`. Its channel layer stands in SOAK_LAYER, as JSON.

| path | what it does |
|---|---|
| `/echo/` | says which process this is, then sends back what it gets |
| `/room/N/` | the same, but what it gets goes to everybody in the room: by handlers, in odd rooms as a broadcast |
| `/left/` | answers anything with what exists in this process: tasks and threads |
| `/stream/N/PERSON/` | says which process this is, then what is said in a group with a history, and who is there |
| `/say/N/TALKER/` | says in that group what it gets, a number, once |
| `/cut/` | cuts the connection between this process and the others |
| `/present/N/` | answers anything with how many are there |
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
from fairway import AsyncGroupsMixin  # noqa: E402


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


async def patiently(call):
    """Call again while the connection between processes is away."""
    while True:
        try:
            return await call()
        except ConnectionError:
            await asyncio.sleep(0.02)


class Stream(AsyncGroupsMixin, Echo):
    async def connect(self):
        await super().connect()
        where = self.scope["url_route"]["kwargs"]
        group, since = f"stream.{where['number']}", self.since(f"stream.{where['number']}")
        recovery = await patiently(lambda: self.join(group, since))
        await self.say(kind="joined", recovered=recovery.recovered, count=recovery.count, position=recovery.position)
        await patiently(lambda: self.track(group, {"name": where["person"]}, key=where["person"]))
        await self.say(kind="tracked")

    async def say(self, **what):
        await self.send(json.dumps(what))

    async def stream_said(self, event):
        position = event["layer.position"]
        await self.say(kind="said", talker=event["talker"], number=event["number"], position=position)

    async def layer_gap(self, event):
        await self.say(kind="gap", gap=event)

    async def presence_state(self, event):
        await self.say(kind="state", members=list(event["members"]))

    async def presence_diff(self, event):
        await self.say(kind="diff", joined=list(event["joined"]), left=list(event["left"]))


class Say(Echo):
    async def receive(self, text_data):
        where = self.scope["url_route"]["kwargs"]
        event = {"type": "stream.said", "talker": where["talker"], "number": int(text_data), "text": "x" * 100}
        key = f"{where['talker']} {text_data}"
        try:
            await self.channel_layer.group_send(f"stream.{where['number']}", event, key=key)
        except ConnectionError:
            await self.send("again")
        else:
            await self.send(text_data)


class Cut(Echo):
    async def receive(self, text_data):
        backplane = self.channel_layer.node.home.session.backplane
        for kept in [backplane._kept] if hasattr(backplane, "_kept") else [shard.kept for shard in backplane._shards]:
            if kept.link is not None:
                kept.link.abort(ConnectionError("the soak has cut it"))
        await self.send("cut")


class Present(Echo):
    async def receive(self, text_data):
        number = self.scope["url_route"]["kwargs"]["number"]
        await self.send(str(await patiently(lambda: self.channel_layer.presence.count(f"stream.{number}"))))


class Left(Echo):
    async def receive(self, text_data):
        # Consumers are counted by the server (`running`): whoever looks at all workers leaves some here meanwhile.
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
        kinds = sorted(name for name in names if name != "ConsumerLoop.__call__")
        found = {"pid": os.getpid(), "tasks": len(kinds), "threads": threading.active_count(), "kinds": kinds}
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
                path("stream/<int:number>/<person>/", Stream.as_asgi()),
                path("say/<int:number>/<talker>/", Say.as_asgi()),
                path("cut/", Cut.as_asgi()),
                path("present/<int:number>/", Present.as_asgi()),
                path("left/", Left.as_asgi()),
            ]
        ),
    }
)
