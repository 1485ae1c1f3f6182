"""Nothing is left of a connection that has ended: objects, tasks, descriptors, entries, with the collector off."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import h2.settings
import pytest
from django.urls import path

from channels.auth import AuthMiddlewareStack
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from fairway.asgi.http import HttpExchange
from fairway.delivery import Inbox
from fairway.server.http1 import connection as http_module
from fairway.server.http2 import connection as http2_module
from fairway.server.http2 import stream as stream_module
from fairway.server.http2.connection import Http2Connection
from fairway.server.http2.stream import RequestStream, StreamExchange
from fairway.server.websocket import connection as websocket_module
from fairway.server.websocket import metered as metered_module
from fairway.server.wire import Wire
from tests.integration.conftest import Start
from tests.integration.http2 import Http2Client
from tests.integration.layers import default_layer
from tests.integration.raw import CLOSE, HANDSHAKE, TEXT, Client, frame, next_pass

COUNT = 30
CLOSE_FRAME = frame(CLOSE, (1000).to_bytes(2, "big"))


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/raises":
        raise ArithmeticError("on purpose")
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})
        return
    await receive()
    if scope["path"] == "/rejects":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if event["text"] == "raise":
            raise ArithmeticError("on purpose")
        if event["text"] == "flood":
            while True:
                await send({"type": "websocket.send", "bytes": bytes(50_000)})
        await send({"type": "websocket.send", "text": event["text"]})


async def normal_close(client: Client) -> None:
    await client.open()
    await client.send(frame(TEXT, b"hello"))
    await client.frame()
    await client.send(CLOSE_FRAME)
    assert (await client.close_frame())[0] == 1000
    assert await client.at_end()


async def client_vanishes(client: Client) -> None:
    await client.open()
    client.reset()


async def application_raises(client: Client) -> None:
    await client.open()
    await client.send(frame(TEXT, b"raise"))
    assert (await client.close_frame())[0] == 1011
    await client.send(CLOSE_FRAME)
    assert await client.at_end()


async def application_raises_before_accept(client: Client) -> None:
    await client.send(HANDSHAKE.replace(b"/chat", b"/raises"))
    assert (await client.response()).status == 500


async def application_rejects(client: Client) -> None:
    await client.send(HANDSHAKE.replace(b"/chat", b"/rejects"))
    assert (await client.response()).status == 403


async def protocol_error(client: Client) -> None:
    await client.open()
    await client.send(frame(TEXT, b"hello", masked=False))
    assert (await client.close_frame())[0] == 1002
    await client.close()


async def lost_in_the_middle_of_a_send(client: Client) -> None:
    await client.open()
    await client.send(frame(TEXT, b"flood"))
    await client.frame()
    client.reset()


async def http_keep_alive(client: Client) -> None:
    for _ in range(2):
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.response()).status == 200
    await client.close()


async def http_application_raises(client: Client) -> None:
    await client.send(b"GET /raises HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response()).status == 500
    await client.close()


async def http_body_cut_off(client: Client) -> None:
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    client.reset()


async def bad_request(client: Client) -> None:
    await client.send(b"nonsense\r\n\r\n")
    assert (await client.response()).status == 400
    await client.close()


async def http2_requests(client: Client) -> None:
    http2 = Http2Client(client)
    await http2.begin()
    for _ in range(2):
        assert (await http2.request(b"POST", body=b"body")).body == b"fine"


async def http2_application_raises(client: Client) -> None:
    http2 = Http2Client(client)
    await http2.begin()
    assert (await http2.request(path=b"/raises")).status == 500


async def http2_resets(client: Client) -> None:
    http2 = Http2Client(client)
    await http2.begin()
    for _ in range(3):
        await http2.reset(await http2.ask(b"POST", ended=False))
    await http2.ask(b"POST", ended=False)
    http2.vanish()


async def http2_lost_while_a_window_is_closed(client: Client) -> None:
    http2 = Http2Client(client, takes=False)
    await http2.begin({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2})
    number = await http2.ask()
    await http2.until(lambda: http2.answers[number].body)
    http2.vanish()


async def http2_fault(client: Client) -> None:
    http2 = Http2Client(client)
    await http2.begin()
    await http2.ask(b"POST", ended=False)
    await http2.send(bytes(3) + b"\x04\0" + bytes(3) + b"\1")  # SETTINGS on a stream
    assert len(await http2.end(answers=False)) == 1  # what is sent behind a fault is read slowly


VISITS: list[Callable[[Client], Awaitable[None]]] = [
    normal_close,
    client_vanishes,
    application_raises,
    application_raises_before_accept,
    application_rejects,
    protocol_error,
    lost_in_the_middle_of_a_send,
    http_keep_alive,
    http_application_raises,
    http_body_cut_off,
    bad_request,
    http2_requests,
    http2_application_raises,
    http2_resets,
    http2_lost_while_a_window_is_closed,
    http2_fault,
]


class Watched:
    """Weak references to every object of the watched classes that was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        for module, name, base in (
            (metered_module, "WebSocketConnection", websocket_module.WebSocketConnection),
            (http_module, "HttpExchange", HttpExchange),
            (http_module, "Wire", Wire),
            (http_module, "Http2Connection", Http2Connection),
            (http2_module, "RequestStream", RequestStream),
            (stream_module, "StreamExchange", StreamExchange),
            (websocket_module, "Inbox", Inbox),
        ):
            monkeypatch.setattr(module, name, self._referable(base))

    def _referable(self, base: Any) -> type:
        alive = self.alive

        # The classes have slots and no room for weak references: a subclass adds it, for the test only.
        class Referable(base):  # type: ignore[misc]
            __slots__ = ("__weakref__",)

            def __init__(self, *arguments: Any, **keywords: Any) -> None:
                super().__init__(*arguments, **keywords)
                alive.add(self)

        return Referable


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("visit", VISITS, ids=lambda visit: visit.__name__)
@pytest.mark.usefixtures("collector_off")
async def test_nothing_is_left(
    start: Start, visit: Callable[[Client], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A captured log record keeps its traceback, and that keeps everything.
    monkeypatch.setattr(logging.getLogger("fairway.server"), "propagate", False)
    watched = Watched(monkeypatch)
    served = await start(application)
    warm_up = await served.connect()
    await visit(warm_up)
    await warm_up.close()
    await served.idle()
    descriptors, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())

    for _ in range(COUNT):
        client = await served.connect()
        await visit(client)
        await client.close()
    del client
    await served.idle()
    await settle(lambda: not watched.alive)

    assert list(watched.alive) == []
    assert len(served.context.wheel) == 0
    assert not served.context.connections
    assert not served.context.tasks
    assert len(asyncio.all_tasks()) == tasks
    await settle(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def settle(condition: Callable[[], bool]) -> None:
    """Let the loop finish what is under way: closing a transport takes it some passes."""
    deadline = asyncio.get_running_loop().time() + 1.0
    while not condition() and asyncio.get_running_loop().time() < deadline:
        await next_pass()


@pytest.mark.parametrize(
    "request_bytes", [HANDSHAKE, b"GET /chat HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["websocket", "http"]
)
@pytest.mark.parametrize("has_status", [True, False])
@pytest.mark.usefixtures("collector_off")
async def test_nothing_is_left_of_an_error_raised_when_the_application_is_called(
    start: Start, request_bytes: bytes, has_status: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("fairway.server"), "propagate", False)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Mistake(Exception):
        def __init__(self) -> None:
            alive.add(self)
            if has_status:
                self.asgi_status = 404

    def application(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        raise NotImplementedError if scope["type"] == "lifespan" else Mistake

    served = await start(application)
    client = await served.connect()
    await client.send(request_bytes)
    assert (await client.response()).status == (404 if has_status else 500)
    await client.close()
    await served.idle()
    await settle(lambda: not alive)
    assert list(alive) == []


class Member(AsyncWebsocketConsumer):
    groups = ("leaks",)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(self) -> None:
        self.alive.add(self)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "raise":
            raise ArithmeticError("on purpose")
        await self.channel_layer.group_send("leaks", {"type": "tell", "text": text_data})

    async def tell(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


class SyncMember(WebsocketConsumer):
    def connect(self) -> None:
        Member.alive.add(self)
        self.accept()

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "raise":
            raise ArithmeticError("on purpose")
        self.send(text_data=text_data)


class MemberAmongMany(Member):
    max_concurrency = 3


class SpreadMember(SyncMember):
    max_concurrency = 3
    thread_sensitive = False


@pytest.mark.parametrize("visit", [normal_close, client_vanishes, application_raises], ids=lambda visit: visit.__name__)
@pytest.mark.parametrize("consumer", [Member, SyncMember, MemberAmongMany, SpreadMember])
@pytest.mark.usefixtures("collector_off")
async def test_nothing_is_left_of_a_consumer(
    start: Start, consumer: Any, visit: Callable[[Client], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("fairway.server"), "propagate", False)
    Member.alive.clear()
    watched = Watched(monkeypatch)
    routes = URLRouter([path("chat", consumer.as_asgi())])
    with default_layer() as layer:
        served = await start(ProtocolTypeRouter({"websocket": AuthMiddlewareStack(routes)}))
        for _ in range(COUNT):
            client = await served.connect()
            await visit(client)
            await client.close()
        await served.idle()
        await settle(lambda: not watched.alive and not Member.alive)

    assert list(watched.alive) == list(Member.alive) == []
    assert layer.groups == layer.channels == {}


class Answering(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        Member.alive.add(self)
        if self.scope["path"] == "/raises":
            raise ArithmeticError("on purpose")
        await self.send_response(200, b"fine")


@pytest.mark.parametrize("visit", [http_keep_alive, http_application_raises], ids=lambda visit: visit.__name__)
@pytest.mark.usefixtures("collector_off")
async def test_nothing_is_left_of_an_http_consumer(
    start: Start, visit: Callable[[Client], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("fairway.server"), "propagate", False)
    Member.alive.clear()
    watched = Watched(monkeypatch)
    served = await start(ProtocolTypeRouter({"http": Answering.as_asgi()}))
    for _ in range(COUNT):
        client = await served.connect()
        await visit(client)
        await client.close()
    await served.idle()
    await settle(lambda: not watched.alive and not Member.alive)
    assert list(watched.alive) == list(Member.alive) == []
