"""`group_broadcast`: the same result on every carrier, whether a socket is written at once or the consumer sends."""

from __future__ import annotations

import asyncio
import json

import pytest

from channels.exceptions import InvalidChannelLayerError
from channels.layers import InMemoryChannelLayer, channel_layers
from channels.middleware import BaseMiddleware
from fairway.delivery import Payload, statistics
from fairway.layers.hub_layer import HubLayer
from fairway.server.output import fanout
from fairway.server.output.fanout import FEW
from tests.contracts import layers
from tests.contracts.carriers import Carrier, FairwayCarrier
from tests.contracts.foreign import QueueLayer, StampingLayer
from tests.contracts.gate import Gate
from tests.contracts.journal import DEADLINE, Journal
from tests.contracts.twins import Steps, Twin

layer = layers.layer
"""The fixture: each of our layers."""


@pytest.fixture(autouse=True, params=[FEW, 1], ids=["by outboxes", "by sweeps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """A large group gets its messages in another way than a small one."""
    monkeypatch.setattr(fanout, "FEW", request.param)


class Member:
    groups = ["room"]

    def connect(self) -> Steps:
        yield self.accept()
        yield self.send(self.channel_name)

    def chat_message(self, event) -> Steps:
        yield self.send(event["text"])


@pytest.mark.parametrize("arguments", [{"text_data": "hello"}, {"text_data": ""}, {"bytes_data": b"\x00\xff"}])
async def test_every_member_gets_it(carrier: Carrier, twin: Twin, layer: HubLayer, arguments):
    await carrier.serve(twin(Member).as_asgi())
    clients = [await carrier.connect() for _ in range(3)]
    for client in clients:
        await client.receive()
    await layer.group_broadcast("room", **arguments)
    (expected,) = arguments.values()
    assert [await client.receive() for client in clients] == [expected] * 3


async def test_some_can_be_left_out(carrier: Carrier, twin: Twin, layer: HubLayer):
    await carrier.serve(twin(Member).as_asgi())
    clients = [await carrier.connect() for _ in range(3)]
    names = [await client.receive() for client in clients]
    await layer.group_broadcast("room", "not for all", exclude=[names[1]])
    await layer.group_broadcast("room", "for all")
    assert await clients[1].receive() == "for all"
    for client in (clients[0], clients[2]):
        assert [await client.receive(), await client.receive()] == ["not for all", "for all"]


async def test_nothing_overtakes_an_accept_or_the_history(carrier: Carrier, twin: Twin, layer: HubLayer):
    before, between = Gate(), Gate()

    class Careful:
        groups = ["room"]

        def connect(self) -> Steps:
            yield self.through(before.wait)
            yield self.accept()
            yield self.send("history 1")
            yield self.through(between.wait)
            yield self.send("history 2")

    await carrier.serve(twin(Careful).as_asgi())
    connecting = asyncio.ensure_future(carrier.connect())
    await before.reached()
    await layer.group_broadcast("room", "before the accept")
    before.open()
    client = await connecting
    await between.reached()
    await layer.group_broadcast("room", "during the history")
    between.open()
    got = [await client.receive() for _ in range(4)]
    assert got == ["history 1", "history 2", "before the accept", "during the history"]


async def test_nothing_overtakes_an_earlier_group_send(carrier: Carrier, twin: Twin, layer: HubLayer):
    await carrier.serve(twin(Member).as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    for client in clients:
        await client.receive()
    for number in range(0, 20, 2):
        await layer.group_send("room", {"type": "chat.message", "text": str(number)})
        await layer.group_broadcast("room", str(number + 1))
    for client in clients:
        assert [await client.receive() for _ in range(20)] == [str(number) for number in range(20)]


class ReceivingThrough(BaseMiddleware):
    """Wraps `receive`: then the consumer's inbox is another than the connection's, which is always waited for."""

    async def __call__(self, scope, receive, send):
        async def passed_in():
            return await receive()

        await super().__call__(scope, passed_in, send)


@pytest.mark.parametrize("around", [lambda application: application, ReceivingThrough])
async def test_nothing_overtakes_a_handler_that_is_still_sending(carrier: Carrier, twin: Twin, layer: HubLayer, around):
    gate = Gate()

    class Slow:
        groups = ["room"]

        def chat_message(self, event) -> Steps:
            yield self.send("first half")
            yield self.through(gate.wait)
            yield self.send("second half")

    await carrier.serve(around(twin(Slow).as_asgi()))
    client = await carrier.connect()
    await layer.group_broadcast("room", "idle")
    assert await client.receive() == "idle"
    await layer.group_send("room", {"type": "chat.message"})
    await gate.reached()
    await layer.group_broadcast("room", "later")
    gate.open()
    assert [await client.receive() for _ in range(3)] == ["first half", "second half", "later"]


async def test_a_consumer_broadcasts_to_its_own_group(carrier: Carrier, twin: Twin, layer: HubLayer):
    class Shouting:
        groups = ["room"]

        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.through(self.channel_layer.group_broadcast, "room", text_data.upper())

    await carrier.serve(twin(Shouting).as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    await clients[0].send_text("hey")
    assert [await client.receive() for client in clients] == ["HEY", "HEY"]


class Shouting:
    groups = ["room"]

    def connect(self) -> Steps:
        yield self.accept()
        yield self.send(self.channel_name)

    def receive(self, text_data=None, bytes_data=None) -> Steps:
        if text_data is None:
            yield self.group_broadcast("room", bytes_data=bytes_data)
        else:
            yield self.group_broadcast("room", text_data, exclude=self.channel_name)


@pytest.mark.parametrize("make_layer", [InMemoryChannelLayer, QueueLayer, StampingLayer])
async def test_a_consumer_broadcasts_over_any_layer(carrier: Carrier, twin: Twin, make_layer):
    channel_layers.set("default", make_layer())
    await carrier.serve(twin(Shouting).as_asgi())
    first, second = [await carrier.connect() for _ in range(2)]
    for client in (first, second):
        await client.receive()
    await first.send_text("not for me")
    await first.send_bytes(b"for all")
    assert await first.receive() == b"for all"
    assert [await second.receive(), await second.receive()] == ["not for me", b"for all"]


@pytest.mark.parametrize("make_layer", [InMemoryChannelLayer, QueueLayer])
async def test_json_is_encoded_once_by_the_consumer_that_broadcasts(
    carrier: Carrier, twin: Twin, journal: Journal, make_layer
):
    channel_layers.set("default", make_layer())
    plain = twin(Shouting, json=True)

    def encode(content) -> str:
        journal.note("encoded")
        return json.dumps(content, ensure_ascii=False)

    class Encoding(plain):
        if twin.is_sync:
            encode_json = staticmethod(encode)

            def receive_json(self, content):
                self.group_broadcast_json("room", content, exclude=[self.channel_name])
        else:

            @classmethod
            async def encode_json(cls, content):
                return encode(content)

            async def receive_json(self, content):
                await self.group_broadcast_json("room", content, exclude=[self.channel_name])

        receive = plain.__mro__[1].receive

    await carrier.serve(Encoding.as_asgi())
    clients = [await carrier.connect() for _ in range(3)]
    for client in clients:
        await client.receive()
    await clients[0].send_text('{"text": "héllo"}')
    assert [await client.receive() for client in clients[1:]] == ['{"text": "héllo"}'] * 2
    assert journal == ["encoded"]


@pytest.mark.parametrize("make_layer", [InMemoryChannelLayer, QueueLayer])
async def test_a_layer_broadcasts_json(carrier: Carrier, twin: Twin, make_layer):
    layer = make_layer()
    channel_layers.set("default", layer)
    await carrier.serve(twin(Member).as_asgi())
    client = await carrier.connect()
    await client.receive()
    await layer.group_broadcast_json("room", {"a": [1, None]})
    assert await client.receive() == '{"a": [1, null]}'


async def test_a_broadcast_needs_a_layer(carrier: Carrier, twin: Twin, settings):
    settings.CHANNEL_LAYERS = {}

    class Alone:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.group_broadcast("room", text_data)

    await carrier.serve(twin(Alone).as_asgi())
    client = await carrier.connect()
    await client.send_text("anybody?")
    await carrier.finished()
    (error,) = carrier.errors
    assert isinstance(error, InvalidChannelLayerError)
    assert str(error) == "a broadcast needs a channel layer: configure CHANNEL_LAYERS"


async def test_what_is_in_the_way_is_counted(fairway: FairwayCarrier, twin: Twin, layer: HubLayer, caplog):
    class Wrapped(BaseMiddleware):
        async def __call__(self, scope, receive, send):
            async def passed_on(message):
                await send(message)

            await super().__call__(scope, receive, passed_on)

    caplog.set_level("INFO", "fairway.delivery")
    statistics.detours.clear()
    await fairway.serve(Wrapped(twin(Member).as_asgi()))
    client = await fairway.connect()
    await client.receive()
    for number in range(3):
        await layer.group_broadcast("room", str(number))
        assert await client.receive() == str(number)
    ((reason, count),) = statistics.detours.items()
    assert reason.endswith("Wrapped.__call__.<locals>.passed_on, not the server's own")
    assert count == 3
    (line,) = [record.getMessage() for record in caplog.records if record.name == "fairway.delivery"]
    assert line == f"Broadcasts reach {twin(Member).__qualname__} by its own send(), not directly: {reason}"


async def test_a_group_send_of_a_broadcast_is_handled(carrier: Carrier, twin: Twin, layer: HubLayer):
    await carrier.serve(twin(Member).as_asgi())
    client = await carrier.connect()
    await client.receive()
    await layer.group_send("room", {"type": "fairway.broadcast", "text": "as a message"})
    await layer.group_send("room", {"type": "fairway.broadcast", "bytes": b"as bytes"})
    assert [await client.receive(), await client.receive()] == ["as a message", b"as bytes"]


async def test_our_server_writes_it_without_the_consumers(fairway: FairwayCarrier, twin: Twin, layer: HubLayer):
    await fairway.serve(twin(Member).as_asgi())
    clients = [await fairway.connect() for _ in range(3)]
    for client in clients:
        await client.receive()
    # The consumers are parked again when their first message has come: their next step is after this one.
    await asyncio.gather(*(_parked(connection) for connection in fairway.connections))
    layer.hub.group_broadcast("room", payload := Payload("made once"))
    assert all(connection.inbox.parked for connection in fairway.connections)
    assert len(payload.forms) <= 2  # the plain frame, and the one of connections that agreed to compression
    assert [await client.receive() for client in clients] == ["made once"] * 3


async def test_a_class_that_watches_its_messages_is_not_passed_by(
    fairway: FairwayCarrier, twin: Twin, layer: HubLayer, journal: Journal
):
    plain = twin(Member)

    class Watching(plain):
        if twin.is_sync:

            def send(self, text_data=None, bytes_data=None, close=False):
                journal.note(text_data)
                super().send(text_data, bytes_data, close)
        else:

            async def send(self, text_data=None, bytes_data=None, close=False):
                journal.note(text_data)
                await super().send(text_data, bytes_data, close)

    await fairway.serve(Watching.as_asgi())
    client = await fairway.connect()
    name = await client.receive()
    await layer.group_broadcast("room", "seen")
    assert await client.receive() == "seen"
    assert journal == [name, "seen"]


async def _parked(connection) -> None:
    async with asyncio.timeout(DEADLINE):
        while not connection.inbox.parked:  # noqa: ASYNC110  the inbox tells nobody, and a pass of the loop is all it takes
            await asyncio.sleep(0)
