"""The mixin for presence: who is tracked, who hears what, and that no event calls its methods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, channel_layers
from channels.testing import WebsocketCommunicator
from fairway.consumers.tracking import AsyncTracking, Tracking
from fairway.layers import audiences, presence
from fairway.layers.errors import InvalidChannelLayerError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (audiences, presence):
        monkeypatch.setattr(module, "GATHER", 0.001)


@pytest.fixture
async def layer() -> AsyncIterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer(linger=0.01)
    previous = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", previous)


class Chat(AsyncTracking, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        await self.track("room", {"name": self.scope["name"]})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if content == "untrack":
            await self.untrack("room")
        else:
            await self.channel_layer.send(self.channel_name, content)

    async def presence_state(self, event: dict[str, Any]) -> None:
        await self.send_json(event)

    async def presence_diff(self, event: dict[str, Any]) -> None:
        await self.send_json(event)


class SyncChat(Tracking, JsonWebsocketConsumer):
    def connect(self) -> None:
        self.accept()
        self.track("room", {"name": self.scope["name"]})

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.untrack("room")

    def presence_state(self, event: dict[str, Any]) -> None:
        self.send_json(event)

    def presence_diff(self, event: dict[str, Any]) -> None:
        self.send_json(event)


class Deaf(AsyncTracking, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.track("room", key="deaf")
        await self.accept()


def page(consumer: Any, name: str, user: Any = None) -> WebsocketCommunicator:
    scope = {"name": name, "user": SimpleNamespace(pk=user)}

    async def with_scope(inner: Any, receive: Any, send: Any) -> None:
        await consumer.as_asgi()({**inner, **scope}, receive, send)

    return WebsocketCommunicator(with_scope, "/")


async def entered(consumer: Any, name: str, user: Any = None) -> WebsocketCommunicator:
    communicator = page(consumer, name, user)
    connected, _ = await communicator.connect()
    assert connected
    return communicator


@pytest.mark.parametrize("consumer", [Chat, SyncChat])
async def test_people_come_and_go(layer: InMemoryChannelLayer, consumer: Any) -> None:
    mira = await entered(consumer, "Mira", user=1)
    state = await mira.receive_json_from()
    assert list(state["members"].values()) == [[{"name": "Mira"}]]
    assert list(state["members"]) == [state["me"]] != ["1"], "the pk is not shown"
    assert await layer.presence.members("room") == {"1": [{"name": "Mira"}]}

    tom = await entered(consumer, "Tom", user=2)
    await tom.receive_json_from()
    joined = await mira.receive_json_from()
    assert list(joined["joined"].values()) == [[{"name": "Tom"}]]
    await tom.disconnect()
    left = await mira.receive_json_from()
    assert left["left"] == joined["joined"]
    await mira.disconnect()


async def test_one_can_leave_and_stay_connected(layer: InMemoryChannelLayer) -> None:
    mira, tom = await entered(Chat, "Mira"), await entered(Chat, "Tom")
    await mira.receive_json_from()
    await mira.receive_json_from()
    await tom.send_json_to("untrack")
    event = await mira.receive_json_from()
    assert list(event["left"].values()) == [[{"name": "Tom"}]]
    await mira.disconnect()
    await tom.disconnect()


async def test_a_consumer_without_handlers_gets_no_events(layer: InMemoryChannelLayer) -> None:
    deaf = await entered(Deaf, "Deaf")
    await layer.presence.track("room", "other", key="other")
    assert await deaf.receive_nothing(0.01)
    assert set(await layer.presence.members("room")) == {"deaf", "other"}
    await deaf.disconnect()


@pytest.mark.parametrize("name", ["track", "untrack"])
async def test_no_event_reaches_the_methods_of_the_mixin(layer: InMemoryChannelLayer, name: str) -> None:
    mira = await entered(Chat, "Mira")
    await mira.receive_json_from()
    await mira.send_json_to({"type": name})
    with pytest.raises(ValueError, match=f"No handler for message type {name}"):
        await mira.wait()


async def test_others_may_have_handlers_of_these_names(layer: InMemoryChannelLayer) -> None:
    handled = asyncio.Event()

    class Parcel(AsyncConsumer):
        async def track(self, event: dict[str, Any]) -> None:
            handled.set()

    await Parcel().dispatch({"type": "track"})
    assert handled.is_set()


async def test_a_consumer_that_has_ended_is_not_tracked(layer: InMemoryChannelLayer) -> None:
    consumers: list[Chat] = []

    class Late(Chat):
        async def disconnect(self, code: int) -> None:
            consumers.append(self)

    mira = await entered(Late, "Mira")
    await mira.receive_json_from()
    await mira.disconnect()
    await consumers[0].track("hall")

    assert await layer.presence.members("hall") == {}


async def test_other_layers_have_no_presence() -> None:
    class Other(BaseChannelLayer):
        pass

    for consumer in (AsyncConsumer(), SyncConsumer()):
        for other, said in ((None, "no channel layer"), (Other(), "the channel layer Other, which has none")):
            consumer.channel_layer = other
            with pytest.raises(InvalidChannelLayerError, match=f"this consumer has {said}"):
                await AsyncTracking.track(consumer, "room")  # type: ignore[arg-type]
