"""What code written for Channels does with consumers, scopes and layers, and must find unchanged."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import Any

import pytest

from channels.auth import AuthMiddlewareStack
from channels.consumer import StopConsumer, await_many_dispatch
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer, channel_layers
from channels.middleware import BaseMiddleware
from tests.contracts.carriers import Carrier
from tests.contracts.journal import Journal
from tests.contracts.twins import Steps, Twin


class Named:
    """Calls its own things by names that a framework might have taken, and joins a group."""

    groups = ["names"]
    NAMES = (
        *(
            "inbox",
            "outbox",
            "member",
            "connection",
            "loop",
            "hub",
            "crew",
            "queue",
            "pump",
            "pumps",
            "payload",
            "batch",
        ),
        *("driver", "context", "tasks", "task", "lock", "closed", "is_open", "name", "transport", "stream", "state"),
    )

    def connect(self) -> Steps:
        for name in self.NAMES:
            setattr(self, name, f"my {name}")
        yield self.accept()

    def broadcast(self, event) -> Steps:
        yield self.send(f"broadcast {event['text']}")

    def deliver(self, event) -> Steps:
        yield self.send(f"deliver {event['text']}")

    def receive(self, text_data=None, bytes_data=None) -> Steps:
        untouched = all(getattr(self, name) == f"my {name}" for name in self.NAMES)
        yield self.send(f"{text_data} {untouched}")


async def test_common_names_belong_to_the_user(carrier: Carrier, twin: Twin, layer):
    await carrier.serve(twin(Named).as_asgi())
    client = await carrier.connect()
    await client.send_text("mine?")
    assert await client.receive() == "mine? True"
    for kind in ("broadcast", "deliver"):
        await layer.group_send("names", {"type": kind, "text": "x"})
        assert await client.receive() == f"{kind} x"
    await layer.group_broadcast("names", text_data="straight")
    assert await client.receive() == "straight"
    await client.send_text("still?")
    assert await client.receive() == "still? True"


@pytest.mark.slow
async def test_an_instance_serves_one_connection_after_the_other(carrier: Carrier, twin: Twin, journal: Journal, layer):
    class Counting:
        groups = ["all"]
        count = 0

        def connect(self) -> Steps:
            self.count += 1
            yield self.accept()

        def tell(self, event) -> Steps:
            yield self.send(f"{event['text']} {self.count} {self.scope['path']}")

        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield

    await carrier.serve(twin(Counting)())
    for number, path in enumerate(("/one", "/two", "/three"), 1):
        client = await carrier.connect(path)
        await layer.group_send("all", {"type": "tell", "text": "hello"})
        assert await client.receive() == f"hello {number} {path}"
        await layer.group_broadcast("all", text_data="straight")
        assert await client.receive() == "straight"
        await client.close(4000 + number)
        await carrier.finished(number)
    assert (journal, carrier.errors, layer.groups) == ([4001, 4002, 4003], [], {})


async def test_a_reassigned_channel_receive_is_asked(carrier: Carrier, layer):
    class Watching(AsyncWebsocketConsumer):
        async def __call__(self, scope, receive, send):
            self.scope, self.channel_layer = scope, layer
            self.channel_name = await layer.new_channel()
            await layer.group_add("all", self.channel_name)
            fetch, self.base_send = self.channel_receive, send

            async def watched():
                event = await fetch()
                return event | {"text": event["text"].upper()}

            self.channel_receive = watched
            await plain_loop(self, receive)

        async def tell(self, event):
            await self.send(event["text"])

    await carrier.serve(Watching.as_asgi())
    client = await carrier.connect()
    await layer.group_send("all", {"type": "tell", "text": "hello"})
    assert await client.receive() == "HELLO"


async def plain_loop(consumer: AsyncWebsocketConsumer, receive: Any) -> None:
    with contextlib.suppress(StopConsumer):
        await await_many_dispatch([receive, consumer.channel_receive], consumer.dispatch)


async def test_a_layer_put_in_place_by_the_constructor_is_not_the_one_that_is_used(carrier: Carrier, layer):
    class Own(AsyncWebsocketConsumer):
        groups = ["all"]

        async def connect(self):
            await self.accept()
            await self.send(str(self.channel_layer is layer))

    consumer = Own()
    consumer.channel_layer = InMemoryChannelLayer()
    await carrier.serve(consumer)
    client = await carrier.connect()
    assert await client.receive() == "True"


async def test_a_layer_reassigned_while_connecting_is_sent_to(carrier: Carrier, layer):
    other = InMemoryChannelLayer()

    class Moving(AsyncWebsocketConsumer):
        async def connect(self):
            self.channel_layer = other
            await self.accept()

        async def receive(self, text_data=None, bytes_data=None):
            await self.channel_layer.send("elsewhere", {"type": "note", "text": text_data})

    await carrier.serve(Moving.as_asgi())
    client = await carrier.connect()
    await client.send_text("hello")
    assert await other.receive("elsewhere") == {"type": "note", "text": "hello"}


class Afterwards(BaseMiddleware):
    """Has work to do when the connection has ended."""

    journal: Journal

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        except LookupError:
            self.journal.note("except")
            raise
        else:
            self.journal.note("else")
        finally:
            self.journal.note("finally")


@pytest.mark.parametrize("words", ["fine", "raise"])
async def test_code_after_the_inner_application_runs_when_the_connection_has_ended(
    carrier: Carrier, twin: Twin, journal: Journal, words: str
):
    class Noting:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            if text_data == "raise":
                raise LookupError("on purpose")
            yield self.send(text_data)

        def disconnect(self, code) -> Steps:
            journal.note("disconnect")
            yield

    middleware = type("Afterwards", (Afterwards,), {"journal": journal})
    await carrier.serve(AuthMiddlewareStack(middleware(twin(Noting).as_asgi())))
    client = await carrier.connect()
    await client.send_text(words)
    if words == "fine":
        assert (await client.receive(), journal) == ("fine", [])
        await client.close()
    await carrier.finished()
    assert journal == ["disconnect", "else" if words == "fine" else "except", "finally"]


async def test_a_scope_can_be_copied_and_pickled(carrier: Carrier):
    seen: list[Any] = []

    async def application(scope, receive, send):
        seen.append((scope, copy.deepcopy(scope), pickle.loads(pickle.dumps(scope))))
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return
        await receive()
        await send({"type": "websocket.accept"})

    await carrier.serve(application)
    await carrier.request("GET", "/here?x=1")
    await carrier.connect("/there?y=2")
    await carrier.finished(2)
    assert [scope["type"] for scope, *_ in seen] == ["http", "websocket"]
    for scope, deep, pickled in seen:
        assert deep == pickled == scope
        assert deep is not scope
        assert type(scope) is type(deep) is dict
    assert carrier.errors == []


async def test_a_scope_behind_the_stack_can_be_copied(carrier: Carrier):
    class Copying(AsyncWebsocketConsumer):
        async def connect(self):
            scope = copy.deepcopy({key: value for key, value in self.scope.items() if key != "session"})
            await self.accept()
            await self.send(f"{scope['user']} {scope['path']} {scope['cookies']}")

    await carrier.serve(AuthMiddlewareStack(Copying.as_asgi()))
    client = await carrier.connect("/room")
    assert await client.receive() == "AnonymousUser /room {}"


class Logging(InMemoryChannelLayer):
    """A subclass of the in-memory layer that looks at what passes."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.passed: list[str] = []

    async def group_send(self, group, message):
        self.passed.append(f"group {message['type']}")
        await super().group_send(group, message)

    async def send(self, channel, message):
        self.passed.append(f"send {message['type']}")
        await super().send(channel, message)

    async def receive(self, channel):
        message = await super().receive(channel)
        self.passed.append(f"receive {message['type']}")
        return message


async def test_a_subclass_of_the_memory_layer_sees_what_passes(carrier: Carrier, twin: Twin):
    layer = Logging()
    channel_layers.set("default", layer)

    class Telling:
        groups = ["all"]

        def tell(self, event) -> Steps:
            yield self.send(event["text"])

    await carrier.serve(twin(Telling).as_asgi())
    client = await carrier.connect()
    await layer.group_send("all", {"type": "tell", "text": "one"})
    assert await client.receive() == "one"
    (channel,) = layer.groups["all"]
    await layer.send(channel, {"type": "tell", "text": "two"})
    assert await client.receive() == "two"
    assert layer.passed == ["group tell", "receive tell", "send tell", "receive tell"]


async def test_the_channel_of_a_consumer_is_a_queue_that_can_be_poked(carrier: Carrier, twin: Twin, layer):
    class Telling:
        groups = ["all"]

        def tell(self, event) -> Steps:
            yield self.send(event["text"])

    await carrier.serve(twin(Telling).as_asgi())
    client = await carrier.connect()
    (channel,) = layer.groups["all"]
    assert channel in layer.channels
    layer.channels[channel].put_nowait((9e9, {"type": "tell", "text": "poked"}))
    assert await client.receive() == "poked"
