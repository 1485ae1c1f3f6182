"""Layers that are not ours, or not quite: their `receive` is called for each message, and cancelled at the end."""

from __future__ import annotations

import asyncio

import pytest

from channels.exceptions import InvalidChannelLayerError
from channels.layers import BaseChannelLayer, channel_layers
from tests.contracts.carriers import Carrier, Rejected
from tests.contracts.foreign import QueueLayer, StampingLayer
from tests.contracts.gate import Gate
from tests.contracts.journal import Journal
from tests.contracts.twins import Steps, Twin

DEADLINE = 10.0


@pytest.fixture(params=[QueueLayer, StampingLayer])
def foreign(request: pytest.FixtureRequest):
    layer = request.param()
    channel_layers.set("default", layer)
    return layer


class Room:
    groups = ["room"]

    def connect(self) -> Steps:
        yield self.accept()
        yield self.send(self.channel_name)

    def receive(self, text_data=None, bytes_data=None) -> Steps:
        yield self.through(self.channel_layer.group_send, "room", {"type": "chat.message", "text": text_data})

    def chat_message(self, event) -> Steps:
        yield self.send(f"{event['text']} {event.get('stamp', 'plain')}")


def stamp_of(layer: BaseChannelLayer) -> str:
    return "received" if isinstance(layer, StampingLayer) else "plain"


async def test_groups_and_channels_work(carrier: Carrier, twin: Twin, foreign):
    await carrier.serve(twin(Room).as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    names = [await client.receive() for client in clients]
    for number in range(20):
        await clients[0].send_text(str(number))
    for client in clients:
        assert [await client.receive() for _ in range(20)] == [f"{n} {stamp_of(foreign)}" for n in range(20)]
    await foreign.send(names[1], {"type": "chat.message", "text": "you"})
    assert await clients[1].receive() == f"you {stamp_of(foreign)}"


async def test_receive_is_cancelled_at_the_end(carrier: Carrier, twin: Twin, foreign):
    await carrier.serve(twin(Room).as_asgi())
    client = await carrier.connect()
    await client.receive()
    await foreign.group_send("room", {"type": "chat.message", "text": "one"})
    await client.receive()
    await client.close()
    await carrier.finished()
    assert foreign.receiving == 0
    assert not foreign.groups.get("room")
    assert carrier.errors == []


def lines_about(layer: BaseChannelLayer, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if f"channel layer {type(layer).__name__}" in line]


async def test_a_layer_that_fails_closes_nobodys_connection(
    carrier: Carrier, twin: Twin, foreign, caplog: pytest.LogCaptureFixture
):
    await carrier.serve(twin(Room).as_asgi())
    clients = [await carrier.connect() for _ in range(3)]
    for client in clients:
        await client.receive()
    lost = ConnectionError("the layer is away")
    await foreign.group_send("room", {"type": "chat.message", "error": lost})
    foreign.broken = lost
    async with asyncio.timeout(DEADLINE):
        while foreign.receiving or not lines_about(foreign, caplog):  # noqa: ASYNC110  # a log tells nobody
            await asyncio.sleep(0.01)
    foreign.broken = None
    await foreign.group_send("room", {"type": "chat.message", "text": "it is back"})
    for client in clients:
        assert await client.receive() == f"it is back {stamp_of(foreign)}"

    name = type(foreign).__name__
    assert lines_about(foreign, caplog) == [
        f"The channel layer {name} is failing; trying again until it works: ConnectionError: the layer is away",
        f"The channel layer {name} works again",
    ]
    assert not any(record.exc_info for record in caplog.records)
    assert carrier.errors == []


async def test_a_layer_that_is_written_wrongly_has_one_traceback(
    carrier: Carrier, twin: Twin, foreign, caplog: pytest.LogCaptureFixture
):
    foreign.broken = AttributeError("no such method")
    await carrier.serve(twin(Idle).as_asgi())
    clients = [await carrier.connect() for _ in range(3)]
    for client in clients:
        await client.send_text("hello")
        assert await client.receive() == "hello"
    (line,) = lines_about(foreign, caplog)
    assert line.endswith("AttributeError: no such method")
    (record,) = (record for record in caplog.records if record.exc_info)
    assert record.exc_info[1] is foreign.broken
    assert carrier.errors == []


class Idle:
    """Uses no layer, although there is one."""

    def receive(self, text_data=None, bytes_data=None) -> Steps:
        yield self.send(text_data)


async def test_an_error_of_the_layer_is_raised_where_a_handler_calls_it(
    carrier: Carrier, twin: Twin, foreign, journal: Journal
):
    class Asking:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            try:
                yield self.through(self.channel_layer.send, self.channel_name, {"type": "chat.message"})
            except ConnectionError as error:
                journal.note(str(error))
            yield self.send("still here")

    await carrier.serve(twin(Asking).as_asgi())
    client = await carrier.connect()
    foreign.broken = ConnectionError("the layer is away")
    await client.send_text("go")
    assert await client.receive() == "still here"
    assert journal == ["the layer is away"]
    foreign.broken = None


async def test_a_client_can_leave_while_the_layer_is_away(
    carrier: Carrier, twin: Twin, foreign, journal: Journal, caplog: pytest.LogCaptureFixture
):
    class Noting:
        groups = ["room"]

        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield

    await carrier.serve(twin(Noting).as_asgi())
    client = await carrier.connect()
    foreign.broken = ConnectionError("the layer is away")
    await client.close(4001)
    await carrier.finished()
    assert (journal, carrier.errors) == ([4001], [])
    assert lines_about(foreign, caplog) == [
        f"A call of the channel layer {type(foreign).__name__} failed: ConnectionError: the layer is away"
    ]


async def test_the_next_message_is_fetched_only_when_the_last_was_handled(
    carrier: Carrier, twin: Twin, journal: Journal
):
    layer = QueueLayer()
    channel_layers.set("default", layer)
    gate = Gate()

    class Slow:
        groups = ["room"]

        def connect(self) -> Steps:
            journal.note(self.channel_name)
            yield self.accept()

        def chat_message(self, event) -> Steps:
            yield self.through(gate.wait)
            yield self.close()

    await carrier.serve(twin(Slow).as_asgi())
    client = await carrier.connect()
    for _ in range(3):
        await layer.group_send("room", {"type": "chat.message"})
    await gate.reached()
    waiting = layer.queues[journal[0]].qsize()
    assert waiting == 2
    gate.open()
    await client.ended()


async def test_a_broadcast_travels_as_a_message(carrier: Carrier, twin: Twin):
    layer = QueueLayer()
    channel_layers.set("default", layer)
    await carrier.serve(twin(Room).as_asgi())
    client = await carrier.connect()
    await client.receive()
    await layer.group_send("room", {"type": "fairway.broadcast", "text": "for all"})
    assert await client.receive() == "for all"


@pytest.mark.parametrize("configured", [False, True], ids=["no layer", "no groups"])
async def test_groups_need_a_layer_that_can(carrier: Carrier, twin: Twin, journal: Journal, settings, configured: bool):
    class Bare:
        """A layer that has channels only."""

        async def new_channel(self) -> str:
            return "specific!x"

        async def receive(self, channel):
            await Gate().wait()

    settings.CHANNEL_LAYERS = {}
    if configured:
        channel_layers.set("default", Bare())  # type: ignore[arg-type]

    class Grouped:
        groups = ["room"]

        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield

    await carrier.serve(twin(Grouped).as_asgi())
    with pytest.raises(Rejected) as refusal:
        await carrier.connect()
    assert refusal.value.answer == 500
    await carrier.finished()
    (error,) = carrier.errors
    assert isinstance(error, InvalidChannelLayerError)
    assert str(error).startswith("Grouped.groups needs a channel layer")
    assert journal == [1011]


async def test_consumers_work_without_a_layer(carrier: Carrier, twin: Twin, settings):
    settings.CHANNEL_LAYERS = {}

    class Echo:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.send(f"{text_data} {self.channel_layer}")

    await carrier.serve(twin(Echo).as_asgi())
    client = await carrier.connect()
    await client.send_text("x")
    assert await client.receive() == "x None"


async def test_the_alias_chooses_the_layer(carrier: Carrier, twin: Twin, layer):
    other = QueueLayer()
    channel_layers.set("other", other)

    class Elsewhere:
        channel_layer_alias = "other"
        groups = ["room"]
        chat_message = Room.chat_message

    await carrier.serve(twin(Elsewhere).as_asgi())
    client = await carrier.connect()
    await other.group_send("room", {"type": "chat.message", "text": "there"})
    assert await client.receive() == "there plain"
    assert layer.groups == {}
