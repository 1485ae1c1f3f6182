"""A small site for a live server: pages and a consumer that look into the database."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.asgi import get_asgi_application
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator

PAGE = """<!doctype html><title>Roll call</title><ul></ul>
<script>
  const socket = new WebSocket(`ws://${location.host}/ws/`)
  socket.onopen = () => socket.send(JSON.stringify("mira"))
  socket.onmessage = (event) => {
    const item = document.createElement("li")
    item.textContent = event.data
    document.querySelector("ul").append(item)
  }
</script>"""


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE)


def databases(request: HttpRequest) -> JsonResponse:
    """The database of each alias, as this process has it."""
    return JsonResponse({alias: str(connections.settings[alias]["NAME"]) for alias in connections})


def changed_settings(request: HttpRequest) -> JsonResponse:
    """What the test runner and the test have changed, as this process has it."""
    names = ("ALLOWED_HOSTS", "DEBUG", "EMAIL_BACKEND", "ROOT_URLCONF")
    return JsonResponse({name: getattr(settings, name) for name in names})


def users(request: HttpRequest) -> JsonResponse:
    return JsonResponse(sorted(get_user_model().objects.values_list("username", flat=True)), safe=False)


class RollCall(AsyncJsonWebsocketConsumer):
    """Answers a name with whether there is such a user, and who asks."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        exists = await database_sync_to_async(get_user_model().objects.filter(username=content).exists)()
        await self.send_json({"exists": exists, "asked by": self.scope["user"].get_username()})


urlpatterns = [
    path("", page),
    path("databases/", databases),
    path("settings/", changed_settings),
    path("users/", users),
]
sockets = URLRouter([path("ws/", RollCall.as_asgi())])
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(sockets)),
    }
)
