"""A clock that a test moves: what goes by it, in which order, and what does not."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from asgiref.sync import async_to_sync, sync_to_async
from django.test import SimpleTestCase, override_settings
from tests.fairway.layers.doubles import new_member, waiting
from tests.services.redis import RedisServer

from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from channels.testing import ApplicationCommunicator, HttpCommunicator, WebsocketCommunicator
from fairway import AsyncGroupsMixin
from fairway.generic.sse import ServerSentEventsConsumer
from fairway.layers.backplane import Unavailable
from fairway.layers.engine import Engine
from fairway.layers.layer import BackplaneLayer
from fairway.layers.redis import RedisChannelLayer
from fairway.layers.sync import history, presence
from fairway.testing import VirtualClock
from fairway.testing.in_process import InProcessBackplane
from fairway.testing.pytest import virtual_clock  # noqa: F401  # the fixture
from fairway.timing import source

HISTORY = {"chat.*": {"size": 10, "seconds": 300}}


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer(history=HISTORY, linger=3, expiry=60, group_expiry=1000)
    previous = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", previous)


# Layers -------------------------------------------------------------------------------------------------------------


async def test_histories_expire(layer: InMemoryChannelLayer) -> None:
    with VirtualClock() as clock:
        await layer.group_send("chat.a", {"type": "said", "text": "old"})
        position = (await layer.history("chat.a")).top
        await clock.advance(200)
        await layer.group_send("chat.a", {"type": "said", "text": "new"})

        await clock.advance(99.9)
        assert [event["text"] for event in (await layer.history("chat.a")).messages] == ["old", "new"]
        await clock.advance(0.1)
        assert [event["text"] for event in (await layer.history("chat.a")).messages] == ["new"]

        assert (await layer.group_join("chat.a", "x!1", since=position)).recovered
        assert (await layer.group_join("chat.a", "x!2", since="all")).count == 1


async def test_a_time_of_day_is_that_of_the_clock(layer: InMemoryChannelLayer) -> None:
    with VirtualClock() as clock:
        assert abs(clock.time() - time.time()) < 1
        await layer.group_send("chat.a", {"type": "said", "text": "before the login"})
        await clock.advance(10)
        login = clock.datetime()
        await clock.advance(10)
        await layer.group_send("chat.a", {"type": "said", "text": "after it"})

        recovery = await layer.group_join("chat.a", "x!1", since="all", not_before=login)
        assert recovery.count == 1
        assert [event["text"] for event in (await layer.history("chat.a", after=login)).messages] == ["after it"]


async def test_memberships_and_unread_messages_expire(layer: InMemoryChannelLayer) -> None:
    with VirtualClock() as clock:
        await layer.group_add("room", "x!1")
        await layer.send("x!2", {"type": "unread"})
        await clock.advance(61)
        await layer.group_send("room", {"type": "said"})
        assert await layer.receive("x!1") == {"type": "said"}
        assert layer.hub.take("x!2") is None
        await clock.advance(1000)
        await layer.group_send("room", {"type": "said"})
        assert layer.hub.take("x!1") is None


class Lobby(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        await self.track("lobby", {"name": self.scope["name"]}, key=self.scope["name"])

    async def presence_diff(self, event: dict[str, Any]) -> None:
        await self.send_json({"joined": list(event["joined"]), "left": list(event["left"])})


async def in_lobby(name: str) -> WebsocketCommunicator:
    client = WebsocketCommunicator(Lobby.as_asgi(), "/")
    client.scope["name"] = name
    await client.connect()
    return client


async def test_who_has_left_lingers(layer: InMemoryChannelLayer) -> None:
    with VirtualClock() as clock:
        mira = await in_lobby("mira")
        tom = await in_lobby("tom")
        assert await mira.receive_nothing(0.02)  # what changes is gathered for a moment
        await clock.advance(0.1)
        assert await mira.receive_json_from() == {"joined": ["tom"], "left": []}

        await tom.disconnect()
        await clock.advance(2.5)
        tom = await in_lobby("tom")  # the page was loaded again
        await clock.advance(60)
        assert await mira.receive_nothing(0.02)

        await tom.disconnect()
        await clock.advance(2.9)
        assert await mira.receive_nothing(0.02)
        assert (await layer.presence.members("lobby")).keys() == {"mira", "tom"}
        await clock.advance(0.2)
        assert await mira.receive_json_from() == {"joined": [], "left": ["tom"]}
        assert (await layer.presence.members("lobby")).keys() == {"mira"}
        await mira.disconnect()


async def test_the_lease_of_a_process_ends() -> None:
    engine = Engine()
    layers = [BackplaneLayer(lambda: InProcessBackplane(engine), lease=5, linger=1) for _ in range(2)]
    with VirtualClock() as clock:
        for layer, name in zip(layers, ("mira", "tom"), strict=True):
            member = new_member(layer.hub, f"x.{layer.node.name}!{name}")
            await layer.presence.track("room", member.name, {}, name, hears=["presence.diff"])
        await clock.advance(30)
        assert (await layers[0].presence.members("room")).keys() == {"mira", "tom"}

        session = layers[1].node.home.session
        assert session is not None
        assert isinstance(session.backplane, InProcessBackplane)
        session.backplane.lose(Unavailable("killed"))
        await clock.advance(3.9)
        assert (await layers[0].presence.members("room")).keys() == {"mira", "tom"}
        await clock.advance(3)
        assert (await layers[0].presence.members("room")).keys() == {"mira"}
        heard = waiting(next(iter(layers[0].hub.channels.values())))  # type: ignore[arg-type]
        assert [name for event in heard for name in event["left"]] == ["tom"]
        for layer in layers:
            await layer.close()


@pytest.mark.slow
async def test_a_service_keeps_its_own_time(redis: RedisServer) -> None:
    """Over Redis, linger goes by the clock. Leases and histories do not, nor does what waits for an answer."""
    options: dict[str, Any] = {"hosts": [redis.url], "prefix": os.urandom(8).hex(), "history": HISTORY, "linger": 3}
    here, elsewhere = RedisChannelLayer(lease=1, **options), RedisChannelLayer(**options)
    channel_layers.set("default", here)
    try:
        with VirtualClock() as clock:
            mira, tom = await in_lobby("mira"), await in_lobby("tom")
            await here.group_send("chat.a", {"type": "said"})
            await clock.advance(3600)
            await asyncio.sleep(1.2)  # longer than the lease, which is renewed in the meantime
            assert (await elsewhere.presence.members("lobby")).keys() == {"mira", "tom"}
            assert len((await elsewhere.history("chat.a")).messages) == 1
            await tom.disconnect()
            await clock.advance(2.9)
            assert (await elsewhere.presence.members("lobby")).keys() == {"mira", "tom"}
            await clock.advance(0.2)
            async with asyncio.timeout(20):
                while (await elsewhere.presence.members("lobby")).keys() != {"mira"}:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await mira.disconnect()
    finally:
        await here.close()
        await elsewhere.close()


# Applications -------------------------------------------------------------------------------------------------------


class Sleeper(AsyncConsumer):
    """It says what it does, and at which time of its loop."""

    async def go(self, message: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def say(what: str) -> None:
            await self.send({"type": what, "after": round(loop.time() - began, 6)})

        async def tick() -> None:
            for _ in range(3):
                await asyncio.sleep(2)
                await say("tick")

        ticking = loop.create_task(tick())
        loop.call_later(3, lambda: loop.create_task(say("timer")))
        with_cancel = loop.call_later(3, lambda: loop.create_task(say("never")))
        with_cancel.cancel()
        try:
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        except TimeoutError:
            await say("timed out")
        await asyncio.wait({loop.create_future()}, timeout=0.5)
        await say("waited")
        await ticking


async def said(client: ApplicationCommunicator) -> list[tuple[str, float]]:
    return [(one["type"], one["after"]) for one in [await client.receive_output() for _ in range(6)]]


EVERYTHING = [("tick", 2), ("timer", 3), ("tick", 4), ("timed out", 5), ("waited", 5.5), ("tick", 6)]


async def advanced() -> list[tuple[str, float]]:
    with VirtualClock() as clock:
        client = ApplicationCommunicator(Sleeper.as_asgi(), {"type": "test"})
        await client.send_input({"type": "go"})
        await clock.advance(6)
        everything = await said(client)
        client.stop()
    return everything


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_application_waits_for_the_clock(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(advanced()) == EVERYTHING


async def test_what_is_due_exactly_then_is_due_however_numbers_are_rounded(layer: InMemoryChannelLayer) -> None:
    ticks: list[float] = []

    async def tick(pause: float) -> None:
        for _ in range(100):
            await asyncio.sleep(pause)
            ticks.append(pause)

    with VirtualClock() as clock:
        for pause in (0.1, 0.3, 0.7, 1.1, 3.3):
            task = clock.start(tick(pause))
            await clock.advance(100 * pause)
            assert ticks.count(pause) == 100
            await task
        for part in (0.1, 0.7, 33.3):
            await layer.group_send("chat.a", {"type": "said"})
            for _ in range(3):
                await clock.advance(part)
            await clock.advance(300 - 3 * part)
            assert (await layer.history("chat.a")).messages == []


async def test_nothing_happens_before_its_time() -> None:
    with VirtualClock() as clock:
        client = ApplicationCommunicator(Sleeper.as_asgi(), {"type": "test"})
        await client.send_input({"type": "go"})
        await clock.advance(1.999)
        assert await client.receive_nothing(0.02)
        await clock.advance(0.001)
        assert (await client.receive_output())["type"] == "tick"
        client.stop()


async def test_the_test_itself_waits_in_real_time() -> None:
    """Otherwise it would wait for a clock that only itself can move."""
    with VirtualClock() as clock:
        client = ApplicationCommunicator(Sleeper.as_asgi(), {"type": "test"})
        await client.send_input({"type": "go"})
        with pytest.raises(TimeoutError):
            await asyncio.gather(client.receive_output(timeout=0.01))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        await asyncio.sleep(0.001)
        assert clock.monotonic() == clock.monotonic()


class Threaded(JsonWebsocketConsumer):
    def receive_json(self, content: Any, **kwargs: Any) -> None:
        async_to_sync(self.channel_layer.group_add)("room", self.channel_name)
        time.sleep(0.02)
        self.send_json({"done": content})

    def late(self, event: dict[str, Any]) -> None:
        self.send_json({"late": True})


async def test_advance_waits_for_threads(layer: InMemoryChannelLayer) -> None:
    with VirtualClock() as clock:
        client = WebsocketCommunicator(Threaded.as_asgi(), "/")
        await client.connect()
        await client.send_json_to("it")
        await clock.advance(0)
        assert client.output_queue.qsize() == 1
        assert await client.receive_json_from() == {"done": "it"}
        await client.disconnect()


async def test_a_task_of_the_test_goes_by_the_clock_if_asked_to() -> None:
    ticks: list[int] = []

    async def tick() -> int:
        while len(ticks) < 3:
            await asyncio.sleep(60)
            ticks.append(len(ticks))
        return len(ticks)

    with VirtualClock() as clock:
        task = clock.start(tick())
        await clock.advance(121)
        assert ticks == [0, 1]
        await clock.advance(59)
        assert await task == 3


class Events(ServerSentEventsConsumer):
    heartbeat = 15


async def test_a_stream_of_events_beats() -> None:
    with VirtualClock() as clock:
        client = HttpCommunicator(Events.as_asgi(), "GET", "/")
        await client.send_input({"type": "http.request", "body": b""})
        for _ in range(2):
            await client.receive_output()  # headers, and the first comment
        await clock.advance(14)
        assert await client.receive_nothing(0.02)
        await clock.advance(31)
        assert [(await client.receive_output())["body"] for _ in range(3)] == [b":\n\n"] * 3
        await client.send_input({"type": "http.disconnect"})
        await client.wait()


# Beginning and end --------------------------------------------------------------------------------------------------


async def test_what_waits_goes_on_in_real_time_when_the_clock_ends(layer: InMemoryChannelLayer) -> None:
    loop = asyncio.get_running_loop()
    own = dict(loop.__dict__)
    with VirtualClock() as clock:
        waiting = clock.start(asyncio.sleep(10, "done"))
        cancelled = clock.start(asyncio.sleep(10))
        await clock.advance(9.99)
        cancelled.cancel()
    assert loop.__dict__ == own
    assert await waiting == "done"
    assert cancelled.cancelled()
    client = ApplicationCommunicator(Sleeper.as_asgi(), {"type": "test"})  # it goes by the system's clock again
    await client.send_input({"type": "go"})
    assert await client.receive_nothing(0.02)
    client.stop()


async def test_time_never_goes_back(layer: InMemoryChannelLayer) -> None:
    before = source.monotonic()
    with VirtualClock() as clock:
        assert clock.monotonic() >= before
        await clock.advance(1000)
        after = clock.monotonic()
    assert source.monotonic() >= after
    with VirtualClock() as clock:
        assert clock.monotonic() >= after


async def test_there_is_one_clock_and_it_moves_forward() -> None:
    async with VirtualClock() as clock:
        with pytest.raises(RuntimeError, match="another clock is in force: end it first"):
            VirtualClock().__enter__()
        for seconds in (-1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="a clock moves forward, not by"):
                await clock.advance(seconds)


@pytest.mark.parametrize("pause", [0.0, 1e-30])
async def test_an_application_that_never_rests_does_not_hang_the_test(
    monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(pause)

    monkeypatch.setattr("fairway.testing.clock.PATIENCE", 50)
    with VirtualClock() as clock:
        task = clock.start(spin())
        await clock.advance(1)
        task.cancel()


# In the tests of a project ------------------------------------------------------------------------------------------


async def test_it_is_a_fixture(virtual_clock: VirtualClock, layer: InMemoryChannelLayer) -> None:  # noqa: F811
    client = await in_lobby("mira")
    await client.disconnect()
    await virtual_clock.advance(2.9)
    assert await layer.presence.count("lobby") == 1
    await virtual_clock.advance(0.1)
    assert await layer.presence.count("lobby") == 0


LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"history": HISTORY}}}


@override_settings(CHANNEL_LAYERS=LAYERS)
class DjangoTests(SimpleTestCase):
    def setUp(self) -> None:
        self.clock = self.enterContext(VirtualClock())

    async def test_an_asynchronous_test_has_it(self) -> None:
        client = await in_lobby("mira")
        assert (await sync_to_async(presence)("lobby")).keys() == {"mira"}
        await client.disconnect()
        await self.clock.advance(2.9)
        assert (await sync_to_async(presence)("lobby")).keys() == {"mira"}
        await self.clock.advance(0.1)
        assert await sync_to_async(presence)("lobby") == {}

    def test_a_synchronous_test_has_it(self) -> None:
        layer = get_channel_layer()
        async_to_sync(layer.group_send)("chat.a", {"type": "said"})
        self.clock.skip(299)
        assert len(history("chat.a").messages) == 1
        self.clock.skip(1)
        assert history("chat.a").messages == []
