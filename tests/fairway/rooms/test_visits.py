"""Consumers that enter rooms."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, channel_layers
from channels.testing import WebsocketCommunicator
from fairway.layers.errors import InvalidChannelLayerError
from fairway.rooms import AsyncRoomsMixin, Room, RoomsMixin, TooManyRooms
from fairway.rooms.counters import counters

DEADLINE = 20.0


@pytest.fixture(autouse=True)
async def layer() -> AsyncIterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer(linger=0.01)
    previous = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", previous)


class Echo(Room):
    """Says what it hears, with the number of its ticks."""

    step = 0.01

    async def begin(self, saved: Any) -> None:
        self.ticks = 0

    async def tick(self, seconds: float) -> None:
        if self.ticks < 0:
            raise ZeroDivisionError("less than nothing")
        self.ticks += 1

    async def receive(self, message: Any) -> None:
        if message == "fail":
            self.ticks = -1
        elif message == "event":
            await self.send({"type": "room.said", "text": "an event"})
        else:
            await self.broadcast_json({"said": message, "ticks": self.ticks})


class Player(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        self.room = await self.enter(Echo, "echo")
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if content == "leave":
            await self.room.leave()
            await self.send_json("left")
        elif content == "enter":
            await self.send({"type": "enter"})  # no event may enter a room
        else:
            await self.room.send(content)

    async def room_said(self, event: Any) -> None:
        await self.send_json(event["text"])

    async def room_failed(self, event: Any) -> None:
        await self.send_json({"failed": event["again_in"]})


class SyncPlayer(RoomsMixin, JsonWebsocketConsumer):
    def connect(self) -> None:
        self.room = self.enter(Echo, "echo")
        self.accept()

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.room.send(content)
        if content == "leave":
            self.room.leave()


async def entered(consumer: type[Any] = Player) -> WebsocketCommunicator:
    page = WebsocketCommunicator(consumer.as_asgi(), "/")
    assert (await page.connect())[0]
    return page


async def room_has_ended() -> None:
    async with asyncio.timeout(DEADLINE):
        while counters.running:  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_two_consumers_are_in_one_room_until_both_have_left() -> None:
    mira, tom = await entered(), await entered()
    await mira.send_json_to("hello")
    heard = [await page.receive_json_from() for page in (mira, tom)]
    assert heard[0] == heard[1]
    assert heard[0]["said"] == "hello"
    await mira.disconnect()
    assert counters.running == 1
    await tom.send_json_to("event")
    assert await tom.receive_json_from() == "an event"
    await tom.disconnect()
    await room_has_ended()


async def test_a_synchronous_consumer_enters_too() -> None:
    mira, tom = await entered(SyncPlayer), await entered()
    await mira.send_json_to("hello")
    assert (await tom.receive_json_from())["said"] == "hello"
    await mira.send_json_to("leave")
    assert (await tom.receive_json_from())["said"] == "leave"
    await mira.disconnect()
    await tom.disconnect()
    await room_has_ended()


async def test_who_leaves_hears_nothing_more() -> None:
    mira, tom = await entered(), await entered()
    await mira.send_json_to("leave")
    assert await mira.receive_json_from() == "left"
    await tom.send_json_to("hello")
    assert (await tom.receive_json_from())["said"] == "hello"
    assert await mira.receive_nothing(0.05)
    await mira.disconnect()
    await tom.disconnect()
    await room_has_ended()


async def test_visitors_are_told_that_a_room_has_failed() -> None:
    mira = await entered()
    await mira.send_json_to("fail")
    assert await mira.receive_json_from() == {"failed": 0.5}
    await mira.send_json_to("hello")
    assert (await mira.receive_json_from())["said"] == "hello"
    await mira.disconnect()
    await room_has_ended()


async def test_who_goes_from_room_to_room_leaves_nothing_behind(layer: InMemoryChannelLayer) -> None:
    class Wanderer(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            visit = await self.enter(Echo, content)
            await visit.leave()
            await self.send_json(len(layer.hub.endings))

    socket = WebsocketCommunicator(Wanderer.as_asgi(), "/")
    await socket.connect()
    for name in ("one", "two", "one", "three"):
        await socket.send_json_to(name)
        assert await socket.receive_json_from() == 0
    await socket.disconnect()


async def test_visitors_cannot_make_any_number_of_rooms(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Echo, "most", 1)
    refused = counters.refused

    class Guest(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            try:
                await self.enter(Echo, self.scope["path"][1:])
            except TooManyRooms:
                await self.close()
            else:
                await self.accept()

    first, second, other = (WebsocketCommunicator(Guest.as_asgi(), path) for path in ("/one", "/one", "/two"))
    assert [(await socket.connect())[0] for socket in (first, second, other)] == [True, True, False]
    assert counters.refused == refused + 1
    assert "Echo.most: this process is in 1 such rooms already, and a visitor of another one was refused" in caplog.text
    await first.disconnect()
    await second.disconnect()


async def test_a_name_is_that_of_one_kind_of_room() -> None:
    class Other(Room):
        pass

    class Stray(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.enter(Other, "echo")

    mira = await entered()
    with pytest.raises(ValueError, match="echo is a room of Echo, not of Other"):
        await WebsocketCommunicator(Stray.as_asgi(), "/").connect()
    await mira.disconnect()
    await room_has_ended()


@pytest.mark.parametrize("name", ["not a name", "n" * 95])
async def test_a_name_that_no_group_can_have_is_refused(name: str) -> None:
    class Stray(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.enter(Echo, name)

    with pytest.raises(TypeError, match=f"'{name}' cannot be the name of a room: use at most 90 ASCII letters"):
        await WebsocketCommunicator(Stray.as_asgi(), "/").connect()


@pytest.mark.parametrize("name", ["cards.only.1", "cards.only", "cards.clock"])
async def test_a_room_cannot_have_the_name_of_a_group_of_another_room(name: str) -> None:
    class Spy(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.enter(Echo, name)

    with pytest.raises(TypeError, match=f"'{name}' cannot be the name of a room: there are groups of Fairway's"):
        await WebsocketCommunicator(Spy.as_asgi(), "/").connect()


class Cards(Echo):
    """Tells a secret to the one person whom it concerns."""

    async def receive(self, message: Any) -> None:
        await self.broadcast_json({"hand": message["who"]}, to=message["who"])
        await self.send({"type": "room.said", "text": message["who"]}, to=message["who"])
        await self.broadcast_json({"said": "next"})


def card_player(who: Any) -> type[Any]:
    class CardPlayer(Player):
        async def connect(self) -> None:
            self.room = await self.enter(Cards, "cards", who=who)
            await self.accept()

    return CardPlayer


async def test_a_room_tells_one_person_what_nobody_else_hears(layer: InMemoryChannelLayer) -> None:
    mira, second, tom = await entered(card_player(1)), await entered(card_player(1)), await entered(card_player("tom"))
    await tom.send_json_to({"who": 1})
    for page in (mira, second):
        assert [await page.receive_json_from() for _ in range(3)] == [{"hand": 1}, 1, {"said": "next"}]
    assert await tom.receive_json_from() == {"said": "next"}
    await second.send_json_to("leave")
    assert await second.receive_json_from() == "left"
    await tom.send_json_to({"who": 1})
    assert await mira.receive_json_from() == {"hand": 1}
    assert await second.receive_nothing(0.05)
    for page in (mira, second, tom):
        await page.disconnect()
    await room_has_ended()


async def test_who_somebody_is_has_to_fit_into_the_name_of_a_group() -> None:
    with pytest.raises(
        TypeError, match=r"'mira@example\.com' cannot be who somebody is in cards: use at most 90 ASCII"
    ):
        await WebsocketCommunicator(card_player("mira@example.com").as_asgi(), "/").connect()


async def test_only_a_room_can_be_entered() -> None:
    class Stray(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            room: Any = dict
            await self.enter(room, "echo")

    with pytest.raises(TypeError, match=r"a class that is derived from fairway.rooms.Room, and not <class 'dict'>"):
        await WebsocketCommunicator(Stray.as_asgi(), "/").connect()


class Foreign(BaseChannelLayer):
    async def new_channel(self) -> str:
        return "a.name!x"

    async def receive(self, channel: str) -> Any:
        await asyncio.Event().wait()


@pytest.mark.parametrize(("other", "what"), [(Foreign(), "the channel layer Foreign"), (None, "no channel layer")])
async def test_a_layer_that_cannot_say_who_runs_a_room_is_refused(other: Any, what: str) -> None:
    channel_layers.set("default", other)
    with pytest.raises(InvalidChannelLayerError, match=f"one of Fairway's own channel layers; .* {what}"):
        await WebsocketCommunicator(Player.as_asgi(), "/").connect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what was left in the loop
def test_a_loop_that_was_closed_without_a_farewell_blocks_nobody(layer: InMemoryChannelLayer) -> None:
    async def enter_and_vanish() -> None:
        page = await entered()
        await page.send_json_to("hello")
        await page.receive_json_from()

    async def enter() -> Any:
        page = await entered()
        await page.send_json_to("again")
        heard = await page.receive_json_from(timeout=5)
        await page.disconnect()
        return heard["said"]

    loop = asyncio.new_event_loop()
    loop.run_until_complete(enter_and_vanish())
    loop.close()
    assert asyncio.run(enter()) == "again"
    gc.collect()
    counters.running = 0


async def test_a_room_by_itself_needs_no_layer() -> None:
    room = Echo("echo")
    await room.begin(None)
    await room.tick(0.01)
    await room.receive("hello")
    await room.publish()
    await room.end()
    assert (room.ticks, room.save()) == (1, None)
