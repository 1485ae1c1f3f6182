"""The mixins for consumers that come back: what they get, and what no event can reach."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import fairway
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import InMemoryChannelLayer, channel_layers
from channels.testing import HttpCommunicator, WebsocketCommunicator
from fairway import AsyncGroupsMixin, GroupsMixin
from fairway.consumers.errors import NoHandler
from fairway.consumers.names import handler_of
from fairway.generic.sse import ServerSentEventsConsumer
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.recovery import Recovery
from fairway.testing import EventSourceCommunicator


class Chat(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        recovery = await self.join("chat.lobby", since=self.since("chat.lobby"))
        await self.send_json({"recovered": recovery.recovered, "position": recovery.position})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.leave("chat.lobby")
        await self.send_json("left")

    async def chat_said(self, event: dict[str, Any]) -> None:
        await self.send_json([event["text"], event["layer.position"]])


class SyncChat(GroupsMixin, JsonWebsocketConsumer):
    def connect(self) -> None:
        self.accept()
        recovery = self.join("chat.lobby", since=self.since("chat.lobby"))
        self.send_json({"recovered": recovery.recovered, "position": recovery.position})

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.leave("chat.lobby")
        self.send_json("left")

    def chat_said(self, event: dict[str, Any]) -> None:
        self.send_json([event["text"], event["layer.position"]])


@pytest.fixture
def layer() -> InMemoryChannelLayer:
    layer = InMemoryChannelLayer(history={"chat.*": {}})
    channel_layers.set("default", layer)
    return layer


@pytest.mark.parametrize("consumer", [Chat, SyncChat])
async def test_a_client_that_comes_back_gets_what_it_missed(layer: InMemoryChannelLayer, consumer: Any) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/chat/")
    await client.connect()
    first = await client.receive_json_from()
    assert not first["recovered"]
    await layer.group_send("chat.lobby", {"type": "chat.said", "text": "one"})
    assert (await client.receive_json_from())[0] == "one"
    await client.disconnect()
    for text in ("two", "three"):
        await layer.group_send("chat.lobby", {"type": "chat.said", "text": text})

    for query, texts in (
        (f"since={first['position']}", ["one", "two", "three"]),
        ("since.chat.lobby=all", ["one", "two", "three"]),
    ):
        client = WebsocketCommunicator(consumer.as_asgi(), f"/chat/?{query}")
        await client.connect()
        again = await client.receive_json_from()
        received = [await client.receive_json_from() for _ in texts]
        assert again == {"recovered": True, "position": received[-1][1]}
        assert [text for text, _ in received] == texts
        await client.send_json_to("leave")
        assert await client.receive_json_from() == "left"
        assert layer.groups == {}
        await client.disconnect()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"", "default"),
        (b"since=p-1", "p-1"),
        (b"since=p-1&since=p-2", "p-2"),
        (b"since=p-1&since.chat.lobby=p-3&since.other=p-4", "p-3"),
        (b"since=", "default"),
        (b"since=%00" + b"x" * 999, "\0" + "x" * 999),
        (b"since=" + b"x" * 1001, "default"),
        (b"since=\xff", "\u00ff"),
        (b"a=1&" * 999 + b"since=p-1", "p-1"),
        (b"a=1&" * 1000 + b"since=p-1", "default"),
    ],
)
def test_the_position_is_in_the_query(query: bytes, found: str) -> None:
    consumer = Chat()
    consumer.scope = {"query_string": query}

    assert consumer.since("chat.lobby", "default") == found


@pytest.mark.parametrize("consumer", [Chat, SyncChat])
def test_no_event_reaches_the_methods(consumer: Any) -> None:
    instance = consumer()
    for name in ("since", "join", "leave"):
        assert callable(getattr(instance, name))
        with pytest.raises(NoHandler):
            handler_of(instance, {"type": name})
    assert handler_of(instance, {"type": "chat.said"}) == instance.chat_said


def test_a_consumer_may_have_handlers_with_these_names() -> None:
    class Own(AsyncJsonWebsocketConsumer):
        async def join(self, event: dict[str, Any]) -> None: ...

    own = Own()
    assert handler_of(own, {"type": "join"}) == own.join


def test_the_methods_document_themselves() -> None:
    assert "Join a group" in (AsyncGroupsMixin.join.__doc__ or "")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        fairway.nothing  # noqa: B018


async def test_without_a_layer_of_ours_there_is_nothing_to_recover() -> None:
    class Foreign:
        def __init__(self) -> None:
            self.added: list[tuple[str, str]] = []

        async def group_add(self, group: str, channel: str) -> None:
            self.added.append((group, channel))

    consumer = Chat()
    consumer.channel_name = "me"
    with pytest.raises(InvalidChannelLayerError, match="Chat needs a channel layer to join a group"):
        await consumer.join("chat.lobby")
    consumer.channel_layer = Foreign()
    assert await consumer.join("chat.lobby") == Recovery(False, 0, "")
    assert consumer.channel_layer.added == [("chat.lobby", "me")]
    with pytest.raises(InvalidChannelLayerError, match="Foreign keeps no histories"):
        await consumer.join("chat.lobby", since="all")


class Stream(AsyncGroupsMixin, ServerSentEventsConsumer):
    async def connect(self) -> None:
        await self.join("chat.lobby", since=self.since("chat.lobby", "all"))

    async def chat_said(self, event: dict[str, Any]) -> None:
        await self.send_event(event["text"], id=event["layer.position"])

    async def chat_end(self, event: dict[str, Any]) -> None:
        await self.close()


async def test_an_event_stream_goes_on_after_the_last_event_id(layer: InMemoryChannelLayer) -> None:
    await layer.group_send("chat.lobby", {"type": "chat.said", "text": "one"})
    await layer.group_broadcast_json("chat.lobby", {"text": "two"})
    await layer.group_send("chat.lobby", {"type": "chat.end"})
    position = (await layer.history("chat.lobby")).messages[0]["layer.position"]
    epoch = position.rpartition("-")[0]
    two = f'id: {epoch}-2\ndata: {{"layer.position": "{epoch}-2", "text": "two"}}\n\n'
    for headers, expected in (
        ([], f"id: {epoch}-1\ndata: one\n\n{two}"),
        ([(b"last-event-id", position.encode())], two),
    ):
        client = HttpCommunicator(Stream.as_asgi(), "GET", "/stream/", headers=headers)
        async with asyncio.timeout(20):
            response = await client.get_response()
        assert response["body"].decode().replace(":\n\n", "") == expected


class Streams(AsyncGroupsMixin, ServerSentEventsConsumer):
    """Several groups in one stream. It says what it has recovered by a comment."""

    async def connect(self) -> None:
        for group in self.scope["groups"]:
            recovery = await self.join(group, since=self.since(group, "all"))
            await self.send_comment(f"{group} {recovery.recovered} {recovery.count}")

    async def chat_said(self, event: dict[str, Any]) -> None:
        await self.send_event(event["text"], id=event["layer.position"])

    async def chat_numbered(self, event: dict[str, Any]) -> None:
        await self.send_event("numbered", id="order-17")


async def streamed(client: EventSourceCommunicator, count: int) -> list[str]:
    return [(await client.receive_event()).data for _ in range(count)]


async def test_an_event_stream_of_several_groups_goes_on_in_each(layer: InMemoryChannelLayer) -> None:
    groups = ["chat.a", "chat.b", "chat.c"]
    client = EventSourceCommunicator(Streams.as_asgi(), "/", scope={"groups": groups})
    await client.connect()
    for number, group in enumerate((*groups, *groups, "chat.a")):
        await layer.group_send(group, {"type": "chat.said", "text": f"{number}"})
    assert await streamed(client, 4) == ["0", "1", "2", "3"]
    assert len(client.last_event_id.split(".")) == 3
    await client.lose()
    await layer.group_broadcast("chat.b", "a broadcast")
    await client.reconnect()
    assert sorted(await streamed(client, 4)) == ["4", "5", "6", "a broadcast"]
    await client.lose()
    await client.reconnect()
    await layer.group_send("chat.c", {"type": "chat.said", "text": "live"})
    assert await streamed(client, 1) == ["live"], "nothing comes twice"
    await client.lose()


async def test_a_client_that_is_lost_before_it_has_got_everything_gets_the_rest(layer: InMemoryChannelLayer) -> None:
    """What a group has missed may still be to come when the first event of another one arrives."""
    groups = ["chat.a", "chat.b"]
    for text in "12":
        for group in groups:
            await layer.group_send(group, {"type": "chat.said", "text": group + text})
    client = EventSourceCommunicator(Streams.as_asgi(), "/", scope={"groups": groups})
    await client.connect()
    assert await streamed(client, 3) == ["chat.a1", "chat.a2", "chat.b1"]
    await client.lose()
    await layer.group_send("chat.a", {"type": "chat.said", "text": "chat.a3"})
    await client.reconnect()
    assert await streamed(client, 2) == ["chat.a3", "chat.b2"]
    await client.lose()
    await layer.group_send("chat.b", {"type": "chat.said", "text": "chat.b3"})
    client.last_event_id = client.received[0].id  # it has got one event only: nothing is known of the other group
    await client.reconnect()
    assert await streamed(client, 5) == ["chat.a2", "chat.a3", "chat.b1", "chat.b2", "chat.b3"]
    await client.lose()


async def test_ids_of_the_application_stay_as_they_are(layer: InMemoryChannelLayer) -> None:
    client = EventSourceCommunicator(Streams.as_asgi(), "/", scope={"groups": ["chat.a", "chat.b"]})
    await client.connect()
    for group in ("chat.a", "chat.b"):
        await layer.group_send(group, {"type": "chat.said", "text": ""})
        await layer.group_send(group, {"type": "chat.numbered"})
    await streamed(client, 4)
    assert [event.id for event in client.received][1::2] == ["order-17", "order-17"]
    await client.lose()


class Prices(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        await self.join("chat.prices", since="all")

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.group_broadcast_json("chat.prices", content)
        await self.group_broadcast_json("prices", content)


class SyncPrices(GroupsMixin, JsonWebsocketConsumer):
    def connect(self) -> None:
        self.accept()
        self.join("chat.prices", since="all")

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.group_broadcast_json("chat.prices", content)
        self.group_broadcast_json("prices", content)


@pytest.mark.parametrize("consumer", [Prices, SyncPrices])
async def test_what_a_consumer_broadcasts_as_json_has_its_position(layer: InMemoryChannelLayer, consumer: Any) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    await client.connect()
    for content in ({"bid": 3}, {}, [4]):
        await client.send_json_to(content)
    received = [await client.receive_json_from() for _ in range(3)]
    places = [
        json.loads(event["text"])["layer.position"] for event in (await layer.history("chat.prices")).messages[:2]
    ]
    assert received == [{"layer.position": places[0], "bid": 3}, {"layer.position": places[1]}, [4]]
    await client.disconnect()
