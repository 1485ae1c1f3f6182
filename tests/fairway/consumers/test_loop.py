"""`ConsumerLoop` without Django, a server or a socket: enter, handle, leave, farewell, detach.

With clients, servers and layers, consumers are tested in `tests/contracts`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.fairway.loops import passes

from fairway.consumers import loop as module
from fairway.consumers.errors import NoHandler, Overstayed, StopConsumer
from fairway.consumers.loop import ConsumerLoop
from fairway.consumers.names import handler_of
from fairway.delivery import Connection, Inbox, Message, Payload, statistics

CONNECT = {"type": "websocket.connect"}
DISCONNECT = {"type": "websocket.disconnect", "code": 1001}
SCOPE = {"type": "websocket"}


class FakeConnection(Connection):
    """A server's end that only has an inbox, and notes what is sent."""

    def __init__(self) -> None:
        self.inbox = Inbox(asyncio.get_running_loop())
        self.is_open = True
        self.sent: list[Any] = []

    async def receive(self) -> Message:
        raise AssertionError("a consumer takes from the inbox itself")

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def broadcast(self, payload: Payload) -> None:
        self.sent.append(payload)


class FakeLayer:
    """Somebody else's layer: a queue, and one channel name after the other."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.channels = 0

    async def new_channel(self) -> str:
        self.channels += 1
        return f"channel {self.channels}"

    async def receive(self, channel: str) -> Message:
        message = await self.messages.get()
        if isinstance(message, BaseException):
            raise message
        return {**message, "channel": channel}


class Noting(ConsumerLoop):
    """Notes what it handles. `act` stands for what a handler does with the message."""

    _sync = False
    max_concurrency = 1
    disconnect_grace = 5.0
    channel_layer = channel_name = None

    def __init__(self, layer: Any = None, act: Callable[[Message], Awaitable[None]] | None = None) -> None:
        self.layer = layer
        self.act = act
        self.seen: list[Message] = []

    @property
    def channel_receive(self) -> Callable[[], Awaitable[Message]]:
        return lambda: self.layer.receive(self.channel_name)

    def _fairway_find_layer(self) -> Any:
        return self.layer

    async def dispatch(self, message: Message) -> None:
        await handler_of(self, message)(message)

    async def send(self, message: Message) -> None:
        await self.base_send(message)

    async def note(self, message: Message) -> None:
        self.seen.append(message)
        if self.act is not None:
            await self.act(message)

    websocket_connect = websocket_receive = websocket_disconnect = event = note

    @property
    def kinds(self) -> list[str]:
        return [message["type"].removeprefix("websocket.") for message in self.seen]


async def serve(consumer: Noting, connection: FakeConnection, *items: Any, scope: Message = SCOPE) -> None:
    """Serve a client that sends these items and leaves."""
    for item in items:
        connection.inbox.put_client(item)
    connection.inbox.put_disconnect(DISCONNECT)
    await consumer(scope, connection.receive, connection.send)


@pytest.fixture
async def connection() -> FakeConnection:
    return FakeConnection()


# Next item, handle ---------------------------------------------------------------------------------------------------


async def test_items_are_handled_one_after_the_other(connection: FakeConnection):
    running: list[str] = []

    async def overlap(message: Message) -> None:
        assert running == []
        running.append(message["type"])
        await passes()
        running.pop()

    consumer = Noting(act=overlap)
    await serve(consumer, connection, CONNECT, "text", b"bytes")
    assert consumer.seen == [
        CONNECT,
        {"type": "websocket.receive", "text": "text"},
        {"type": "websocket.receive", "bytes": b"bytes"},
        DISCONNECT,
    ]


async def test_handlers_run_side_by_side_but_connect_alone(connection: FakeConnection):
    gate = asyncio.Event()

    async def wait(message: Message) -> None:
        if message["type"] == "websocket.receive":
            await gate.wait()
        elif message["type"] == "websocket.connect":
            await passes()
            assert consumer.kinds == ["connect"]

    consumer = Noting(act=wait)
    consumer.max_concurrency = 2
    serving = asyncio.ensure_future(serve(consumer, connection, CONNECT, "1", "2"))
    await passes(20)
    assert consumer.kinds[:3] == ["connect", "receive", "receive"]
    gate.set()
    await serving
    assert consumer.kinds == ["connect", "receive", "receive", "disconnect"]


async def test_a_broadcast_is_written_to_the_connection_if_nobody_looks(connection: FakeConnection):
    class Own(Noting):
        dispatch = ConsumerLoop.dispatch
        send = ConsumerLoop.send

    payload = Payload("all")
    for consumer_class, written in [(Own, payload), (Noting, {"type": "websocket.send", "text": "all"})]:
        connection = FakeConnection()
        connection.inbox.put_layer(payload, capacity=1)
        consumer = consumer_class()
        serving = asyncio.ensure_future(consumer(SCOPE, connection.receive, connection.send))
        await passes()
        serving.cancel()
        await asyncio.wait([serving])
        assert connection.sent == [written]


async def test_whoever_fetches_for_it_fetches_only_what_is_handled_next():
    asked: list[int] = []
    gate = asyncio.Event()

    async def receive() -> Message:
        asked.append(len(consumer.seen))
        return [CONNECT, {"type": "websocket.receive", "text": "x"}, DISCONNECT][len(asked) - 1]

    async def wait(message: Message) -> None:
        await gate.wait()

    async def send(message: Message) -> None: ...

    consumer = Noting(act=wait)
    serving = asyncio.ensure_future(consumer(SCOPE, receive, send))
    await passes(5)
    assert asked == [0]
    gate.set()
    await serving
    assert asked == [0, 1, 2]
    assert consumer.kinds == ["connect", "receive", "disconnect"]


async def test_events_of_another_layer_are_fetched_for_its_channel(connection: FakeConnection):
    layer = FakeLayer()
    layer.messages.put_nowait({"type": "event"})
    layer.messages.put_nowait(StopConsumer())
    consumer = Noting(layer)
    connection.inbox.put_client(CONNECT)
    await consumer(SCOPE, connection.receive, connection.send)
    assert consumer.seen == [CONNECT, {"type": "event", "channel": "channel 1"}]


# Leave ---------------------------------------------------------------------------------------------------------------


async def test_nothing_is_handled_after_the_last_event(connection: FakeConnection):
    consumer = Noting()
    connection.inbox.put_layer({"type": "event"}, capacity=1)
    await serve(consumer, connection, CONNECT)
    assert consumer.kinds == ["connect", "disconnect"]


async def test_a_consumer_need_not_handle_its_last_event(connection: FakeConnection):
    class Bare(Noting):
        websocket_disconnect = None

    consumer = Bare()
    await serve(consumer, connection, CONNECT)
    assert consumer.kinds == ["connect"]


async def test_another_message_that_it_cannot_handle_while_it_leaves_is_an_error(connection: FakeConnection):
    async def pass_on(message: Message) -> None:
        if message["type"] == "websocket.disconnect":
            await consumer.dispatch({"type": "no.such"})

    consumer = Noting(act=pass_on)
    with pytest.raises(NoHandler, match=r"^No handler for message type no\.such$"):
        await serve(consumer, connection, CONNECT)


async def test_a_last_event_that_the_client_has_not_sent_has_a_code(
    connection: FakeConnection, caplog: pytest.LogCaptureFixture
):
    consumer = Noting()
    connection.inbox.put_client(CONNECT)
    serving = asyncio.ensure_future(consumer(SCOPE, connection.receive, connection.send))
    await passes()
    connection.inbox.put_layer({"type": "websocket.disconnect"}, capacity=1)
    await serving
    assert consumer.seen[-1] == {"type": "websocket.disconnect", "code": 1000}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


# Farewell ------------------------------------------------------------------------------------------------------------


def failing_at(kind: str) -> Callable[[Message], Awaitable[None]]:
    async def fail(message: Message) -> None:
        if message["type"] == kind:
            raise LookupError("the first")

    return fail


async def test_a_consumer_that_fails_is_given_its_last_event(connection: FakeConnection):
    consumer = Noting(act=failing_at("websocket.receive"))
    connection.inbox.put_client(CONNECT)
    connection.inbox.put_client("fail")
    with pytest.raises(LookupError, match=r"^the first$"):
        await consumer(SCOPE, connection.receive, connection.send)
    assert consumer.seen[-1] == {"type": "websocket.disconnect", "code": 1011, "reason": ""}


async def test_it_sees_the_code_with_which_the_client_has_left(connection: FakeConnection):
    consumer = Noting(act=failing_at("websocket.receive"))
    with pytest.raises(LookupError, match=r"^the first$"):
        await serve(consumer, connection, CONNECT, "fail", "passed over")
    assert consumer.seen[2:] == [DISCONNECT]


async def test_a_consumer_that_fails_in_its_last_event_gets_no_other(connection: FakeConnection):
    consumer = Noting(act=failing_at("websocket.disconnect"))
    with pytest.raises(LookupError, match=r"^the first$"):
        await serve(consumer, connection, CONNECT)
    assert consumer.kinds == ["connect", "disconnect"]


async def test_a_consumer_that_is_not_connected_is_given_nothing(connection: FakeConnection):
    consumer = Noting()
    serving = asyncio.ensure_future(consumer(SCOPE, connection.receive, connection.send))
    await passes()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert consumer.seen == []


async def test_a_conversation_that_has_no_last_event_just_ends(connection: FakeConnection):
    consumer = Noting(act=failing_at("event"))
    connection.inbox.put_client({"type": "event"})
    with pytest.raises(LookupError, match=r"^the first$"):
        await consumer({"type": "channel"}, connection.receive, connection.send)
    assert consumer.kinds == ["event"]


async def test_the_second_error_is_logged_and_the_first_is_raised(
    connection: FakeConnection, caplog: pytest.LogCaptureFixture
):
    async def fail_twice(message: Message) -> None:
        if message["type"] != "websocket.connect":
            raise LookupError(f"in {message['type']}")

    consumer = Noting(act=fail_twice)
    with pytest.raises(LookupError, match=r"^in websocket\.receive$"):
        await serve(consumer, connection, CONNECT, "fail")
    assert caplog.messages == ["Noting failed again while it was handling its disconnect"]


# Detach --------------------------------------------------------------------------------------------------------------


async def test_what_fetched_for_it_has_ended(connection: FakeConnection):
    before = asyncio.all_tasks()
    layer = FakeLayer()
    await serve(Noting(layer), connection, CONNECT)
    assert asyncio.all_tasks() == before


async def test_what_it_sends_later_still_goes_to_the_connection(connection: FakeConnection):
    consumer = Noting()
    await serve(consumer, connection, CONNECT)
    await consumer.send({"type": "late"})
    assert connection.sent == [{"type": "late"}]


async def test_an_instance_serves_one_scope_after_the_other():
    layer = FakeLayer()
    consumer = Noting(layer)
    for number in (1, 2):
        await serve(consumer, FakeConnection(), CONNECT)
        assert consumer.channel_name == f"channel {number}"
    assert consumer.kinds == ["connect", "disconnect"] * 2


# Too late ------------------------------------------------------------------------------------------------------------


async def test_a_handler_that_goes_on_sending_to_nobody_is_ended(
    connection: FakeConnection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "OVERSTAY", 0.0)
    before = statistics.sends_after_close
    ended: list[bool] = []

    async def go_on(message: Message) -> None:
        if message["type"] == "websocket.receive":
            try:
                for _ in range(10):
                    consumer._fairway_came_too_late({"type": "websocket.send"}, "gone")
            except Overstayed:
                ended.append(True)
                raise

    consumer = Noting(act=go_on)
    await serve(consumer, connection, CONNECT, "go on")
    assert ended == [True]
    assert statistics.sends_after_close - before == 2
    # Its disconnect was handled all the same, and nothing was raised.
    assert consumer.kinds == ["connect", "receive", "disconnect"]


async def test_whoever_goes_on_after_the_end_is_named_once_for_each_class(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(module, "OVERSTAY", 0.0)

    class Own(Noting):
        """A class that was not named before."""

    consumers = [Own(), Own()]
    for consumer in consumers:
        for _ in range(3):
            consumer._fairway_came_too_late({"type": "websocket.send"}, "gone")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("django.channels.consumer", logging.WARNING)
    assert record.getMessage().startswith("Something goes on sending to clients of ")
