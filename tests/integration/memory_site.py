"""What `test_memory.py` serves: an echo in plain ASGI and as a consumer behind the stack, and its memory."""

from __future__ import annotations

import gc
import json
import os
import tracemalloc
from typing import Any

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["MEMORY_SITE_DATABASE"]}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "channels"],
    SECRET_KEY="not a secret: tests only",
)

import django  # noqa: E402

django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.middleware import TailCall, enter_application  # noqa: E402

call_command("migrate", verbosity=0)


def sign_in() -> str:
    """The key of a session of a user."""
    user = get_user_model().objects.create_user("ann")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


SESSION = sign_in()


class Echo(AsyncWebsocketConsumer):
    groups = ["all"]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(f"{self.scope['user']} {text_data}")


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"plain {event['text']}"})


async def report(scope: Any, receive: Any, send: Any) -> None:
    gc.collect()
    body = json.dumps({"traced": tracemalloc.get_traced_memory()[0], "session": SESSION}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Site(TailCall):
    stack = AuthMiddlewareStack(Echo.as_asgi())

    def enter(self, scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["type"] == "http":
            return report(scope, receive, send)
        return enter_application(plain if scope["path"] == "/plain" else self.stack, scope, receive, send)


application = Site()
