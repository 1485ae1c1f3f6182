"""Consumers and our layers: groups, channels, handlers, contexts."""

from __future__ import annotations

import contextvars

import pytest

from fairway.layers.hub_layer import HubLayer
from tests.contracts import layers
from tests.contracts.carriers import Carrier, Ended
from tests.contracts.journal import Journal
from tests.contracts.twins import Steps, Twin

layer = layers.layer
"""The fixture: each of our layers."""

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")


class Room:
    groups = ["room"]

    def receive(self, text_data=None, bytes_data=None) -> Steps:
        yield self.through(
            self.channel_layer.group_send, "room", {"type": "chat.message", "text": text_data, "tags": ["new"]}
        )

    def chat_message(self, event) -> Steps:
        yield self.send(f"{event['text']} {','.join(event['tags'])}")


async def test_groups_are_joined_before_connect_and_left_at_the_end(
    carrier: Carrier, twin: Twin, journal: Journal, layer: HubLayer
):
    class Looking:
        groups = ["red", "blue"]

        def connect(self) -> Steps:
            joined = sorted(group for group, members in layer.hub.groups.items() if self.channel_name in members)
            journal.note(joined)
            yield self.accept()

        def disconnect(self, code) -> Steps:
            journal.note(sorted(layer.hub.groups))
            yield

    await carrier.serve(twin(Looking).as_asgi())
    client = await carrier.connect()
    await client.close()
    await carrier.finished()
    assert journal == [["blue", "red"], []]
    assert (layer.hub.groups, layer.hub.channels) == ({}, {})


async def test_everyone_in_the_group_gets_a_message(carrier: Carrier, twin: Twin, layer: HubLayer):
    await carrier.serve(twin(Room).as_asgi())
    clients = [await carrier.connect() for _ in range(3)]
    await clients[1].send_text("hello")
    assert [await client.receive() for client in clients] == ["hello new"] * 3


async def test_messages_of_one_sender_keep_their_order(carrier: Carrier, twin: Twin, layer: HubLayer):
    await carrier.serve(twin(Room).as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    for number in range(50):
        await layer.group_send("room", {"type": "chat.message", "text": str(number), "tags": []})
    for client in clients:
        assert [await client.receive() for _ in range(50)] == [f"{number} " for number in range(50)]


async def test_a_handler_may_change_its_message(carrier: Carrier, twin: Twin, layer: HubLayer):
    class Spoiling:
        groups = ["room"]

        def chat_message(self, event) -> Steps:
            event["tags"].append(event.pop("text"))
            yield self.send(",".join(event["tags"]))

    await carrier.serve(twin(Spoiling).as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    message = {"type": "chat.message", "text": "x", "tags": ["new"]}
    await layer.group_send("room", message)
    assert [await client.receive() for client in clients] == ["new,x", "new,x"]
    assert message == {"type": "chat.message", "text": "x", "tags": ["new"]}


async def test_a_message_to_the_channel_reaches_one_consumer(carrier: Carrier, twin: Twin, layer: HubLayer):
    class Named:
        def connect(self) -> Steps:
            yield self.accept()
            yield self.send(self.channel_name)

        def direct(self, event) -> Steps:
            yield self.send(event["text"])

    await carrier.serve(twin(Named).as_asgi())
    first, second = await carrier.connect(), await carrier.connect()
    names = [await first.receive(), await second.receive()]
    await layer.send(names[1], {"type": "direct", "text": "for the second"})
    await layer.send(names[0], {"type": "direct", "text": "for the first"})
    assert [await second.receive(), await first.receive()] == ["for the second", "for the first"]


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("no.such", "No handler for message type no.such"),
        ("_private", "Malformed type in message (leading underscore)"),
        (".private", "Malformed type in message (leading underscore)"),
    ],
)
async def test_a_message_without_a_handler_fails_the_consumer(
    carrier: Carrier, twin: Twin, layer: HubLayer, kind: str, complaint: str
):
    await carrier.serve(twin(Room).as_asgi())
    client = await carrier.connect()
    await layer.group_send("room", {"type": kind})
    assert (await client.ended()).code == carrier.traits.code_of_failure
    await carrier.finished()
    (error,) = carrier.errors
    assert isinstance(error, ValueError)
    assert str(error) == complaint


async def test_a_handler_may_close(carrier: Carrier, twin: Twin, layer: HubLayer):
    class Kicked:
        groups = ["room"]

        def kick(self, event) -> Steps:
            yield self.close(4003, "kicked")

    await carrier.serve(twin(Kicked).as_asgi())
    client = await carrier.connect()
    await layer.group_send("room", {"type": "kick"})
    assert await client.ended() == Ended(4003, "kicked")


async def test_handlers_run_in_the_context_of_their_connection(carrier: Carrier, twin: Twin, layer: HubLayer):
    class Telling:
        groups = ["room"]

        def connect(self) -> Steps:
            variable.set(self.scope["path"])
            yield self.accept()

        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.send(variable.get())

        def chat_message(self, event) -> Steps:
            yield self.send(variable.get())

    await carrier.serve(twin(Telling).as_asgi())
    clients = [await carrier.connect("/one"), await carrier.connect("/two")]
    variable.set("the publisher's")
    await layer.group_send("room", {"type": "chat.message"})
    assert [await client.receive() for client in clients] == ["/one", "/two"]
    for client in clients:
        await client.send_text("?")
    assert [await client.receive() for client in clients] == ["/one", "/two"]


async def test_a_busy_layer_does_not_hold_up_the_client(carrier: Carrier, twin: Twin, layer: HubLayer):
    class Both:
        groups = ["room"]

        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.send(f"client {text_data}")

        def tick(self, event) -> Steps:
            yield self.send(f"layer {event['number']}")
            if event["number"] < 40:
                following = {"type": "tick", "number": event["number"] + 1}
                yield self.through(self.channel_layer.group_send, "room", following)

    await carrier.serve(twin(Both).as_asgi())
    client = await carrier.connect()
    await layer.group_send("room", {"type": "tick", "number": 0})
    await client.send_text("x")
    got = [await client.receive() for _ in range(42)]
    assert got.count("client x") == 1
    assert [text for text in got if text != "client x"] == [f"layer {number}" for number in range(41)]
