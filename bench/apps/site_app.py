"""The application of the benchmarks: a Django site with Channels, one file, the same under every ASGI server.

| path | what it does |
|---|---|
| `/echo/` | JSON decoded, encoded, sent back: the tutorial's consumer |
| `/member/` | the same, for signed-in users only |
| `/room/`, `/room-sender/` | a room whose members' handlers each encode their JSON; who sends to it is not in it |
| `/wrapped/`, `/wrapped-sender/` | the same room, behind a middleware that wraps `send` |
| `/hall/`, `/hall-sender/` | text that goes to all as it is: `group_broadcast`, or `group_send` where that is missing |
| `/flood/` | a member of the hall that is sent as many messages of 10 KB, by one handler, as it asks for |
| `GET /flood/` | how many of those messages `send` has returned from, and the codes that floods have ended with |
| `GET /view/` | a Django view |
| `GET /collect/` | a full collection; answers with the milliseconds that it took |

The database stands in BENCH_DATABASE: a file of SQLite (`prepare_sessions.py` makes one), or an entry of `DATABASES` as
JSON.
"""

import gc
import json
import os
import time

import django
from django.conf import settings

database = os.environ["BENCH_DATABASE"]

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={
        "default": json.loads(database)
        if database.startswith("{")
        else {"ENGINE": "django.db.backends.sqlite3", "NAME": database}
    },
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "channels",
    ],
    LOGGING_CONFIG=None,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF="site_app",
    SECRET_KEY="not a secret",
    USE_TZ=True,
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data):
        message = json.loads(text_data)["message"]
        await self.send(text_data=json.dumps({"message": message}))


class Member(Echo):
    async def connect(self):
        if self.scope["user"].is_authenticated:
            await self.accept()
        else:
            await self.close()


class RoomSender(AsyncWebsocketConsumer):
    async def receive(self, text_data):
        message = json.loads(text_data)["message"]
        await self.channel_layer.group_send("room", {"type": "chat.message", "message": message})


class Room(RoomSender):
    groups = ("room",)

    async def chat_message(self, event):
        await self.send(text_data=json.dumps({"message": event["message"]}))


class HallSender(AsyncWebsocketConsumer):
    async def receive(self, text_data):
        if hasattr(self, "group_broadcast"):
            await self.group_broadcast("hall", text_data)
        else:
            await self.channel_layer.group_send("hall", {"type": "hall.text", "text": text_data})


class Hall(HallSender):
    groups = ("hall",)

    async def hall_text(self, event):
        await self.send(text_data=event["text"])


class Flood(Hall):
    message = "x" * 10_000
    sent = 0
    codes = ()

    async def receive(self, text_data):
        for _ in range(int(text_data)):
            await self.send(text_data=self.message)
            Flood.sent += 1

    async def disconnect(self, code):
        Flood.codes += (code,)


def pass_through(application):
    """A middleware that sees every message on its way out, and changes none."""

    async def wrapped(scope, receive, send):
        async def send_on(message):
            await send(message)

        await application(scope, receive, send_on)

    return wrapped


async def view(request):
    return HttpResponse("Hello, world")


async def collect(request):
    begin = time.perf_counter()
    gc.collect()
    return JsonResponse({"pause_ms": (time.perf_counter() - begin) * 1000})


async def flood(request):
    return JsonResponse({"sent": Flood.sent, "codes": Flood.codes})


urlpatterns = [path("view/", view), path("collect/", collect), path("flood/", flood)]

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(
                URLRouter(
                    [
                        path("echo/", Echo.as_asgi()),
                        path("member/", Member.as_asgi()),
                        path("room/", Room.as_asgi()),
                        path("room-sender/", RoomSender.as_asgi()),
                        path("wrapped/", pass_through(Room.as_asgi())),
                        path("wrapped-sender/", RoomSender.as_asgi()),
                        path("hall/", Hall.as_asgi()),
                        path("hall-sender/", HallSender.as_asgi()),
                        path("flood/", Flood.as_asgi()),
                    ]
                )
            )
        ),
    }
)
