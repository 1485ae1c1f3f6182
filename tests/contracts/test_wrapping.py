"""Code that stands between server and consumer, or in the consumer's own methods, sees everything that passes."""

from __future__ import annotations

import asyncio
import contextlib
import warnings

import pytest

from channels.consumer import AsyncConsumer, get_channel_layer
from channels.layers import InMemoryChannelLayer
from channels.utils import await_many_dispatch
from tests.contracts.carriers import Carrier
from tests.contracts.journal import Journal
from tests.contracts.twins import Steps, Twin


class Room:
    groups = ["room"]

    def receive(self, text_data=None, bytes_data=None) -> Steps:
        yield self.send(f"echo {text_data}")

    def chat_message(self, event) -> Steps:
        yield self.send(event["text"])


async def converse(carrier: Carrier, layer, application) -> None:
    """One message of each kind, and the end."""
    await carrier.serve(application)
    client = await carrier.connect()
    await client.send_text("x")
    assert await client.receive() == "echo x"
    await layer.group_send("room", {"type": "chat.message", "text": "sent"})
    assert await client.receive() == "sent"
    await layer.group_broadcast("room", "broadcast")
    assert await client.receive() == "broadcast"
    await client.close()
    await carrier.finished()
    assert carrier.errors == []


SENT = ["websocket.accept", "echo x", "sent", "broadcast"]


async def test_a_middleware_that_wraps_send_and_receive_sees_all(carrier: Carrier, twin: Twin, layer, journal: Journal):
    inner = twin(Room).as_asgi()
    received: list[str] = []

    async def middleware(scope, receive, send):
        async def watched_receive():
            message = await receive()
            received.append(message["type"])
            return message

        async def watched_send(message):
            journal.note(message.get("text", message["type"]))
            await send(message)

        await inner(scope, watched_receive, watched_send)

    await converse(carrier, layer, middleware)
    assert journal == SENT
    assert received == ["websocket.connect", "websocket.receive", "websocket.disconnect"]


async def test_a_middleware_may_change_messages(carrier: Carrier, twin: Twin, layer):
    inner = twin(Room).as_asgi()

    async def middleware(scope, receive, send):
        async def louder(message):
            await send({**message, "text": message["text"].upper()} if "text" in message else message)

        await inner(scope, receive, louder)

    await carrier.serve(middleware)
    client = await carrier.connect()
    await layer.group_broadcast("room", "quiet")
    assert await client.receive() == "QUIET"


async def test_receive_and_send_may_be_plain_functions_that_return_futures(carrier: Carrier, twin: Twin, layer):
    inner = twin(Room).as_asgi()

    async def plain(scope, receive, send):
        await inner(
            scope, lambda: asyncio.ensure_future(receive()), lambda message: asyncio.ensure_future(send(message))
        )

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await converse(carrier, layer, plain)


async def test_an_overridden_dispatch_sees_all_messages_in(carrier: Carrier, twin: Twin, layer, journal: Journal):
    plain = twin(Room)

    class Watching(plain):
        if twin.is_sync:

            def dispatch(self, message):
                raise AssertionError("the asynchronous dispatch below stands for both")

        async def dispatch(self, message):
            journal.note(message["type"])
            await super().dispatch(message)

    await converse(carrier, layer, Watching.as_asgi())
    assert journal[:3] == ["websocket.connect", "websocket.receive", "chat.message"]
    assert journal[-1] == "websocket.disconnect"


async def test_an_overridden_send_sees_all_messages_out(carrier: Carrier, twin: Twin, layer, journal: Journal):
    plain = twin(Room)

    class Watching(plain):
        if twin.is_sync:

            def send(self, text_data=None, bytes_data=None, close=False):
                journal.note(text_data)
                super().send(text_data, bytes_data, close)
        else:

            async def send(self, text_data=None, bytes_data=None, close=False):
                journal.note(text_data)
                await super().send(text_data, bytes_data, close)

    await converse(carrier, layer, Watching.as_asgi())
    assert journal == SENT[1:]


async def test_a_reassigned_base_send_sees_all_messages_out(carrier: Carrier, twin: Twin, layer, journal: Journal):
    class Reassigning:
        groups = ["room"]
        receive = Room.receive
        chat_message = Room.chat_message

        def connect(self) -> Steps:
            original = self.base_send

            def watched(message):
                journal.note(message.get("text", message["type"]))
                return original(message)

            self.base_send = watched
            yield self.accept()

    await converse(carrier, layer, twin(Reassigning).as_asgi())
    assert journal == SENT


async def test_a_base_send_that_is_reassigned_later_sees_the_next_broadcast(
    carrier: Carrier, twin: Twin, layer, journal: Journal
):
    class Reassigning:
        groups = ["room"]

        def receive(self, text_data=None, bytes_data=None) -> Steps:
            original = self.base_send
            # Its groups are still in the layer that it began with.
            self.channel_layer = InMemoryChannelLayer()

            def watched(message):
                journal.note(message["text"])
                return original(message)

            self.base_send = watched
            yield self.send("watched")

    await carrier.serve(twin(Reassigning).as_asgi())
    client = await carrier.connect()
    await layer.group_broadcast("room", "before")
    assert await client.receive() == "before"
    await client.send_text("watch")
    assert await client.receive() == "watched"
    await layer.group_broadcast("room", "after")
    assert await client.receive() == "after"
    assert journal == ["watched", "after"]


async def test_an_overridden_call_is_called(carrier: Carrier, twin: Twin, layer, journal: Journal):
    plain = twin(Room)

    class Calling(plain):
        async def __call__(self, scope, receive, send):
            async def watched(message):
                journal.note(message.get("text", message["type"]))
                await send(message)

            await super().__call__(scope, receive, watched)

    await converse(carrier, layer, Calling.as_asgi())
    assert journal == SENT


async def test_a_method_replaced_on_the_class_is_called(
    carrier: Carrier, layer, journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    consumer = Twin(is_sync=False)(Room)
    original = consumer.send

    async def watched(self, text_data=None, bytes_data=None, close=False):
        journal.note(text_data)
        await original(self, text_data, bytes_data, close)

    monkeypatch.setattr(consumer, "send", watched)
    await converse(carrier, layer, consumer.as_asgi())
    assert journal == SENT[1:]


async def test_a_dispatch_replaced_on_the_base_class_is_called(
    carrier: Carrier, layer, journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    original = AsyncConsumer.dispatch

    async def watched(self, message):
        journal.note(message["type"])
        await original(self, message)

    monkeypatch.setattr(AsyncConsumer, "dispatch", watched)
    await converse(carrier, layer, Twin(is_sync=False)(Room).as_asgi())
    assert journal[:3] == ["websocket.connect", "websocket.receive", "chat.message"]


async def test_a_consumer_with_the_plain_loop_of_channels(carrier: Carrier, twin: Twin, layer):
    class OwnLoop(AsyncConsumer):
        async def __call__(self, scope, receive, send):
            self.scope = scope
            self.channel_layer = get_channel_layer(self.channel_layer_alias)
            self.channel_name = await self.channel_layer.new_channel()
            self.base_send = send
            with contextlib.suppress(Finished):
                await await_many_dispatch([receive, self.channel_receive], self.dispatch)

        async def websocket_connect(self, message):
            await self.channel_layer.group_add("room", self.channel_name)
            await self.send({"type": "websocket.accept"})

        async def websocket_receive(self, message):
            await self.send({"type": "websocket.send", "text": f"echo {message['text']}"})

        async def chat_message(self, event):
            await self.send({"type": "websocket.send", "text": event["text"]})

        async def fairway_broadcast(self, event):
            await self.chat_message(event)

        async def websocket_disconnect(self, message):
            raise Finished

    await converse(carrier, layer, OwnLoop.as_asgi())


class Finished(Exception):
    """Ends a loop of one's own."""
