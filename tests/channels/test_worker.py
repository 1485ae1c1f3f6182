"""`channels.worker`: messages of named channels, handled one by one or side by side, none lost, whatever fails."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.server import StatelessServer

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.exceptions import StopConsumer
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, channel_layers
from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from channels.worker import InputQueue, Worker

PATIENCE = 20.0
CANCELLED = (
    "Instances cancelled, because their handlers did not finish: 1. "
    "A handler that runs in a thread goes on all the same; one more SIGTERM ends the process"
)

seen: asyncio.Queue[Any]
gate: asyncio.Event
number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


class Recorder(AsyncConsumer):
    """Says what it gets, and fails, waits or ends when told to."""

    async def job(self, message: dict[str, Any]) -> None:
        seen.put_nowait((self, message["n"]))

    async def fail(self, message: dict[str, Any]) -> None:
        raise OSError(f"no luck with {message['n']}")

    async def wait(self, message: dict[str, Any]) -> None:
        await self.job(message)
        await gate.wait()
        seen.put_nowait((self, "done"))

    async def end(self, message: dict[str, Any]) -> None:
        raise StopConsumer

    async def join(self, message: dict[str, Any]) -> None:
        await self.channel_layer.group_add("everybody", self.channel_name)
        await self.channel_layer.group_send("everybody", {"type": "job", "n": "to the group"})
        await self.channel_layer.send("other", {"type": "job", "n": "to another channel"})

    async def answer(self, message: dict[str, Any]) -> None:
        await self.send({"type": "anything"})


@pytest.fixture(autouse=True)
async def layer() -> AsyncIterator[InMemoryChannelLayer]:
    global seen, gate
    seen, gate = asyncio.Queue(), asyncio.Event()
    layer = InMemoryChannelLayer()
    channel_layers.set("default", layer)
    yield layer
    channel_layers.backends.clear()


@asynccontextmanager
async def running(
    layer: BaseChannelLayer, application: Any = None, channels: tuple[str, ...] = ("work",), **attributes: Any
) -> AsyncIterator[Worker]:
    worker = Worker(application or Recorder.as_asgi(), channels, layer)
    for name, value in attributes.items():
        setattr(worker, name, value)
    task = asyncio.create_task(worker.arun())
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(task, PATIENCE)


async def send(layer: BaseChannelLayer, *numbers: Any, type: str = "job", channel: str = "work") -> None:
    for n in numbers:
        await layer.send(channel, {"type": type, "n": n})


async def next_seen(count: int = 1) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [(await seen.get())[1] for _ in range(count)]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.01)


def waiting(layer: InMemoryChannelLayer, channel: str = "work") -> int:
    """How many messages nobody has taken."""
    queue = layer.channels.get(channel)
    return queue.qsize() if queue is not None else 0


# What it is ---------------------------------------------------------------------------------------------------


def test_a_worker_is_made_as_in_channels(layer: InMemoryChannelLayer):
    worker = Worker(application=print, channels=["a", "b"], channel_layer=layer)

    assert isinstance(worker, StatelessServer)
    assert (worker.application, worker.channels, worker.channel_layer) == (print, ["a", "b"], layer)
    assert worker.max_applications == 1000
    assert Worker(print, ["a"], layer, 7).max_applications == 7


def test_a_worker_without_a_layer_is_refused():
    with pytest.raises(ValueError, match=r"^a worker needs a channel layer: configure one in CHANNEL_LAYERS$"):
        Worker(print, ["a"], None)


# Messages -----------------------------------------------------------------------------------------------------


async def test_each_channel_has_one_instance_that_gets_its_messages_in_order(layer: InMemoryChannelLayer):
    application = ProtocolTypeRouter(
        {"channel": ChannelNameRouter({"work": Recorder.as_asgi(), "other": Recorder.as_asgi()})}
    )
    async with running(layer, application, ("work", "other", "work")):
        await send(layer, *range(20))
        await send(layer, "x", channel="other")
        got = [await asyncio.wait_for(seen.get(), PATIENCE) for _ in range(21)]

    by_channel: dict[str, list[Any]] = {"work": [], "other": []}
    for consumer, n in got:
        assert consumer.scope["type"] == "channel"
        by_channel[consumer.scope["channel"]].append(n)
    assert by_channel == {"work": list(range(20)), "other": ["x"]}
    assert len({id(consumer) for consumer, _ in got}) == 2


@pytest.mark.parametrize("message", [{"n": 1}, {"type": ""}])
async def test_a_message_without_a_type_ends_the_worker(layer: InMemoryChannelLayer, message: dict[str, Any]):
    await layer.send("work", message)
    await send(layer, "behind")

    with pytest.raises(
        ValueError, match=r"^Worker received message with no type on channel 'work': add a 'type' to it"
    ):
        await asyncio.wait_for(Worker(Recorder.as_asgi(), ["other", "work"], layer).arun(), PATIENCE)
    assert waiting(layer) == 1


async def test_consumers_may_send_and_join_groups(layer: InMemoryChannelLayer):
    async with running(layer, channels=("work", "other")):
        await send(layer, 1, type="join")

        assert set(await next_seen(2)) == {"to the group", "to another channel"}
    assert layer.groups == {}


@pytest.mark.parametrize("sync", [False, True])
async def test_sending_to_a_client_says_what_to_do_instead(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, sync: bool
):
    class Sync(SyncConsumer):
        def answer(self, message: dict[str, Any]) -> None:
            self.send({"type": "anything"})

    async with running(layer, (Sync if sync else Recorder).as_asgi()):
        await send(layer, 1, type="answer")
        await until(lambda: caplog.records)

    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is NotImplementedError
    assert str(record.exc_info[1]) == (
        "a consumer that is run by a worker has no client to send() to: "
        "use channel_layer.send() or channel_layer.group_send() to reach other consumers"
    )


async def test_a_plain_application_and_a_middleware_that_looks_at_receive(layer: InMemoryChannelLayer):
    async def once(scope: Any, receive: Any, send: Any) -> None:
        seen.put_nowait((scope, (await receive())["n"]))

    def logged(inner: Any) -> Any:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            async def noting() -> Any:
                message = await receive()
                seen.put_nowait((None, "noted"))
                return message

            await inner(scope, noting, send)

        return application

    application = ChannelNameRouter({"work": once, "other": logged(Recorder.as_asgi())})
    async with running(layer, application, ("work", "other")):
        await send(layer, 1, 2)
        assert await next_seen(2) == [1, 2]
        await send(layer, 3, channel="other")
        assert await next_seen(2) == ["noted", 3]


# Errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_an_error_is_logged_once_and_what_is_behind_it_is_handled(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, concurrency: int
):
    async with running(layer, concurrency=concurrency):
        for n in range(10):
            await send(layer, n, type="fail" if n % 3 == 0 else "job")

        assert sorted(await next_seen(6)) == [1, 2, 4, 5, 7, 8]
        await until(lambda: len(caplog.records) == 4)

    first, *others = caplog.messages
    assert first == "A handler of channel work failed"
    assert [line.partition(" (in ")[0] for line in others] == [f"{first}: OSError: no luck with {n}" for n in (3, 6, 9)]
    assert {record.name for record in caplog.records} == {"django.channels.worker"}
    assert "OSError: no luck with 0" in str(caplog.records[0].exc_text)
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False, False]


@pytest.mark.parametrize("kind", ["fail", "no.such"])
async def test_a_flood_of_bad_messages_is_few_lines_and_a_count(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, kind: str
):
    count = 500
    async with running(layer):
        for n in range(count):
            await until(lambda: waiting(layer, "work") < 50)
            await send(layer, n, type=kind)
        await send(layer, 1)
        assert await next_seen() == [1]

    assert sum(record.exc_text is not None for record in caplog.records) == (kind == "fail")
    told = [int(found[1]) for line in caplog.messages if (found := re.search(r": (\d+) more like this within", line))]
    assert sum(told) + len(caplog.messages) - len(told) == count
    assert len(caplog.messages) < count / 5


async def test_a_message_that_nobody_handles_is_a_line(layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture):
    async with running(layer):
        for kind in ("no.such", "dispatch", "_private"):
            await send(layer, kind, type=kind)
        await send(layer, 1)
        assert await next_seen() == [1]

    assert caplog.messages == [
        "A handler of channel work failed: No handler for message type no.such",
        "A handler of channel work failed: No handler for message type dispatch",
        "A handler of channel work failed: Malformed type in message (leading underscore)",
    ]
    assert [record.exc_info for record in caplog.records] == [None] * 3


async def test_the_instance_is_a_new_one_after_an_error_and_after_its_end(layer: InMemoryChannelLayer):
    async with running(layer):
        for kind in ("job", "job", "fail", "job", "end", "job"):
            await send(layer, kind, type=kind)
        consumers = [(await asyncio.wait_for(seen.get(), PATIENCE))[0] for _ in range(4)]

    assert consumers[0] is consumers[1]
    assert len({id(consumer) for consumer in consumers}) == 3


async def test_a_handler_that_cancels_itself_has_failed(layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture):
    class Cancelling(Recorder):
        async def fail(self, message: dict[str, Any]) -> None:
            raise asyncio.CancelledError("of its own")

    async with running(layer, Cancelling.as_asgi()):
        await send(layer, 1, type="fail")
        await send(layer, 2)
        assert await next_seen() == [2]

    assert caplog.messages == ["A handler of channel work failed"]


async def test_a_group_event_that_fails_does_not_lose_the_message_behind_it(layer: InMemoryChannelLayer):
    class Member(Recorder):
        async def enter(self, message: dict[str, Any]) -> None:
            await self.channel_layer.group_add("g", self.channel_name)
            await self.job(message)

        async def boom(self, message: dict[str, Any]) -> None:
            await self.job({"n": "boom"})
            await gate.wait()
            raise OSError("the group event failed")

    async with running(layer, Member.as_asgi()):
        await send(layer, 1, type="enter")
        assert await next_seen() == [1]
        await until(lambda: "work" in layer.channels)  # the next message has been asked for
        await layer.group_send("g", {"type": "boom"})
        assert await next_seen() == ["boom"]
        await send(layer, 2)
        await until(lambda: waiting(layer) == 0)
        gate.set()
        assert await next_seen() == [2]


async def test_a_consumer_with_handlers_side_by_side_takes_only_what_it_has_handlers_for(layer: InMemoryChannelLayer):
    class Many(Recorder):
        max_concurrency = 2

    async with running(layer, Many.as_asgi()):
        await send(layer, *range(5), type="wait")
        assert await next_seen(2) == [0, 1]
        assert waiting(layer) == 3
        await send(layer, "fails", type="fail")
        await send(layer, "last")
        gate.set()
        got = await next_seen(9)

    assert [n for n in got if n != "done"] == [2, 3, 4, "last"]


async def test_context_variables_do_not_outlive_an_instance(layer: InMemoryChannelLayer):
    class Counting(Recorder):
        async def job(self, message: dict[str, Any]) -> None:
            number.set(number.get() + 1)
            seen.put_nowait((self, number.get()))

    async with running(layer, Counting.as_asgi()):
        await send(layer, 1, 2)
        await send(layer, 3, type="fail")
        await send(layer, 4)
        assert await next_seen(3) == [1, 2, 1]


class Failing(InMemoryChannelLayer):
    """Away for some time; `errors` are raised one after the other."""

    errors: list[Exception]

    async def receive(self, channel: str) -> dict[str, Any]:
        if self.errors:
            raise self.errors.pop(0)
        return await super().receive(channel)


async def test_a_layer_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture):
    layer = Failing()
    layer.errors = [ConnectionError("connection refused"), RuntimeError("still")]
    async with running(layer):
        await send(layer, 1)
        assert await next_seen() == [1]

    assert caplog.messages == [
        "The channel layer Failing is failing; trying again until it works: ConnectionError: connection refused",
        "The channel layer Failing works again",
    ]
    assert not any(record.exc_info for record in caplog.records)


async def test_a_layer_that_fails_is_one_line_for_all_channels(caplog: pytest.LogCaptureFixture):
    layer = Failing()
    layer.errors = [ConnectionError("connection refused") for _ in range(4)]
    async with running(layer, channels=("work", "more", "most")):
        await send(layer, 1)
        assert await next_seen() == [1]
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "The channel layer Failing is failing; trying again until it works",
        "The channel layer Failing works again",
    ]


async def test_a_channel_name_that_is_not_valid_ends_the_worker(layer: InMemoryChannelLayer):
    with pytest.raises(TypeError, match=r"^Channel name is not valid"):
        await asyncio.wait_for(Worker(Recorder.as_asgi(), ["no spaces"], layer).arun(), PATIENCE)


async def test_a_channel_without_an_application_ends_the_worker(layer: InMemoryChannelLayer):
    await send(layer, 1, channel="misspelt")
    worker = Worker(ChannelNameRouter({"work": Recorder.as_asgi()}), ["work", "misspelt"], layer)

    with pytest.raises(ValueError, match=r"^No application configured for channel name 'misspelt'$"):
        await asyncio.wait_for(worker.arun(), PATIENCE)
    assert waiting(layer, "misspelt") == 1


async def test_an_application_that_cannot_start_yet_is_tried_again(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    attempts: list[Any] = ["returns", OSError("not yet"), None]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        attempt = attempts.pop(0)
        if isinstance(attempt, OSError):
            raise attempt
        if attempt is None:
            seen.put_nowait((scope, (await receive())["n"]))
            await gate.wait()

    await send(layer, 1)
    async with running(layer, application):
        assert await next_seen() == [1]
        gate.set()
        attempts.append(None)

    assert caplog.messages == [
        "The application for {'type': 'channel', 'channel': 'work'} ended without receiving a message",
        "A handler of channel work failed",
    ]


# Backpressure and concurrency ---------------------------------------------------------------------------------


async def test_a_slow_handler_leaves_its_messages_in_the_layer(layer: InMemoryChannelLayer):
    async with running(layer):
        await send(layer, *range(5), type="wait")
        assert await next_seen() == [0]
        await asyncio.sleep(0)

        assert waiting(layer) == 4
        gate.set()
        assert [n for n in await next_seen(9) if n != "done"] == [1, 2, 3, 4]


async def test_several_instances_handle_the_messages_of_one_channel_side_by_side(layer: InMemoryChannelLayer):
    async with running(layer, concurrency=3):
        await send(layer, *range(5), type="wait")
        consumers = {id((await asyncio.wait_for(seen.get(), PATIENCE))[0]) for _ in range(3)}

        assert len(consumers) == 3
        assert waiting(layer) == 2
        gate.set()


async def test_an_error_leaves_other_handlers_alone(layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture):
    async with running(layer, concurrency=2):
        await send(layer, 1, type="wait")
        await send(layer, 2, type="fail")
        await send(layer, 3)
        assert await next_seen(2) == [1, 3]
        gate.set()
        assert await next_seen() == ["done"]
    assert len(caplog.records) == 1


async def test_idle_instances_make_room_for_others(layer: InMemoryChannelLayer):
    async with running(layer, channels=("work", "other"), max_applications=1) as worker:
        for channel in ("work", "other", "other", "work"):
            await send(layer, channel, channel=channel)
            assert await next_seen() == [channel]
            assert list(worker.application_instances) == [channel]


async def test_a_busy_instance_is_not_sent_away(layer: InMemoryChannelLayer):
    async with running(layer, channels=("work", "other"), max_applications=1):
        await send(layer, 1, type="wait")
        assert await next_seen() == [1]
        await send(layer, 2, channel="other")
        assert await next_seen() == [2]
        gate.set()
        assert await next_seen() == ["done"]


# The end ------------------------------------------------------------------------------------------------------


async def test_handlers_finish_and_no_message_is_taken_any_more(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    async with running(layer, channels=("work", "other")) as worker:
        await send(layer, 1, type="wait")
        await send(layer, 2)
        assert await next_seen() == [1]
        worker.stop()
        await until(lambda: "other" not in layer.channels)
        gate.set()

    assert await next_seen() == ["done"]
    assert seen.empty()
    assert waiting(layer) == 1
    assert caplog.records == []


async def test_handlers_that_do_not_finish_in_time_are_cancelled(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    async with running(layer, shutdown_timeout=0.05):
        await send(layer, 1, type="wait")
        assert await next_seen() == [1]

    assert caplog.messages == [CANCELLED]


async def test_a_handler_in_a_thread_does_not_keep_the_worker(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    started, go = threading.Event(), threading.Event()

    class Stuck(SyncConsumer):
        def job(self, message: dict[str, Any]) -> None:
            started.set()
            go.wait(PATIENCE)

    try:
        async with running(layer, Stuck.as_asgi(), shutdown_timeout=0.05):
            await send(layer, 1)
            await until(started.is_set)
    finally:
        go.set()

    assert caplog.messages == [CANCELLED]


async def test_the_first_signal_waits_for_handlers_and_the_second_cancels_them(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, logger="django.channels.worker")
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    worker = Worker(Recorder.as_asgi(), ["work"], layer)
    task = asyncio.create_task(worker.arun())
    await send(layer, 1, type="wait")
    assert await next_seen() == [1]

    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: "Stopping; once more to cancel the handlers that still run" in caplog.messages)
    assert not task.done()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(task, PATIENCE)

    assert caplog.messages[-1] == CANCELLED
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_cancelling_the_worker_cancels_its_handlers(layer: InMemoryChannelLayer):
    task = asyncio.create_task(Worker(Recorder.as_asgi(), ["work"], layer).arun())
    await send(layer, 1, type="wait")
    assert await next_seen() == [1]

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)
    assert len(asyncio.all_tasks()) == 1


def test_a_worker_runs_in_a_thread_and_is_stopped_from_another_one():
    layer, handled = InMemoryChannelLayer(), threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        handled.set()

    worker = Worker(application, ["work"], layer)
    thread = threading.Thread(target=worker.run)
    thread.start()
    asyncio.run(send(layer, 1))
    assert handled.wait(PATIENCE)

    worker.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    worker.stop()


def test_a_worker_that_was_stopped_before_does_not_begin():
    worker = Worker(Recorder.as_asgi(), ["work"], InMemoryChannelLayer())
    worker.stop()
    worker.run()


# Written for Channels -----------------------------------------------------------------------------------------


class Foreign(BaseChannelLayer):
    """Another layer: only the contract."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[str, asyncio.Queue[Any]] = {}

    def queue(self, channel: str) -> asyncio.Queue[Any]:
        return self.queues.setdefault(channel, asyncio.Queue())

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        await self.queue(channel).put(message)

    async def receive(self, channel: str) -> dict[str, Any]:
        return await self.queue(channel).get()  # type: ignore[no-any-return]

    async def new_channel(self) -> str:
        return "foreign!1"


async def test_a_layer_and_a_subclass_that_know_only_the_contract():
    failures: list[tuple[str, str]] = []

    class Custom(Worker):
        async def listener(self, channel: str) -> None:
            while True:
                message = await self.channel_layer.receive(channel)
                scope = {"type": "channel", "channel": channel, "custom": True}
                self.get_or_create_application_instance(channel, scope).put_nowait(message)

        async def application_exception(self, exception: BaseException, application_details: Any) -> None:
            failures.append((str(exception), application_details["scope"]["channel"]))

    layer = Foreign()
    channel_layers.set("default", layer)
    await send(layer, 1)
    await send(layer, 2, type="fail")
    await send(layer, 3, 4)
    worker = Custom(Recorder.as_asgi(), ["work"], layer)
    task = asyncio.create_task(worker.arun())
    consumers = [await asyncio.wait_for(seen.get(), PATIENCE) for _ in range(3)]
    worker.stop()
    await asyncio.wait_for(task, PATIENCE)

    assert [n for _, n in consumers] == [1, 3, 4]
    assert consumers[0][0].scope == {"type": "channel", "channel": "work", "custom": True}
    assert failures == [("no luck with 2", "work")]


async def test_a_queue_waits_for_an_instance_is_bounded_and_says_when_it_is_closed(layer: InMemoryChannelLayer):
    worker = Worker(Recorder.as_asgi(), ["work"], layer)
    queue = worker.get_or_create_application_instance("work", {"type": "channel", "channel": "work"})
    await queue.put({"type": "wait", "n": 1})
    assert await next_seen() == [1]
    second = asyncio.create_task(queue.put({"type": "job", "n": 2}))
    await asyncio.sleep(0)
    assert queue.qsize() == 0
    assert worker.get_or_create_application_instance("work", {}) is queue
    gate.set()
    await asyncio.wait_for(second, PATIENCE)
    assert await next_seen(2) == ["done", 2]

    worker.delete_application_instance("work")
    with pytest.raises(RuntimeError, match=r"^this queue was closed: ask get_or_create_application_instance"):
        queue.put_nowait({"type": "job"})
    await until(lambda: not queue.instances)

    small = InputQueue(maxsize=2)
    small.put_nowait({})
    small.put_nowait({})
    with pytest.raises(asyncio.QueueFull):
        small.put_nowait({})
