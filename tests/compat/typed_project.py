"""Code of a project that is checked with `mypy --strict`, annotated as people do who have used `types-channels`.

It is the subject of `test_types.py`, where it is also imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, assert_type
from urllib.parse import parse_qs

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

from channels.auth import AuthMiddlewareStack, get_user, login, logout
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.db import database_sync_to_async
from channels.exceptions import ChannelFull, DenyConnection, StopConsumer
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, channel_layers, get_channel_layer
from channels.middleware import BaseMiddleware
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator, OriginValidator
from channels.sessions import CookieMiddleware, SessionMiddlewareStack
from channels.testing import ApplicationCommunicator, HttpCommunicator, WebsocketCommunicator
from channels.worker import Worker

if TYPE_CHECKING:
    from asgiref.typing import (
        ASGIReceiveCallable,
        ASGISendCallable,
        HTTPRequestEvent,
        WebSocketConnectEvent,
        WebSocketDisconnectEvent,
        WebSocketReceiveEvent,
        WebSocketScope,
    )


class Chat(AsyncJsonWebsocketConsumer):
    groups = ["lobby"]

    room: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[str] = []

    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        self.groups = [*self.groups, f"room.{self.room}"]
        if self.scope["user"] is None:
            raise DenyConnection
        layer = self.channel_layer
        await layer.group_add(f"room.{self.room}", self.channel_name)
        await self.accept(subprotocol="chat", headers=[(b"x-room", self.room.encode())])
        await self.save_visit(self.room)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        message: dict[str, Any] = {"type": "chat.message", "text": content["text"]}
        await self.channel_layer.group_send(f"room.{self.room}", message)

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"text": event["text"]})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(f"room.{self.room}", self.channel_name)

    @database_sync_to_async
    def save_visit(self, room: str) -> int:
        self.seen.append(room)
        return len(self.seen)

    async def visits(self) -> int:
        count = await self.save_visit("lobby")
        assert_type(count, int)
        return count

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        return json.loads(text_data)

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        return json.dumps(content)


class LowLevelChat(AsyncWebsocketConsumer):
    """Overrides what is seldom overridden, with the annotations of the stubs."""

    async def websocket_connect(self, message: WebSocketConnectEvent) -> None:
        await super().websocket_connect(message)

    async def websocket_receive(self, message: WebSocketReceiveEvent) -> None:
        await super().websocket_receive(message)

    async def websocket_disconnect(self, message: WebSocketDisconnectEvent) -> None:
        await super().websocket_disconnect(message)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is not None:
            await self.send(text_data=text_data.upper())
        elif bytes_data is not None:
            await self.send(bytes_data=bytes_data, close=True)

    async def send(  # type: ignore[override]
        self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool = False
    ) -> None:
        await super().send(text_data=text_data, bytes_data=bytes_data, close=close)

    async def disconnect(self, code: int) -> None:
        await self.close(code=4000, reason="gone")

    async def dispatch(self, message: dict[str, Any]) -> None:
        await super().dispatch(message)


class ClosesWithACode(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data="bye", close=4001)


class SyncChat(WebsocketConsumer):
    groups = ["lobby"]

    def connect(self) -> None:
        self.accept()
        self.send(text_data="hello")

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data=text_data, close=True)

    def send(  # type: ignore[override]
        self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool = False
    ) -> None:
        super().send(text_data, bytes_data, close)

    def disconnect(self, code: int) -> None:
        raise StopConsumer


class SyncJsonChat(JsonWebsocketConsumer):
    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.send_json(content, close=True)

    @classmethod
    def encode_json(cls, content: Any) -> str:
        return json.dumps(content, sort_keys=True)


class Page(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        headers: Iterable[tuple[bytes, bytes]] = [(b"Content-Type", b"text/plain")]
        await self.send_headers(status=200, headers=headers)
        await self.send_body(b"first", more_body=True)
        await self.send_body(body)

    async def http_request(self, message: HTTPRequestEvent) -> None:
        await super().http_request(message)

    async def disconnect(self) -> None:
        self.body.clear()


class Thumbnails(SyncConsumer):
    def generate(self, message: dict[str, Any]) -> None:
        self.send({"type": "done", "id": message["id"]})


class Echo(AsyncConsumer):
    async def websocket_connect(self, event: dict[str, Any]) -> None:
        await self.send({"type": "websocket.accept"})


class TokenMiddleware(BaseMiddleware):
    """Annotated as the base class in the stubs is, but for what it returns."""

    async def __call__(self, scope: WebSocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> Any:
        query = parse_qs(scope["query_string"].decode())
        user = await find_user(query.get("token", [""])[0])
        return await super().__call__({**scope, "user": user}, receive, send)


class PlainMiddleware:
    """No base class, and dicts."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.inner(scope, receive, send)


@database_sync_to_async
def find_user(token: str) -> Any:
    return get_user_model().objects.filter(username=token).first() or AnonymousUser()


async def count_users(prefix: str) -> int:
    def count() -> int:
        return get_user_model().objects.filter(username__startswith=prefix).count()

    found = await database_sync_to_async(count)()
    assert_type(found, int)
    return found + await database_sync_to_async(count, thread_sensitive=True)()


async def log_in_and_out(consumer: AsyncConsumer, user: Any) -> None:
    await login(consumer.scope, user)
    await login(consumer.scope, user, backend="django.contrib.auth.backends.ModelBackend")
    user_now = await get_user(consumer.scope)
    assert user_now.is_authenticated
    await logout(consumer.scope)


routes = [
    path("chat/<str:room>/", Chat.as_asgi()),
    re_path(r"^echo/$", Echo.as_asgi(), name="echo"),
    path("nested/", URLRouter([path("low/", LowLevelChat.as_asgi())])),
]

application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                path("page/", Page.as_asgi()),
                re_path("", get_asgi_application()),  # type: ignore[arg-type]  # django-stubs expect a view
            ]
        ),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(TokenMiddleware(URLRouter(routes)))),
        "channel": ChannelNameRouter({"thumbnails": Thumbnails.as_asgi()}),
    }
)

other = OriginValidator(SessionMiddlewareStack(PlainMiddleware(SyncChat.as_asgi())), ["https://example.com"])


class ShoutingLayer(InMemoryChannelLayer):
    async def send(self, channel: str, message: dict[str, Any]) -> None:
        await super().send(channel, {**message, "loud": True})


class OwnLayer(BaseChannelLayer):
    extensions = ["groups"]

    def __init__(self, expiry: int = 60, capacity: int = 100, channel_capacity: dict[Any, int] | None = None) -> None:
        super().__init__(expiry=expiry, capacity=capacity, channel_capacity=channel_capacity)

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self.require_valid_channel_name(channel)
        raise ChannelFull

    async def receive(self, channel: str) -> dict[str, Any]:
        return {"type": channel}

    async def new_channel(self, prefix: str = "specific.") -> str:
        return f"{prefix}!one"


async def use_layers() -> None:
    layer = get_channel_layer()
    assert layer is not None
    assert_type(layer, BaseChannelLayer)
    await layer.group_send("lobby", {"type": "chat.message", "text": "from a view"})
    channel_layers.set("default", ShoutingLayer())
    memory = InMemoryChannelLayer(capacity=10, channel_capacity={"a*": 5})
    assert_type(memory.groups, dict[str, dict[str, float]])
    worker = Worker(application, ["thumbnails"], memory, max_applications=10)
    assert worker.channels == ["thumbnails"]


async def set_cookies(message: dict[str, Any]) -> None:
    CookieMiddleware.set_cookie(message, "theme", "dark", max_age=3600, secure=True)
    CookieMiddleware.delete_cookie(message, "theme")


async def clients() -> None:
    websocket = WebsocketCommunicator(application, "/chat/one/", headers=[(b"origin", b"http://localhost")])
    websocket.scope["user"] = AnonymousUser()
    connected, subprotocol = await websocket.connect(timeout=5)
    assert connected
    assert subprotocol == "chat"
    await websocket.send_json_to({"text": "hello"})
    answer: dict[str, str] = await websocket.receive_json_from()
    assert answer == {"text": "hello"}
    assert await websocket.receive_nothing()
    await websocket.disconnect()

    http = HttpCommunicator(application, "POST", "/page/", body=b" second", headers=[(b"host", b"localhost")])
    response = await http.get_response(timeout=5)
    assert response["status"] == 200

    plain = ApplicationCommunicator(Echo.as_asgi(), {"type": "websocket"})
    await plain.send_input({"type": "websocket.connect"})
    assert (await plain.receive_output(timeout=5))["type"] == "websocket.accept"
    plain.stop(exceptions=False)


consumer_class: type[AsyncConsumer] = Chat.as_asgi().consumer_class
