"""The generic WebSocket consumers by themselves: which events they send, what they make of those they get."""

from __future__ import annotations

from typing import Any

import pytest

from channels.consumer import SyncConsumer
from channels.exceptions import StopConsumer
from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from channels.testing import WebsocketCommunicator
from tests.channels.applications import Sent

CLASSES = [AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer, JsonWebsocketConsumer, WebsocketConsumer]


class Driven:
    """A consumer of either family, called directly; what it sends is in `sent`."""

    def __init__(self, cls: type) -> None:
        self.sent: list[dict[str, Any]] = Sent()
        self.consumer = cls()
        self.consumer.base_send = self.sent.append if issubclass(cls, SyncConsumer) else self.sent

    async def call(self, name: str, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        result = getattr(self.consumer, name)(*args, **kwargs)
        if not isinstance(self.consumer, SyncConsumer):
            await result
        return self.sent


@pytest.fixture(params=CLASSES)
def driven(request: pytest.FixtureRequest) -> Driven:
    return Driven(request.param)


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        ({}, {"type": "websocket.accept", "subprotocol": None}),
        ({"subprotocol": "a"}, {"type": "websocket.accept", "subprotocol": "a"}),
        ({"headers": []}, {"type": "websocket.accept", "subprotocol": None}),
        (
            {"headers": ([b"a", b"b"],)},
            {"type": "websocket.accept", "subprotocol": None, "headers": [[b"a", b"b"]]},
        ),
    ],
)
async def test_accept(driven: Driven, arguments, event):
    assert await driven.call("accept", **arguments) == [event]


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        ({"text_data": "x"}, {"type": "websocket.send", "text": "x"}),
        ({"text_data": ""}, {"type": "websocket.send", "text": ""}),
        ({"bytes_data": b""}, {"type": "websocket.send", "bytes": b""}),
        ({"text_data": "x", "bytes_data": b"y"}, {"type": "websocket.send", "text": "x"}),
    ],
)
async def test_send(driven: Driven, arguments, event):
    assert await driven.call("send", **arguments) == [event]


async def test_send_without_anything(driven: Driven):
    with pytest.raises(ValueError, match=r"^You must pass one of bytes_data or text_data$"):
        await driven.call("send")
    assert driven.sent == []


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        ({}, {"type": "websocket.close"}),
        ({"code": True}, {"type": "websocket.close"}),
        ({"code": 4000}, {"type": "websocket.close", "code": 4000}),
        ({"code": 0}, {"type": "websocket.close", "code": 0}),
        ({"reason": ""}, {"type": "websocket.close"}),
        ({"reason": "why"}, {"type": "websocket.close", "reason": "why"}),
    ],
)
async def test_close(driven: Driven, arguments, event):
    assert await driven.call("close", **arguments) == [event]


async def test_a_close_that_failed_may_be_tried_again(driven: Driven):
    working, tries = driven.consumer.base_send, []

    def refusing(event):
        tries.append(event)
        raise RuntimeError("not a close code")

    driven.consumer.base_send = refusing
    with pytest.raises(RuntimeError, match="not a close code"):
        await driven.call("close", code=5)
    driven.consumer.base_send = working
    assert await driven.call("close", code=4000) == [{"type": "websocket.close", "code": 4000}]
    assert len(tries) == 1


async def test_a_name_for_both_text_and_bytes_is_understood(driven: Driven):
    got: list[Any] = []
    cls = type(driven.consumer)
    if issubclass(cls, SyncConsumer):
        driven.consumer.receive = lambda **kwargs: got.append(kwargs)
    else:

        async def receive(**kwargs):
            got.append(kwargs)

        driven.consumer.receive = receive
    await driven.call("websocket_receive", {"type": "websocket.receive", "text": None, "bytes": b"x"})
    await driven.call("websocket_receive", {"type": "websocket.receive", "text": "", "bytes": None})
    assert got == [{"bytes_data": b"x"}, {"text_data": ""}]


async def test_a_disconnect_ends_the_consumer(driven: Driven):
    with pytest.raises(StopConsumer):
        await driven.call("websocket_disconnect", {"type": "websocket.disconnect", "code": None})


async def test_a_disconnect_needs_a_code(driven: Driven):
    with pytest.raises(KeyError, match="code"):
        await driven.call("websocket_disconnect", {"type": "websocket.disconnect"})


@pytest.mark.parametrize("cls", CLASSES)
def test_groups_are_a_list_for_each_instance(cls):
    first, second = cls("ignored", also="ignored"), cls()
    assert first.groups == []
    assert first.groups is not second.groups


@pytest.mark.parametrize("cls", CLASSES)
def test_groups_of_the_class_are_kept(cls):
    grouped = type("Grouped", (cls,), {"groups": ("a", "b")})
    assert grouped().groups == ("a", "b")


async def test_json_keyword_arguments_are_handed_on():
    got: list[Any] = []

    class Keen(JsonWebsocketConsumer):
        def receive_json(self, content, **kwargs):
            got.append((content, kwargs))

    Keen().receive(text_data="[1]", extra=2)
    assert got == [([1], {"extra": 2})]


async def test_async_json_keyword_arguments_are_handed_on():
    got: list[Any] = []

    class Keen(AsyncJsonWebsocketConsumer):
        async def receive_json(self, content, **kwargs):
            got.append((content, kwargs))

    await Keen().receive(text_data="[1]", extra=2)
    assert got == [([1], {"extra": 2})]


def test_the_json_methods_of_the_synchronous_class_are_class_methods():
    assert JsonWebsocketConsumer.decode_json("[1]") == [1]
    assert JsonWebsocketConsumer.encode_json([1]) == "[1]"


async def test_the_json_methods_of_the_asynchronous_class_are_class_methods():
    assert await AsyncJsonWebsocketConsumer.decode_json("[1]") == [1]
    assert await AsyncJsonWebsocketConsumer.encode_json([1]) == "[1]"


@pytest.mark.parametrize("cls", [AsyncWebsocketConsumer, WebsocketConsumer])
async def test_an_instance_that_closed_once_serves_the_next_connection(cls):
    class Closing(cls):
        pass

    if issubclass(cls, SyncConsumer):

        def receive(self, text_data=None, bytes_data=None):
            self.send(text_data, close=True)
    else:

        async def receive(self, text_data=None, bytes_data=None):
            await self.send(text_data, close=True)

    Closing.receive = receive
    consumer = Closing()
    for _ in range(2):
        communicator = WebsocketCommunicator(consumer, "/")
        assert await communicator.connect() == (True, None)
        await communicator.send_to("last")
        assert await communicator.receive_from() == "last"
        assert await communicator.receive_output() == {"type": "websocket.close"}
        await communicator.disconnect()
