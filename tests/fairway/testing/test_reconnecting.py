"""Clients that lose their connection and come back with their last position."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

import fairway.testing
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import InMemoryChannelLayer, channel_layers
from fairway import AsyncGroupsMixin
from fairway.generic.sse import ServerSentEventsConsumer
from fairway.testing import EventSourceCommunicator, ReconnectingCommunicator


@pytest.fixture
def layer() -> InMemoryChannelLayer:
    layer = InMemoryChannelLayer(history={"*": {"size": 5, "seconds": 60}})
    channel_layers.set("default", layer)
    return layer


class Chat(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    ended: list[int] = []

    async def connect(self) -> None:
        if self.scope.get("is_banned"):
            await self.close(4003)
            return
        await self.accept(self.scope["subprotocols"][0] if self.scope["subprotocols"] else None)
        recovery = await self.join("chat", since=self.since("chat"))
        await self.send_json({"recovered": recovery.recovered, "position": recovery.position})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.channel_layer.group_send("chat", {"type": "said", "text": content})

    async def said(self, event: dict[str, Any]) -> None:
        await self.send_json({"text": event["text"], "layer.position": event["layer.position"]})

    async def disconnect(self, code: int) -> None:
        self.ended.append(code)


def texts(client: ReconnectingCommunicator) -> list[str]:
    return [message["text"] for message in client.received if "text" in message]


async def test_a_page_comes_back_with_its_last_position(layer: InMemoryChannelLayer) -> None:
    client = ReconnectingCommunicator(Chat.as_asgi(), "/chat/?room=1", subprotocols=["v1"])
    assert await client.connect() == (True, "v1")
    assert not (await client.receive_json_from())["recovered"]
    await client.send_json_to("one")
    assert (await client.receive_json_from())["text"] == "one"
    await client.send_json_to("two")
    await asyncio.sleep(0.01)  # it is on its way when the connection is lost

    await client.lose()
    assert Chat.ended.pop() == 1006
    await layer.group_send("chat", {"type": "said", "text": "three"})
    await client.reconnect()
    assert client.connection is not None
    assert client.connection.scope["query_string"] == f"room=1&since={client.position}".encode()
    assert (await client.receive_json_from())["recovered"]
    for _ in range(2):
        await client.receive_from()
    assert texts(client) == ["one", "two", "three"]
    assert await client.receive_nothing(0.02)

    await client.disconnect(4000)
    assert Chat.ended.pop() == 4000


async def test_a_page_that_was_away_for_too_long_learns_of_it(layer: InMemoryChannelLayer) -> None:
    position = (await layer.history("chat")).top
    client = ReconnectingCommunicator(Chat.as_asgi(), "/", position)
    await client.connect()
    assert (await client.receive_json_from())["recovered"]
    await client.lose()
    for number in range(9):
        await layer.group_send("chat", {"type": "said", "text": f"{number}"})
    await client.reconnect()
    assert not (await client.receive_json_from())["recovered"]
    await client.disconnect()


async def test_it_says_what_it_cannot_do(layer: InMemoryChannelLayer) -> None:
    client = ReconnectingCommunicator(Chat.as_asgi(), "/", scope={"is_banned": True})
    with pytest.raises(AssertionError, match=r"It is not connected: connect\(\) or reconnect\(\) first"):
        await client.receive_from()
    assert await client.connect() == (False, 4003)
    with pytest.raises(AssertionError, match="The application has rejected the connection: 4003"):
        await client.reconnect()
    client = ReconnectingCommunicator(Chat.as_asgi(), "/")
    await client.connect()
    with pytest.raises(AssertionError, match="It is connected: lose"):
        await client.connect()
    await client.disconnect()


class Steps(AsyncGroupsMixin, ServerSentEventsConsumer):
    async def connect(self) -> None:
        if self.scope.get("is_over"):
            await self.reject(204)
            return
        for group in ("job", "news"):
            await self.join(group, since=self.since(group, "all"))

    async def step(self, event: dict[str, Any]) -> None:
        await self.send_event(event["text"], event="step", id=event["layer.position"])

    async def end(self, event: dict[str, Any]) -> None:
        await self.close()


async def test_a_stream_comes_back_with_its_last_id(layer: InMemoryChannelLayer) -> None:
    client = EventSourceCommunicator(Steps.as_asgi(), "/")
    assert await client.connect() == 200
    for text in ("one\ntwo", "three"):
        await layer.group_send("job", {"type": "step", "text": text})
    await layer.group_broadcast_json("news", {"text": "hot"})
    assert [await client.receive_event() for _ in range(2)] == client.received
    assert [(event.data, event.event) for event in client.received] == [("one\ntwo", "step"), ("three", "step")]

    await client.lose()  # the news have not been received
    await layer.group_send("job", {"type": "step", "text": "four"})
    await client.reconnect()
    came = [await client.receive_event() for _ in range(2)]
    assert sorted((event.event, event.data[-7:]) for event in came) == [("message", ' "hot"}'), ("step", "four")]
    await layer.group_broadcast_json("news", {"text": "cold"})
    assert (await client.receive_json_event())["text"] == "cold"

    await layer.group_send("job", {"type": "end"}, keep=False)
    with pytest.raises(EOFError, match="the application has ended the stream"):
        await client.receive_event()


async def test_a_stream_that_is_not_opened_says_why(layer: InMemoryChannelLayer) -> None:
    client = EventSourceCommunicator(Steps.as_asgi(), "/", scope={"is_over": True})
    assert await client.connect() == 204
    with pytest.raises(AssertionError, match="The application has answered 204"):
        await client.reconnect()


def test_a_serving_process_does_not_load_the_clients() -> None:
    code = "import fairway.testing, sys; print('channels.testing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n"
    with pytest.raises(AttributeError, match=r"module 'fairway\.testing' has no attribute 'nothing'"):
        fairway.testing.nothing  # noqa: B018
