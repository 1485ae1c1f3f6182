"""The layer over a backplane, as several processes use it: over the engine, a real Redis, and a real local broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from tests.fairway.layers.doubles import FakeConnection, new_member, waiting
from tests.fairway.loops import LoopThread
from tests.services.local import running_broker
from tests.services.redis import RedisServer

from fairway.delivery import Inbox, Member, Payload, SlowPolicy, process_statistics
from fairway.layers.background import background
from fairway.layers.backplane import FOLLOWERS, Followers, NotAble, Unavailable
from fairway.layers.engine import Engine
from fairway.layers.errors import ChannelFull, MessageTooLarge
from fairway.layers.hub_layer import hub_of
from fairway.layers.layer import BackplaneLayer
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.place import Place, given_place
from fairway.layers.node import put_back
from fairway.layers.redis import RedisChannelLayer
from fairway.testing.in_process import InProcessBackplane
from fairway.timing import source

DEADLINE = 20.0

NewLayer = Callable[..., BackplaneLayer]


@pytest.fixture(scope="module")
def local_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = given_place(str(tmp_path_factory.mktemp("local") / "broker.sock"))
    with running_broker(place):
        yield place


@pytest.fixture
async def new_layer(request: pytest.FixtureRequest, which: str) -> AsyncIterator[NewLayer]:
    """Makes layers that share a service, each as if it were in a process of its own."""
    layers: list[BackplaneLayer] = []
    engine = Engine()
    redis: RedisServer | None = None
    if which == "redis":
        redis = request.getfixturevalue("redis")
        with redis.client() as client:
            client.flushall()

    place: Place | None = request.getfixturevalue("local_broker") if which == "local" else None
    prefix = os.urandom(8).hex()

    def make(**options: Any) -> BackplaneLayer:
        if place is not None:
            layers.append(LocalChannelLayer(socket=place.path, prefix=prefix, **options))
        elif redis is not None:
            layers.append(RedisChannelLayer(hosts=[redis.url], **options))
        else:
            layers.append(BackplaneLayer(lambda: InProcessBackplane(engine), **options))
        return layers[-1]

    yield make
    for layer in layers:
        await layer.close()


@pytest.fixture(params=["engine", "redis", "local"])
def which(request: pytest.FixtureRequest) -> str:
    return request.param


async def until(condition: Callable[[], Any]) -> None:
    """For what tells nobody when it changes."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def received(layer: BackplaneLayer, channel: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE):
        return await layer.receive(channel)


# Channels -----------------------------------------------------------------------------------------------------


async def test_a_channel_is_reached_from_every_process(new_layer: NewLayer) -> None:
    here, there = new_layer(), new_layer()
    name = await here.new_channel()
    await here.send(name, {"type": "a", "from": "here"})
    await there.send(name, {"type": "a", "from": "there"})

    assert await received(here, name) == {"type": "a", "from": "here"}
    assert await received(here, name) == {"type": "a", "from": "there"}


async def test_names_are_those_of_channels_redis(new_layer: NewLayer) -> None:
    layer, other = new_layer(), new_layer()
    names = [await layer.new_channel() for _ in range(3)] + [
        await layer.new_channel("mine"),
        await layer.new_channel("x."),
    ]

    assert all(re.fullmatch(r"specific\.[0-9a-f]{16}![0-9a-f]{16}", name) for name in names[:3])
    assert len(set(names)) == 5
    assert names[3].startswith(f"mine.{layer.node.name}!")
    assert names[4].startswith(f"x.{layer.node.name}!")
    assert layer.valid_channel_names(names)
    assert layer.node.name != other.node.name


async def test_a_message_arrives_as_it_would_elsewhere_also_in_the_same_process(new_layer: NewLayer) -> None:
    layer = new_layer()
    name = await layer.new_channel()
    message = {"type": "a", "pair": (1, 2)}
    await layer.send(name, message)

    assert await received(layer, name) == {"type": "a", "pair": [1, 2]}
    with pytest.raises(TypeError, match=r"^event\['who'\]: a object cannot be sent"):
        await layer.send(name, {"type": "a", "who": object()})


async def test_a_full_channel_of_this_process_is_said_to_be_full(new_layer: NewLayer) -> None:
    layer = new_layer(capacity=2)
    name = await layer.new_channel()
    await layer.send(name, {"type": "a"})
    await layer.send(name, {"type": "a"})

    with pytest.raises(ChannelFull, match=re.escape(name)):
        await layer.send(name, {"type": "a"})


async def test_a_full_channel_of_another_process_misses_the_message_which_is_counted(new_layer: NewLayer) -> None:
    here, there = new_layer(capacity=2), new_layer()
    name = await here.new_channel()
    for number in range(3):
        await there.send(name, {"type": "a", "number": number})

    await until(lambda: here.hub.dropped == 1)
    assert [(await received(here, name))["number"] for _ in range(2)] == [0, 1]


async def test_only_its_own_process_receives_from_a_channel(new_layer: NewLayer) -> None:
    here, there = new_layer(), new_layer()
    name = await here.new_channel()

    with pytest.raises(AssertionError, match=f"^{re.escape(name)} belongs to another process, which alone can receive"):
        await there.receive(name)


async def test_a_channel_of_a_process_that_is_gone_is_no_error(new_layer: NewLayer) -> None:
    here, there = new_layer(), new_layer()
    name = await here.new_channel()
    await here.close()
    await there.send(name, {"type": "a"})
    await there.group_add("room", name)
    await there.group_discard("room", name)


@pytest.mark.parametrize(
    ("name", "message", "error"),
    [
        ("¯\\_(ツ)_/¯", {"type": "a"}, TypeError),
        ("x" * 100, {"type": "a"}, TypeError),
        ("fine", "text", AssertionError),
        ("fine", {"type": "a", "__asgi_channel__": "b"}, AssertionError),
    ],
)
async def test_bad_names_and_messages_are_errors(
    new_layer: NewLayer, name: str, message: Any, error: type[Exception]
) -> None:
    layer = new_layer()
    for call in (layer.send, layer.group_send):
        with pytest.raises(error):
            await call(name, message)


async def test_a_message_that_is_too_large_is_an_error_of_the_sender(new_layer: NewLayer) -> None:
    layer = new_layer(max_message_size=1000)
    name = await layer.new_channel()
    await layer.group_add("room", name)
    for call, target in ((layer.send, name), (layer.send, "queue"), (layer.group_send, "room")):
        with pytest.raises(MessageTooLarge, match="max_message_size"):
            await call(target, {"type": "a", "text": "x" * 2000})


async def test_a_cancelled_receive_loses_nothing(new_layer: NewLayer) -> None:
    here, there = new_layer(), new_layer()
    name = await here.new_channel()
    task = asyncio.ensure_future(here.receive(name))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await there.send(name, {"type": "a"})

    assert await received(here, name) == {"type": "a"}


# Queues -------------------------------------------------------------------------------------------------------


async def test_a_queue_is_read_by_whichever_process_waits(new_layer: NewLayer) -> None:
    sender, one, two = new_layer(), new_layer(), new_layer()
    await sender.send("work", {"type": "a", "number": 0})
    assert await received(one, "work") == {"type": "a", "number": 0}
    pulling = asyncio.ensure_future(two.receive("work"))
    await sender.send("work", {"type": "a", "number": 1})
    async with asyncio.timeout(DEADLINE):
        assert await pulling == {"type": "a", "number": 1}


async def test_a_full_queue_is_said_to_be_full(new_layer: NewLayer) -> None:
    layer = new_layer(channel_capacity={"small*": 1})
    await layer.send("small-work", {"type": "a"})

    with pytest.raises(ChannelFull, match=r"^small-work$"):
        await layer.send("small-work", {"type": "a"})


async def test_what_expires_in_a_queue_is_not_read(new_layer: NewLayer) -> None:
    layer = new_layer(expiry=0.01)
    await layer.send("work", {"type": "a", "number": 0})
    await asyncio.sleep(0.05)
    layer.expiry = 60
    await layer.send("work", {"type": "a", "number": 1})

    assert (await received(layer, "work"))["number"] == 1


async def test_a_queue_in_a_group_gets_what_is_sent_to_it_wherever_from(new_layer: NewLayer) -> None:
    early, adder, worker = new_layer(), new_layer(), new_layer()
    member = await early.new_channel()
    await early.group_add("room", member)
    await early.group_send("room", {"type": "before"})
    await adder.group_add("room", "work")
    await adder.group_send("room", {"type": "a"})
    await new_layer().group_send("room", {"type": "from who started later"})
    await adder.group_broadcast("room", "text")
    await adder.group_broadcast("room", "for others", exclude=["work"])
    # Those that have started before hear of it.
    await until(lambda: not early.node.followers.is_idle)
    await early.group_send("room", {"type": "last"})

    assert [(await received(worker, "work")) for _ in range(4)] == [
        {"type": "a"},
        {"type": "from who started later"},
        Payload("text", None).as_message(),
        {"type": "last"},
    ]
    assert [(await received(early, member))["type"] for _ in range(3)] == ["before", "a", "from who started later"]


async def test_a_queue_that_is_taken_out_of_a_group_gets_nothing_more(new_layer: NewLayer) -> None:
    one, two = new_layer(), new_layer()
    for layer in (one, two):
        await layer.group_send("room", {"type": "nobody"})
    for layer in (one, two):
        await layer.group_add("room", "work")
    await one.group_discard("room", "work")
    await one.group_discard("room", "never-in-it")
    await until(lambda: two.node.followers.is_idle)
    for layer in (one, two, new_layer()):
        await layer.group_send("room", {"type": "nobody"})
    await one.send("work", {"type": "direct"})
    assert (await received(two, "work"))["type"] == "direct"


async def test_a_queue_leaves_a_group_when_its_time_is_over_and_when_all_is_flushed(new_layer: NewLayer) -> None:
    one, two = new_layer(group_expiry=0.02), new_layer()
    await two.group_send("room", {"type": "nobody"})
    await one.group_add("room", "work")
    await asyncio.sleep(0.05)
    await two.group_add("hall", "work")
    await one.flush()
    await until(lambda: two.node.followers.is_idle)
    for layer in (one, two, new_layer()):
        for group in ("room", "hall"):
            await layer.group_send(group, {"type": "nobody"})
    await one.send("work", {"type": "direct"})
    assert (await received(two, "work"))["type"] == "direct"


async def test_a_full_queue_misses_what_is_sent_to_its_groups_which_is_counted(
    new_layer: NewLayer, caplog: pytest.LogCaptureFixture
) -> None:
    layer = new_layer(channel_capacity={"small": 1})
    for queue in ("small", "large"):
        await layer.group_add("room", queue)
    for number in range(3):
        await layer.group_send("room", {"type": "a", "number": number})

    assert layer.hub.dropped == 2
    assert "1 of 2 channels over capacity in group room" in caplog.messages
    assert [(await received(layer, "large"))["number"] for _ in range(3)] == [0, 1, 2]
    assert (await received(layer, "small"))["number"] == 0


# Groups -------------------------------------------------------------------------------------------------------


async def test_a_group_has_members_in_several_processes(new_layer: NewLayer) -> None:
    layers = [new_layer() for _ in range(3)]
    names = [await layer.new_channel() for layer in layers for _ in range(2)]
    for layer, name in zip([layer for layer in layers for _ in range(2)], names, strict=True):
        await layer.group_add("room", name)
    await layers[0].group_send("room", {"type": "a", "number": 1})
    for index, name in enumerate(names):
        assert await received(layers[index // 2], name) == {"type": "a", "number": 1}

    await layers[1].group_discard("room", names[2])
    await layers[2].group_send("room", {"type": "a", "number": 2})
    assert (await received(layers[1], names[3]))["number"] == 2
    await layers[1].send(names[2], {"type": "direct"})
    assert (await received(layers[1], names[2]))["type"] == "direct"


async def test_a_send_is_one_publish_whatever_the_members(new_layer: NewLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Those messages would count, too, where the machine is slow.
    monkeypatch.setattr("fairway.layers.session.MEASURE_EVERY", 3600.0)
    sender, here = new_layer(), new_layer()
    members = [new_member(here.hub, await here.new_channel()) for _ in range(100)]
    for member in members:
        await here.group_add("room", member.name)
    published = sender.node.statistics.published
    await sender.group_send("room", {"type": "a"})
    await until(lambda: all(member.inbox.layer_size for member in members))

    assert sender.node.statistics.published == published + 1
    assert here.node.statistics.received == 1


async def test_the_sender_sees_the_order_that_all_see(new_layer: NewLayer) -> None:
    one, two = new_layer(capacity=1000), new_layer(capacity=1000)
    names = [await one.new_channel(), await two.new_channel()]
    await one.group_add("room", names[0])
    await two.group_add("room", names[1])

    async def send(layer: BackplaneLayer, who: str) -> None:
        for number in range(50):
            await layer.group_send("room", {"type": "a", "what": f"{who}{number}"})
            await asyncio.sleep(0)

    await asyncio.gather(send(one, "a"), send(two, "b"))
    orders = [
        [(await received(layer, name))["what"] for _ in range(100)]
        for layer, name in ((one, names[0]), (two, names[1]))
    ]
    assert orders[0] == orders[1]


async def test_a_channel_of_another_process_can_be_added_and_taken_out(new_layer: NewLayer) -> None:
    here, there, sender = new_layer(), new_layer(), new_layer()
    name = await here.new_channel()
    await there.group_add("room", name)
    await sender.group_send("room", {"type": "a", "number": 1})
    assert (await received(here, name))["number"] == 1

    await there.group_discard("room", name)
    assert here.hub.groups == {}
    await sender.group_send("room", {"type": "a", "number": 2})
    await sender.send(name, {"type": "last"})
    assert (await received(here, name))["type"] == "last"


async def test_what_is_sent_after_the_last_member_has_left_reaches_nobody_who_joins_later(new_layer: NewLayer) -> None:
    here, there = new_layer(), new_layer()
    name = await here.new_channel()
    for number in range(20):
        await here.group_add("room", name)
        await there.group_send("room", {"type": "a", "number": number})
        assert (await received(here, name))["number"] == number
        await here.group_discard("room", name)


async def test_a_storm_of_joins_waits_together(new_layer: NewLayer) -> None:
    here, there = new_layer(), new_layer()
    names = [await here.new_channel() for _ in range(300)]
    await asyncio.gather(*(here.group_add(f"user.{index % 150}", name) for index, name in enumerate(names)))
    for index in range(150):
        await there.group_send(f"user.{index}", {"type": "a", "number": index})
    for index, name in enumerate(names):
        assert (await received(here, name))["number"] == index % 150


@pytest.mark.parametrize("which", ["engine", "redis"], indirect=True)
async def test_who_joins_and_leaves_while_the_link_flaps_is_where_it_was_told(
    new_layer: NewLayer, which: str, request: pytest.FixtureRequest
) -> None:
    """Calls that raise have changed nothing, and those that return hold, over ten losses of the link."""
    here, there = new_layer(outage_wait=5.0) if which == "redis" else new_layer(), new_layer()
    channels = [await here.new_channel() for _ in range(20)]
    groups = [f"group.{number}" for number in range(50)]
    chance = random.Random(14)
    expected: dict[str, set[str]] = {channel: set() for channel in channels}

    async def churn(channel: str) -> None:
        for _ in range(60):
            group = chance.choice(groups)
            with contextlib.suppress(Unavailable):
                if chance.random() < 0.6:
                    await here.group_add(group, channel)
                    expected[channel].add(group)
                else:
                    await here.group_discard(group, channel)
                    expected[channel].discard(group)
            await asyncio.sleep(0)

    async def flap() -> None:
        session = here.node.home.session
        assert session is not None
        for _ in range(10):
            if isinstance(session.backplane, InProcessBackplane):
                session.backplane.lose(Unavailable("flap"))
                await asyncio.sleep(0)
                session.backplane.recover()
            else:
                with request.getfixturevalue("redis").client() as client:
                    client.client_kill_filter(_type="pubsub", skipme=True)
            await asyncio.sleep(0.002)

    await asyncio.gather(flap(), *map(churn, channels))
    await until(lambda: here.is_up() and there.is_up())
    for group in groups:
        await there.group_send(group, {"type": "said", "group": group})
    for channel in channels:
        await there.send(channel, {"type": "end"})
        heard = []
        while (event := await received(here, channel))["type"] != "end":
            heard.append(event["group"])
        assert sorted(heard) == sorted(expected[channel])


async def test_members_that_are_full_miss_what_the_others_get(new_layer: NewLayer) -> None:
    here, there = new_layer(capacity=3), new_layer()
    full, empty = await here.new_channel(), await here.new_channel()
    for name in (full, empty):
        await here.group_add("room", name)
    for number in range(5):
        await there.group_send("room", {"type": "a", "number": number})
        assert (await received(here, empty))["number"] == number
    assert [(await received(here, full))["number"] for _ in range(3)] == [0, 1, 2]
    assert here.hub.dropped == 2


async def test_a_membership_expires(new_layer: NewLayer) -> None:
    here = new_layer(group_expiry=0.01)
    name = await here.new_channel()
    await here.group_add("room", name)
    await asyncio.sleep(0.05)
    await here.group_send("room", {"type": "a"})
    await here.send(name, {"type": "last"})

    assert (await received(here, name))["type"] == "last"
    assert here.hub.groups == {}


async def test_a_message_that_expires_unread_ends_no_membership(new_layer: NewLayer) -> None:
    here = new_layer(expiry=0.01)
    name = await here.new_channel()
    await here.group_add("room", name)
    await here.send(name, {"type": "old"})
    await asyncio.sleep(0.05)
    here.expiry = 60
    await here.group_send("room", {"type": "new"})

    assert (await received(here, name))["type"] == "new"


async def test_flush_ends_the_groups_of_every_process_and_empties_the_queues(new_layer: NewLayer) -> None:
    here, there = new_layer(), new_layer()
    name = await here.new_channel()
    await here.group_add("room", name)
    await here.send("work", {"type": "old"})
    await there.flush()

    await until(lambda: here.hub.groups == {})
    await here.send("work", {"type": "new"})
    assert (await received(here, "work"))["type"] == "new"


# Broadcasts ---------------------------------------------------------------------------------------------------


async def test_a_broadcast_is_written_to_the_sockets_of_every_process(new_layer: NewLayer) -> None:
    sender, here = new_layer(), new_layer(slow_consumers={"room": "drop-oldest"})
    inbox = Inbox(asyncio.get_running_loop())
    connection = FakeConnection(inbox)
    member = Member(await here.new_channel(), inbox, 100, connection)
    here.hub.attach(member)
    other = new_member(here.hub, await here.new_channel())
    for name in (member.name, other.name):
        await here.group_add("room", name)
    inbox.wait()
    await sender.group_broadcast("room", "text", exclude=other.name)
    await sender.group_broadcast_json("room", {"b": 1})
    await sender.group_broadcast("room", bytes_data=b"bytes")

    await until(lambda: len(connection.payloads) == 3)
    assert [(payload.text, payload.data) for payload in connection.payloads] == [
        ("text", None),
        ('{"b": 1}', None),
        (None, b"bytes"),
    ]
    assert {(payload.policy, payload.group) for payload in connection.payloads} == {(SlowPolicy.DROP_OLDEST, "room")}
    assert [payload.text for payload in waiting(other) if type(payload) is Payload] == ['{"b": 1}', None]


async def test_a_broadcast_is_either_text_or_bytes(new_layer: NewLayer) -> None:
    with pytest.raises(ValueError, match="either text or bytes"):
        await new_layer().group_broadcast("room")


async def test_consumers_are_reached_through_the_hub_unless_a_subclass_sees_to_it(new_layer: NewLayer) -> None:
    class Own(BackplaneLayer):
        async def group_send(self, group: str, message: dict[str, Any]) -> None: ...

    layer = new_layer()
    assert hub_of(layer) is layer.hub
    assert hub_of(Own(lambda: InProcessBackplane(Engine()))) is None


# Encryption ---------------------------------------------------------------------------------------------------


async def test_with_keys_everything_arrives_and_nobody_reads_it_on_its_way(new_layer: NewLayer) -> None:
    here, there, without = (new_layer(symmetric_encryption_keys=keys) for keys in (["new", "old"], ["old"], None))
    name, spy = await here.new_channel(), await without.new_channel()
    for layer, channel in ((here, name), (without, spy)):
        await layer.group_add("room", channel)
    for layer, kind in ((there, "group"), (here, "own group")):
        await layer.group_send("room", {"type": kind, "text": "secret"})
    await there.send(name, {"type": "direct", "text": "secret"})
    await there.group_broadcast("room", "secret")
    await there.send("work", {"type": "queue", "text": "secret"})

    received_here = [(await received(here, name))["type"] for _ in range(4)]
    assert sorted(received_here) == ["direct", "fairway.broadcast", "group", "own group"]
    assert (await received(here, "work"))["text"] == "secret"
    await until(lambda: without.node.statistics.undecodable == 3)
    await without.group_send("room", {"type": "in clear"})
    assert await received(without, spy) == {"type": "in clear"}
    await until(lambda: here.node.statistics.undecodable == 1)


# What others send ---------------------------------------------------------------------------------------------


async def test_what_nobody_can_read_is_dropped_and_counted(
    new_layer: NewLayer, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = new_layer(), new_layer()
    name = await here.new_channel()
    await here.group_add("room", name)
    await there.new_channel()
    session = there.node.home.here()
    assert session is not None
    bad = [
        b"",
        b"\x20\x80",
        b"\x10\xc1",
        b"\x11\x90",
        b"\x12\x91\x01",
        b"\x13\x93\x01\x02\x03",
        b"\x15\x90",
        b"\x11\x93\xc0\xc0\xc0",
    ]
    for data in bad:
        await session.backplane.publish("g.room", data)
    await there.group_send("room", {"type": "good"})

    assert (await received(here, name))["type"] == "good"
    assert here.node.statistics.undecodable == len(bad)
    lines = [line for line in caplog.messages if line.startswith("Dropped a message for g.room: ")]
    assert len(lines) == 1


async def test_a_message_in_a_queue_that_nobody_can_read_is_skipped(new_layer: NewLayer) -> None:
    here, there = new_layer(), new_layer()
    await there.new_channel()
    session = there.node.home.here()
    assert session is not None
    await session.backplane.push("work", b"\x20\x80", 10, 60)
    await there.send("work", {"type": "good"})

    assert (await received(here, "work"))["type"] == "good"
    assert here.node.statistics.undecodable == 1


# Event loops, threads, processes ------------------------------------------------------------------------------


def test_one_layer_lives_in_several_event_loops_one_after_the_other(redis: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[redis.url])

    async def use(number: int) -> None:
        name = await layer.new_channel()
        await layer.group_add("loops", name)
        await layer.group_send("loops", {"type": "a", "number": number})
        assert (await received(layer, name))["number"] == number
        await layer.group_discard("loops", name)

    before = redis.connections()
    for number in range(3):
        asyncio.run(use(number))
    assert redis.connections() == before, "an event loop that ends leaves no connection behind"


def test_synchronous_code_shares_one_connection(redis: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[redis.url])
    before = len(redis.connections())
    try:
        for number in range(5):
            async_to_sync(layer.group_send)("nobody", {"type": "a", "number": number})
        async_to_sync(layer.send)("work-of-sync", {"type": "a"})
        assert len(redis.connections()) == before + 1
    finally:
        background.run(layer.close, timeout=DEADLINE)


async def test_calls_of_other_loops_and_threads_go_through_the_home(new_layer: NewLayer) -> None:
    layer = new_layer()
    name = await layer.new_channel()
    await layer.group_add("room", name)

    def in_a_thread() -> None:
        async_to_sync(layer.group_send)("room", {"type": "a", "number": 1})

    await sync_to_async(in_a_thread, thread_sensitive=False)()
    assert (await received(layer, name))["number"] == 1
    with LoopThread(asyncio.new_event_loop) as elsewhere:
        await asyncio.wrap_future(elsewhere.submit(layer.group_send("room", {"type": "a", "number": 2})))
        assert (await received(layer, name))["number"] == 2
        other = await asyncio.wrap_future(elsewhere.submit(layer.new_channel()))
        await asyncio.wrap_future(elsewhere.submit(layer.group_add("hall", other)))
        await layer.group_send("hall", {"type": "a", "number": 3})
        assert (await asyncio.wrap_future(elsewhere.submit(layer.receive(other))))["number"] == 3
    session = layer.node.home.session
    assert session is not None
    assert session.loop is asyncio.get_running_loop()


async def test_a_reader_in_another_loop_that_gives_up_loses_nothing(new_layer: NewLayer) -> None:
    layer = new_layer()
    await layer.new_channel()
    numbers: list[int] = []

    async def read_for(seconds: float) -> None:
        reading = asyncio.ensure_future(layer.receive("work"))
        await asyncio.sleep(seconds)
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            numbers.append(reading.result()["number"])

    with LoopThread(asyncio.new_event_loop) as elsewhere:
        for number in range(60):
            reading = elsewhere.submit(read_for(number % 5 * 0.0005))
            await layer.send("work", {"type": "a", "number": number})
            await asyncio.wrap_future(reading)
        async with asyncio.timeout(DEADLINE):
            while len(numbers) < 60:
                numbers.append((await layer.receive("work"))["number"])
    assert sorted(numbers) == list(range(60))


async def test_who_receives_takes_over_from_who_only_sends(new_layer: NewLayer) -> None:
    layer = new_layer()
    if isinstance(layer, RedisChannelLayer):
        await layer.group_send("room", {"type": "a"})
        assert background.is_its_own(layer.node.home.session.loop)
    name = await layer.new_channel()
    assert layer.node.home.session.loop is asyncio.get_running_loop()
    await layer.group_add("room", name)
    await layer.group_send("room", {"type": "a"})
    assert (await received(layer, name))["type"] == "a"


def test_a_forked_child_has_a_process_of_its_own(redis: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[redis.url])
    async_to_sync(layer.group_send)("nobody", {"type": "a"})
    parent = layer.node.name
    child = os.fork()
    if not child:
        code = 1
        try:
            assert layer.node.name != parent
            async_to_sync(layer.send)("from-child", {"type": "a", "process": layer.node.name})
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    try:
        message = async_to_sync(layer.receive)("from-child")
        assert message["process"] != parent == layer.node.name
    finally:
        background.run(layer.close, timeout=DEADLINE)


def test_synchronous_code_sends_over_it(redis: RedisServer, settings: Any) -> None:
    from channels.layers import get_channel_layer
    from fairway.layers import sync

    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "fairway.layers.redis.RedisChannelLayer", "CONFIG": {"hosts": [redis.address]}}
    }
    layer = get_channel_layer()
    assert isinstance(layer, RedisChannelLayer)

    async def main() -> None:
        name = await layer.new_channel()
        await layer.group_add("sync", name)
        send = sync_to_async(sync.group_send, thread_sensitive=False)
        await send("sync", {"type": "a", "number": 7})
        assert (await received(layer, name))["number"] == 7

    asyncio.run(main())


# Outages ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def fallible() -> AsyncIterator[tuple[BackplaneLayer, Callable[[], InProcessBackplane]]]:
    made: list[InProcessBackplane] = []

    def make() -> InProcessBackplane:
        made.append(InProcessBackplane(Engine()))
        return made[-1]

    layer = BackplaneLayer(make)
    yield layer, lambda: made[-1]
    await layer.close()


async def test_who_cannot_join_is_told_and_is_no_member(fallible: Any) -> None:
    layer, backplane = fallible
    name, other = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("old", name)
    backplane().lose(ConnectionError("lost"))
    assert not layer.is_up()
    with pytest.raises(Unavailable, match="away"):
        await layer.group_add("new", name)
    assert set(layer.hub.groups) == {"old"}
    await layer.group_add("old", other)
    for call in (
        layer.group_send("old", {"type": "a"}),
        layer.group_broadcast("old", "a"),
        layer.send("queue", {"type": "a"}),
    ):
        with pytest.raises(ConnectionError):
            await call

    backplane().recover()
    assert layer.is_up()
    await layer.group_send("old", {"type": "a"})
    for channel in (name, other):
        assert (await received(layer, channel))["type"] == "a"


async def test_a_client_is_served_although_the_service_is_away(fallible: Any) -> None:
    layer, backplane = fallible
    await layer.new_channel()
    backplane().lose(ConnectionError("lost"))
    name = await layer.new_channel()
    await layer.send(name, {"type": "a"})
    assert (await received(layer, name))["type"] == "a"


async def test_queues_that_began_to_follow_during_an_outage_are_known_after_it(fallible: Any) -> None:
    layer, backplane = fallible
    await layer.new_channel()
    await layer.group_send("room", {"type": "nobody"})
    engine = backplane()._engine
    backplane().lose(ConnectionError("lost"))
    with pytest.raises(ConnectionError):
        await layer.group_add("room", "work")
    assert engine.following(0.0) == []
    engine.follow("room", "work", 60, source.monotonic())
    backplane().recover()
    await layer.group_send("room", {"type": "a"})
    assert (await received(layer, "work"))["type"] == "a"

    backplane().lose(ConnectionError("lost"))
    engine.unfollow("room", "work")
    backplane().recover()
    await layer.group_send("room", {"type": "nobody"})
    await layer.send("work", {"type": "direct"})
    assert (await received(layer, "work"))["type"] == "direct"


async def test_a_backplane_without_followers_says_so(fallible: Any) -> None:
    layer, backplane = fallible
    await layer.new_channel()
    backplane().followers = Followers()
    assert FOLLOWERS not in backplane().abilities
    with pytest.raises(NotAble, match=r"cannot have queues in groups: that of fairway\.layers\.redis\."):
        await layer.group_add("room", "work")
    name = await layer.new_channel()
    await layer.group_add("room", name)
    await layer.group_send("room", {"type": "a"})
    assert (await received(layer, name))["type"] == "a"


async def test_groups_that_were_joined_by_other_ways_are_received_after_an_outage(fallible: Any) -> None:
    layer, backplane = fallible
    name = await layer.new_channel()
    backplane().lose(ConnectionError("lost"))
    layer.hub.group_add("room", name)
    await asyncio.sleep(0.01)
    backplane().recover()
    await asyncio.sleep(0.01)
    await layer.group_send("room", {"type": "a"})

    assert (await received(layer, name))["type"] == "a"


async def test_its_numbers_and_whether_it_is_up_are_in_the_one_place(new_layer: NewLayer) -> None:
    layer = new_layer()
    name = await layer.new_channel()
    await layer.group_add("room", name)
    await layer.group_send("room", {"type": "a"})
    await received(layer, name)
    numbers = process_statistics()

    assert numbers.counters["backplane"]["published"] >= 1
    assert numbers.up[f"channel layer {type(layer).__name__}"]


async def test_a_layer_that_is_replaced_disconnects_by_itself(new_layer: NewLayer) -> None:
    layer = new_layer()
    await layer.new_channel()
    assert layer.is_up()
    session = layer.node.home.session
    assert session is not None
    await asyncio.to_thread(layer.retire)
    await until(lambda: session.is_closed and not session.backplane.is_up)
    layer.retire()  # again, and nothing is there


async def test_a_layer_that_was_never_used_has_nothing_to_let_go_of(new_layer: NewLayer) -> None:
    new_layer().retire()


class FullOfFaults(InProcessBackplane):
    async def push(self, queue: str, data: bytes, capacity: int, expiry: float) -> None:
        raise Unavailable("the service is away")


async def test_a_message_that_cannot_be_put_back_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    layer = BackplaneLayer(lambda: FullOfFaults(Engine()))
    await layer.new_channel()
    session = layer.node.home.session
    assert session is not None
    await put_back(session, "thumbnails", b"...")
    assert layer.node.statistics.lost == 1
    assert "a message of the queue thumbnails is lost: its reader has gone, and the service is away" in caplog.text
    await layer.close()
