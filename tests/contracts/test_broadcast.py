"""`group_broadcast`: the same result on every carrier, whether a socket is written at once or the consumer sends."""

from __future__ import annotations

import asyncio

import pytest

from channels.layers import InMemoryChannelLayer
from fairway.delivery import Payload
from tests.contracts.carriers import Carrier, FairwayCarrier
from tests.contracts.gate import Gate
from tests.contracts.journal import DEADLINE, Journal
from tests.contracts.twins import Steps, Twin


class Member:
    groups = ["room"]

    def connect(self) -> Steps:
        yield self.accept()
        yield self.send(self.channel_name)

    def chat_message(self, event) -> Steps:
        yield self.send(event["text"])


@pytest.mark.parametrize("arguments", [{"text_data": "hello"}, {"text_data": ""}, {"bytes_data": b"\x00\xff"}])
async def test_every_member_gets_it(carrier: Carrier, twin: Twin, layer: InMemoryChannelLayer, arguments):
    await carrier.serve(twin(Member).as_asgi())
    clients = [await carrier.connect() for _ in range(3)]
    for client in clients:
        await client.receive()
    await layer.group_broadcast("room", **arguments)
    (expected,) = arguments.values()
    assert [await client.receive() for client in clients] == [expected] * 3


async def test_some_can_be_left_out(carrier: Carrier, twin: Twin, layer: InMemoryChannelLayer):
    await carrier.serve(twin(Member).as_asgi())
    clients = [await carrier.connect() for _ in range(3)]
    names = [await client.receive() for client in clients]
    await layer.group_broadcast("room", "not for all", exclude=[names[1]])
    await layer.group_broadcast("room", "for all")
    assert await clients[1].receive() == "for all"
    for client in (clients[0], clients[2]):
        assert [await client.receive(), await client.receive()] == ["not for all", "for all"]


async def test_nothing_overtakes_an_accept_or_the_history(carrier: Carrier, twin: Twin, layer: InMemoryChannelLayer):
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


async def test_nothing_overtakes_an_earlier_group_send(carrier: Carrier, twin: Twin, layer: InMemoryChannelLayer):
    await carrier.serve(twin(Member).as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    for client in clients:
        await client.receive()
    for number in range(0, 20, 2):
        await layer.group_send("room", {"type": "chat.message", "text": str(number)})
        await layer.group_broadcast("room", str(number + 1))
    for client in clients:
        assert [await client.receive() for _ in range(20)] == [str(number) for number in range(20)]


async def test_nothing_overtakes_a_handler_that_is_still_sending(
    carrier: Carrier, twin: Twin, layer: InMemoryChannelLayer
):
    gate = Gate()

    class Slow:
        groups = ["room"]

        def chat_message(self, event) -> Steps:
            yield self.send("first half")
            yield self.through(gate.wait)
            yield self.send("second half")

    await carrier.serve(twin(Slow).as_asgi())
    client = await carrier.connect()
    await layer.group_send("room", {"type": "chat.message"})
    await gate.reached()
    await layer.group_broadcast("room", "later")
    gate.open()
    assert [await client.receive() for _ in range(3)] == ["first half", "second half", "later"]


async def test_a_consumer_broadcasts_to_its_own_group(carrier: Carrier, twin: Twin, layer: InMemoryChannelLayer):
    class Shouting:
        groups = ["room"]

        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.through(self.channel_layer.group_broadcast, "room", text_data.upper())

    await carrier.serve(twin(Shouting).as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    await clients[0].send_text("hey")
    assert [await client.receive() for client in clients] == ["HEY", "HEY"]


async def test_a_group_send_of_a_broadcast_is_handled(carrier: Carrier, twin: Twin, layer: InMemoryChannelLayer):
    await carrier.serve(twin(Member).as_asgi())
    client = await carrier.connect()
    await client.receive()
    await layer.group_send("room", {"type": "fairway.broadcast", "text": "as a message"})
    await layer.group_send("room", {"type": "fairway.broadcast", "bytes": b"as bytes"})
    assert [await client.receive(), await client.receive()] == ["as a message", b"as bytes"]


async def test_our_server_writes_it_without_the_consumers(
    fairway: FairwayCarrier, twin: Twin, layer: InMemoryChannelLayer
):
    await fairway.serve(twin(Member).as_asgi())
    clients = [await fairway.connect() for _ in range(3)]
    for client in clients:
        await client.receive()
    # The consumers are parked again when their first message has come: their next step is after this one.
    await asyncio.gather(*(_parked(driver) for driver in fairway.drivers))
    layer.hub.group_broadcast("room", payload := Payload("made once"))
    assert [driver.outbox.size for driver in fairway.drivers] == [len(b"made once") + 2] * 3
    assert len(payload._forms) <= 2  # the plain frame, and the one of connections that agreed to compression
    assert [await client.receive() for client in clients] == ["made once"] * 3


async def test_a_class_that_watches_its_messages_is_not_passed_by(
    fairway: FairwayCarrier, twin: Twin, layer: InMemoryChannelLayer, journal: Journal
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


async def _parked(driver) -> None:
    async with asyncio.timeout(DEADLINE):
        while not driver.inbox.parked:  # noqa: ASYNC110  the inbox tells nobody, and a pass of the loop is all it takes
            await asyncio.sleep(0)
