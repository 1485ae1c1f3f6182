"""`AsyncConsumer` and `SyncConsumer` by themselves; with clients and servers they are tested in `tests/contracts`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from typing import Any

import pytest
from asgiref.sync import AsyncToSync, async_to_sync, sync_to_async

from channels import consumer as module
from channels.consumer import AsyncConsumer, StopConsumer, SyncConsumer, get_handler_name
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from channels.testing import ApplicationCommunicator, WebsocketCommunicator
from fairway.consumers import loop, names
from fairway.consumers.thread_send import ThreadSend
from fairway.delivery import Connection, statistics
from tests.channels.applications import Sent

LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def fresh_layers():
    channel_layers.backends.clear()


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [("chat.message", "chat_message"), ("ping", "ping"), ("a_.b", "a__b")])
def test_a_handler_is_named_after_the_type(kind: str, name: str):
    assert get_handler_name({"type": kind}) == name


def test_long_types_are_not_kept():
    before = names._cached_name_for.cache_info().currsize
    assert get_handler_name({"type": "a." * 100_000}) == "a_" * 100_000
    assert names._cached_name_for.cache_info().currsize == before


@pytest.mark.parametrize("kind", ["_private", ".private", "." + "long" * 1000])
def test_a_handler_is_never_private(kind: str):
    with pytest.raises(ValueError, match=r"^Malformed type in message \(leading underscore\)$"):
        get_handler_name({"type": kind})


@pytest.mark.parametrize(
    ("kind", "name"), [(None, "NoneType"), (5, "int"), ([], "list"), ({}, "dict"), (b"a", "bytes")]
)
def test_a_type_is_text(kind: Any, name: str):
    with pytest.raises(ValueError, match=rf"^Malformed type in message \({name} instead of str\)$"):
        get_handler_name({"type": kind})


def test_a_message_needs_a_type():
    with pytest.raises(ValueError, match=r"^Incoming message has no 'type' attribute$"):
        get_handler_name({"text": "x"})


def test_what_other_code_imports_from_here_is_here():
    assert set(module.__all__) <= set(dir(module))


def test_a_late_message_is_counted():
    before = statistics.sends_after_close
    AsyncConsumer()._fairway_came_too_late({"type": "websocket.send"}, "gone")
    assert statistics.sends_after_close == before + 1


# as_asgi -------------------------------------------------------------------------------------------------------------


class Documented(AsyncConsumer):
    """What it does."""

    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs

    async def test_ask(self, message):
        await self.send({"type": "test.answer", "kwargs": self.kwargs})
        raise StopConsumer


@pytest.mark.parametrize("consumer", [Documented, SyncConsumer])
def test_the_application_tells_whose_it_is(consumer):
    application = consumer.as_asgi(room="blue")
    assert application.consumer_class is consumer
    assert application.consumer_initkwargs == {"room": "blue"}
    assert application.__wrapped__ is consumer
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(application, name) == getattr(consumer, name)
    assert asyncio.iscoroutinefunction(application)


async def test_the_application_makes_a_consumer_for_each_scope():
    for room in ("blue", "red"):
        communicator = ApplicationCommunicator(Documented.as_asgi(room=room), {"type": "test"})
        await communicator.send_input({"type": "test.ask"})
        assert await communicator.receive_output() == {"type": "test.answer", "kwargs": {"room": room}}
        await communicator.wait()


async def test_an_error_of_the_constructor_is_raised():
    class Broken(AsyncConsumer):
        def __init__(self) -> None:
            raise LookupError("no such room")

    with pytest.raises(LookupError, match="no such room"):
        await Broken.as_asgi()({"type": "test"}, None, None)


# Attributes ----------------------------------------------------------------------------------------------------------


async def test_a_running_consumer_has_its_attributes(settings):
    settings.CHANNEL_LAYERS = LAYERS
    seen: dict[str, Any] = {}

    class Looking(AsyncConsumer):
        async def test_look(self, message):
            for name in ("scope", "channel_layer", "channel_name", "channel_receive", "base_send"):
                seen[name] = getattr(self, name)
            raise StopConsumer

    communicator = ApplicationCommunicator(Looking(), {"type": "test"})
    await communicator.send_input({"type": "test.look"})
    await communicator.wait()
    assert seen["scope"] is communicator.scope
    assert seen["channel_layer"] is channel_layers["default"]
    assert seen["channel_name"].startswith("specific..inmemory!")
    assert seen["channel_receive"].args == (seen["channel_name"],)
    assert asyncio.iscoroutinefunction(seen["base_send"])


def test_there_is_no_base_send_before_the_call():
    with pytest.raises(AttributeError, match=r"^AsyncConsumer has no base_send before it is called$"):
        _ = AsyncConsumer().base_send


async def test_there_is_no_channel_without_a_layer(settings):
    settings.CHANNEL_LAYERS = {}

    class Looking(AsyncConsumer):
        async def test_look(self, message):
            assert self.channel_layer is None
            assert not hasattr(self, "channel_receive")
            raise StopConsumer

    communicator = ApplicationCommunicator(Looking(), {"type": "test"})
    await communicator.send_input({"type": "test.look"})
    await communicator.wait()


def test_the_families_say_which_they_are():
    assert (AsyncConsumer._sync, SyncConsumer._sync) == (False, True)


# Dispatch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
async def test_a_message_without_a_handler_is_an_error(base):
    communicator = ApplicationCommunicator(base(), {"type": "test"})
    await communicator.send_input({"type": "no.such"})
    with pytest.raises(ValueError, match=r"^No handler for message type no\.such$"):
        await communicator.wait()


OF_EVERY_CONSUMER = [
    *("dispatch", "as.asgi", "as_asgi", "base.send", "channel.receive"),
    *("scope", "channel.layer", "channel.layer.alias", "channel.name"),
    *("thread.sensitive", "max.concurrency", "disconnect.grace"),
]


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer, AsyncWebsocketConsumer, WebsocketConsumer])
@pytest.mark.parametrize("kind", OF_EVERY_CONSUMER)
async def test_what_every_consumer_has_handles_no_message(base, kind: str, settings):
    settings.CHANNEL_LAYERS = LAYERS
    communicator = ApplicationCommunicator(base(), {"type": "test"})
    await communicator.send_input({"type": kind})
    with pytest.raises(ValueError, match=rf"^No handler for message type {kind}$"):
        await communicator.wait()


class Furnished:
    """Has attributes besides its methods."""

    room, seats, chair, nothing = "x", ["a"], 7, None

    class Meta:
        """Options of somebody's library."""


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
@pytest.mark.parametrize("kind", ["room", "seats", "chair", "nothing", "Meta"])
async def test_what_is_no_method_handles_no_message(base, kind: str):
    consumer = type("Own", (Furnished, base), {})()
    with pytest.raises(ValueError, match=rf"^No handler for message type {kind}$"):
        await consumer.dispatch({"type": kind})


async def test_whatever_is_called_like_a_method_handles_messages():
    seen: list[tuple[str, str]] = []

    async def note(name, message):
        seen.append((name, message["type"]))

    class Handler:
        async def __call__(self, message):
            await note("object", message)

        def __len__(self):
            return 0

    class Own(AsyncConsumer):
        of_class = Handler()

        @staticmethod
        async def of_nobody(message):
            await note("static", message)

        @database_sync_to_async
        def of_thread(self, message):
            seen.append(("thread", message["type"]))

    consumer = Own()
    consumer.own = functools.partial(note, "partial")
    for kind in ("of.class", "of.nobody", "of.thread", "own"):
        await consumer.dispatch({"type": kind})
    assert seen == [("object", "of.class"), ("static", "of.nobody"), ("thread", "of.thread"), ("partial", "own")]


@pytest.mark.parametrize("kind", ["send", "send.json", "close"])
async def test_what_is_sent_by_its_type_is_still_sent(kind: str):
    seen: list[str] = []

    class Own(AsyncJsonWebsocketConsumer):
        async def send(self, event):
            seen.append("send")

        async def send_json(self, event):
            seen.append("send.json")

        async def close(self, event):
            seen.append("close")

    await Own().dispatch({"type": kind})
    assert seen == [kind]


async def test_types_that_are_no_text_do_not_disturb_handlers_side_by_side():
    class Own(AsyncConsumer):
        max_concurrency = 2

    communicator = ApplicationCommunicator(Own(), {"type": "websocket"})
    await communicator.send_input({"type": []})
    with pytest.raises(ValueError, match=r"^Malformed type in message \(list instead of str\)$"):
        await communicator.wait()


@pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])
async def test_a_client_that_is_sent_away_through_the_layer_is_named(base, settings, caplog: pytest.LogCaptureFixture):
    settings.CHANNEL_LAYERS = LAYERS
    consumer_class = type("Own", (base,), {"groups": ["all"]})
    communicators = [WebsocketCommunicator(consumer_class.as_asgi(), "/") for _ in range(3)]
    for communicator in communicators:
        await communicator.connect()
    await communicators.pop().disconnect()
    assert caplog.messages == []

    await get_channel_layer().group_send("all", {"type": "websocket.disconnect"})
    for communicator in communicators:
        await communicator.wait()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("django.channels.consumer", logging.WARNING)
    assert record.getMessage() == (
        "A message of type websocket.disconnect from the channel layer has ended a consumer, Own, whose client had not "
        "left. Whoever can choose the type of messages can do so to others (this is said once for each class)"
    )


async def test_close_old_connections_runs_around_synchronous_handlers(monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    monkeypatch.setattr("channels.db.close_old_connections", lambda: calls.append(threading.get_ident()))

    class Handling(SyncConsumer):
        def test_run(self, message):
            calls.append(0)

    consumer = Handling()
    await consumer.dispatch({"type": "test.run"})
    thread, zero, same = calls
    assert (zero, same) == (0, thread)
    assert thread != threading.get_ident()


async def test_a_replaced_close_old_connections_is_called_by_asynchronous_consumers(monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    monkeypatch.setattr("channels.db.close_old_connections", lambda: calls.append("close"))

    class Handling(AsyncConsumer):
        async def test_run(self, message):
            calls.append("run")

    await Handling().dispatch({"type": "test.run"})
    assert calls == ["close", "run"]


# The end -------------------------------------------------------------------------------------------------------------


class Leaving(AsyncConsumer):
    """Notes what it is told at the end, and waits for ever if asked to."""

    def __init__(self) -> None:
        self.accepted = asyncio.Event()
        self.waiting = asyncio.Event()
        self.farewells: list[dict[str, Any]] = []

    async def websocket_connect(self, message):
        await self.send({"type": "websocket.accept"})
        self.accepted.set()

    async def websocket_receive(self, message):
        self.waiting.set()
        await asyncio.Event().wait()

    async def websocket_disconnect(self, message):
        self.farewells.append(message)
        await asyncio.sleep(0)
        self.farewells.append({"type": "done"})
        raise StopConsumer


class Failing(AsyncConsumer):
    """Fails, and then takes its time to clean up."""

    def __init__(self) -> None:
        self.leaving = asyncio.Event()
        self.cancelled = False

    async def websocket_connect(self, message):
        raise LookupError("the first")

    async def websocket_disconnect(self, message):
        self.leaving.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "in a handler"])
async def test_a_cancelled_consumer_still_handles_its_disconnect(busy: bool):
    consumer = Leaving()
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    task = asyncio.ensure_future(consumer({"type": "websocket"}, messages.get, Sent()))
    messages.put_nowait({"type": "websocket.connect"})
    if busy:
        messages.put_nowait({"type": "websocket.receive", "text": "wait"})
        await consumer.waiting.wait()
    await consumer.accepted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert consumer.farewells == [
        {"type": "websocket.disconnect", "code": 1006, "reason": ""},
        {"type": "done"},
    ]


class SendsInThread(SyncConsumer):
    """Waits for the client in a thread, and uses a thread again when it leaves."""

    def __init__(self) -> None:
        self.codes: list[int] = []

    def websocket_connect(self, message):
        self.send({"type": "websocket.accept"})

    def websocket_disconnect(self, message):
        self.codes.append(message["code"])


class CallsThread(AsyncConsumer):
    """The same in functions that it calls."""

    def __init__(self) -> None:
        self.codes: list[int] = []

    async def websocket_connect(self, message):
        await database_sync_to_async(async_to_sync(self.send))({"type": "websocket.accept"})

    async def websocket_disconnect(self, message):
        await database_sync_to_async(self.codes.append)(message["code"])


class CallsThreadPlainly(CallsThread):
    """The same with asgiref's own function."""

    async def websocket_connect(self, message):
        await sync_to_async(async_to_sync(self.send))({"type": "websocket.accept"})

    async def websocket_disconnect(self, message):
        await sync_to_async(self.codes.append)(message["code"])


class CallsThreadAfterPlainCall(CallsThread):
    """The same, and cleans up with the database in the handler itself."""

    async def websocket_connect(self, message):
        try:
            await sync_to_async(async_to_sync(self.send))({"type": "websocket.accept"})
        finally:
            await database_sync_to_async(str)()


@pytest.mark.parametrize("kind", [SendsInThread, CallsThread, CallsThreadPlainly, CallsThreadAfterPlainCall])
async def test_a_consumer_that_is_cancelled_while_a_thread_waits_for_it_still_has_threads(kind: type[Any], caplog):
    consumer, busy, sent = kind(), threading.Event(), asyncio.Event()
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(message: dict[str, Any]) -> None:
        # When the consumer hears of it, this has ended, and the thread does not know it yet.
        asyncio.get_running_loop().run_in_executor(AsyncToSync.executors.current, busy.wait)
        task.cancel()
        sent.set()

    task = asyncio.ensure_future(consumer({"type": "websocket"}, messages.get, send))
    messages.put_nowait({"type": "websocket.connect"})
    await sent.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    busy.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (consumer.codes, caplog.messages) == ([1006], [])


async def test_a_handler_that_gives_up_a_call_leaves_the_disconnect_its_threads(caplog: pytest.LogCaptureFixture):
    busy, given_up, timeouts = threading.Event(), asyncio.Event(), []

    class GivesUp(CallsThreadPlainly):
        async def websocket_connect(self, message):
            async with asyncio.timeout(None) as timeout:
                timeouts.append(timeout)
                await super().websocket_connect(message)

        async def dispatch(self, message):
            with contextlib.suppress(TimeoutError):
                await super().dispatch(message)
            given_up.set()

    async def send(message: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(AsyncToSync.executors.current, busy.wait)
        timeouts[0].reschedule(loop.time())

    consumer, messages = GivesUp(), asyncio.Queue[dict[str, Any]]()
    for message in ({"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}):
        messages.put_nowait(message)
    task = asyncio.ensure_future(consumer({"type": "websocket"}, messages.get, send))
    await given_up.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    busy.set()
    await task
    assert (consumer.codes, caplog.messages) == ([1001], [])


async def test_who_cancels_a_consumer_that_has_failed_sees_the_error():
    consumer = Failing()
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    task = asyncio.ensure_future(consumer({"type": "websocket"}, messages.get, Sent()))
    messages.put_nowait({"type": "websocket.connect"})
    await consumer.leaving.wait()
    task.cancel()
    with pytest.raises(LookupError, match=r"^the first$"):
        await task
    assert consumer.cancelled


async def test_a_consumer_that_cannot_clean_up_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(loop, "CLEANUP_TIMEOUT", 0.01)

    class Hanging(AsyncConsumer):
        async def websocket_connect(self, message):
            raise LookupError("the first")

        async def websocket_disconnect(self, message):
            await asyncio.Event().wait()

    communicator = ApplicationCommunicator(Hanging(), {"type": "websocket"})
    await communicator.send_input({"type": "websocket.connect"})
    with pytest.raises(LookupError, match="the first"):
        await communicator.wait()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "Hanging failed again while it was handling its disconnect"
    assert isinstance(record.exc_info[1], TimeoutError)


async def test_a_consumer_without_a_disconnect_handler_just_fails():
    class Bare(AsyncConsumer):
        async def websocket_connect(self, message):
            raise LookupError("alone")

    communicator = ApplicationCommunicator(Bare(), {"type": "websocket"})
    await communicator.send_input({"type": "websocket.connect"})
    with pytest.raises(LookupError, match="alone"):
        await communicator.wait()


async def test_nothing_is_left_in_the_layer(settings):
    settings.CHANNEL_LAYERS = LAYERS
    communicator = ApplicationCommunicator(Documented.as_asgi(), {"type": "test"})
    await communicator.send_input({"type": "test.ask"})
    await communicator.wait()
    layer = channel_layers["default"]
    assert isinstance(layer, InMemoryChannelLayer)
    assert (layer.channels, layer.groups) == ({}, {})


async def test_no_task_is_left_behind():
    before = asyncio.all_tasks()
    communicator = ApplicationCommunicator(Documented.as_asgi(), {"type": "test"})
    await communicator.send_input({"type": "test.ask"})
    await communicator.wait()
    assert asyncio.all_tasks() == before


# Sending from a thread -----------------------------------------------------------------------------------------------


class Taking(Connection):
    """A connection that keeps what is sent, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.taken: list[tuple[int, Any]] = []

    def send_nowait(self, message):
        if self.error is not None:
            raise self.error
        self.taken.append((threading.get_ident(), message))


async def test_a_thread_sends_in_the_thread_of_the_loop():
    connection = Taking()
    send = ThreadSend(connection, asyncio.get_running_loop())
    await asyncio.to_thread(send, {"type": "x"})
    send({"type": "y"})
    assert connection.taken == [(threading.get_ident(), {"type": "x"}), (threading.get_ident(), {"type": "y"})]


async def test_an_error_of_the_connection_is_raised_in_the_thread():
    send = ThreadSend(Taking(OSError("gone")), asyncio.get_running_loop())
    with pytest.raises(OSError, match="gone"):
        await asyncio.to_thread(send, {"type": "x"})
