"""The application that `bench/attacks.py` attacks: a Django site with Channels, defaults only.

| path | what it does |
|---|---|
| `/echo/` | JSON decoded, encoded, sent back |
| `/idle/` | accepts, and takes nothing as long as the client is there |
| `/hall/` | a member of one group; whatever it says is broadcast to all |
| `/raise/` | raises at each message, with the client's words in the exception |
| `/rooms/NAME/` | a group by the client's own name |
| `/upload/` | an HTTP consumer that answers with the size of the body |
| `GET /` | a Django view |
"""

import asyncio
import os

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["BENCH_DATABASE"]}},
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "channels",
    ],
    ROOT_URLCONF="attacked_app",
    SECRET_KEY="not a secret",
    USE_TZ=True,
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.generic.http import AsyncHttpConsumer  # noqa: E402
from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402


class Echo(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content):
        await self.send_json(content)


class Idle(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await asyncio.Event().wait()


class Hall(AsyncWebsocketConsumer):
    groups = ("hall",)

    async def receive(self, text_data=None, bytes_data=None):
        await self.group_broadcast("hall", text_data)


class Raise(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        raise ValueError(f"I do not know {text_data}")


class Room(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add(self.scope["url_route"]["kwargs"]["name"], self.channel_name)
        await self.accept()


class Upload(AsyncHttpConsumer):
    async def handle(self, body):
        await self.send_response(200, str(len(body)).encode())


def view(request):
    return HttpResponse(b"hello")


urlpatterns = [path("", view)]

routes = [
    path("echo/", Echo.as_asgi()),
    path("idle/", Idle.as_asgi()),
    path("hall/", Hall.as_asgi()),
    path("raise/", Raise.as_asgi()),
    path("rooms/<str:name>/", Room.as_asgi()),
]

application = ProtocolTypeRouter(
    {
        "http": URLRouter([path("upload/", Upload.as_asgi()), path("", get_asgi_application())]),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(routes))),
    }
)
