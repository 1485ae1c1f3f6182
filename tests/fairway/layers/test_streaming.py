"""Groups with a history, as layers use them: in memory, over the engine, a real Redis, and a real local broker."""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from tests.fairway.layers.doubles import new_member, waiting
from tests.services.local import running_broker
from tests.services.redis import RedisServer

from channels.layers import InMemoryChannelLayer, channel_layers
from fairway.delivery import Member, Payload
from fairway.layers import sync
from fairway.layers.backplane import Keep, NotAble, Page, Position, Unavailable
from fairway.layers.engine import Engine
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.hub_layer import HubLayer
from fairway.layers.layer import BackplaneLayer
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.place import Place, given_place
from fairway.layers.recovery import Recovery, spliced
from fairway.layers.redis import RedisChannelLayer
from fairway.testing.in_process import InProcessBackplane
from fairway.timing import source

DEADLINE = 20.0
HISTORY = {"chat.*": {"size": 50, "seconds": 60}, "board.*": {"size": 1}}

NewLayer = Callable[..., HubLayer]


@pytest.fixture(scope="module")
def local_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = given_place(str(tmp_path_factory.mktemp("local") / "broker.sock"))
    with running_broker(place):
        yield place


@pytest.fixture(params=["memory", "engine", "redis", "local"])
def which(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def new_layer(request: pytest.FixtureRequest, which: str) -> AsyncIterator[NewLayer]:
    """Makes layers of processes that share a service. In memory, there is one process."""
    prefix = os.urandom(8).hex()
    engine, layers, place = Engine(), [], None
    server: RedisServer | None = request.getfixturevalue("redis") if which == "redis" else None
    if which == "local":
        place = request.getfixturevalue("local_broker")
    in_memory = InMemoryChannelLayer(history=HISTORY)

    def make() -> HubLayer:
        options: dict[str, Any] = {"history": HISTORY, "capacity": 5}
        if which == "memory":
            return in_memory
        if place is not None:
            layers.append(LocalChannelLayer(socket=place.path, prefix=prefix, **options))
        elif server is not None:
            layers.append(RedisChannelLayer(hosts=[server.url], prefix=prefix, **options))
        else:
            layers.append(BackplaneLayer(lambda: InProcessBackplane(engine), **options))
        return layers[-1]

    yield make
    for layer in layers:
        await layer.close()


async def member_of(layer: HubLayer, capacity: int = 5) -> Member:
    return new_member(layer.hub, await layer.new_channel(), capacity)


class Inbox:
    """Collects what a member gets."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.items: list[Any] = []

    async def until(self, count: int) -> list[Any]:
        async with asyncio.timeout(DEADLINE):
            while len(self.items) < count:
                self.items += waiting(self.member)
                await asyncio.sleep(0.001)
        return self.items

    def numbers(self) -> list[int]:
        return [item["number"] for item in self.items if type(item) is dict and item["type"] == "said"]


def said(number: int) -> dict[str, Any]:
    return {"type": "said", "number": number}


async def test_what_was_missed_comes_first_and_everything_once(new_layer: NewLayer) -> None:
    sender, layer = new_layer(), new_layer()
    first = Inbox(await member_of(layer))
    joined = await layer.group_join("chat.a", first.member.name)
    assert (joined.recovered, joined.count) == (False, 0)
    for number in range(3):
        await sender.group_send("chat.a", said(number))
    (zero, *_) = await first.until(3)
    assert first.numbers() == [0, 1, 2]
    for since, numbers in ((joined.position, [0, 1, 2]), (zero["layer.position"], [1, 2]), ("all", [0, 1, 2])):
        late = Inbox(await member_of(layer))
        recovery = await layer.group_join("chat.a", late.member.name, since)
        assert recovery == Recovery(True, len(numbers), first.items[-1]["layer.position"])
        await late.until(len(numbers))
        assert late.numbers() == numbers
        assert late.items == first.items[-len(numbers) :]
    await sender.group_send("chat.a", said(3))
    await first.until(4)
    await late.until(4)
    assert first.numbers() == late.numbers() == [0, 1, 2, 3]


@pytest.mark.slow
async def test_nothing_is_lost_or_doubled_while_others_send(new_layer: NewLayer) -> None:
    sender, layer = new_layer(), new_layer()
    await sender.group_send("chat.a", said(0))
    start = (await sender.history("chat.a")).position
    members: list[Inbox] = []

    async def send() -> None:
        for number in range(1, 48):
            await sender.group_send("chat.a", said(number))

    sending = asyncio.ensure_future(send())
    while not sending.done():
        members.append(Inbox(await member_of(layer, 100)))
        assert (await layer.group_join("chat.a", members[-1].member.name, start)).recovered
        await asyncio.sleep(0)
    await sending
    members.append(Inbox(await member_of(layer, 100)))
    # What has been sent last may still be on its way to this process: then it comes live.
    assert (await layer.group_join("chat.a", members[-1].member.name, start)).count in (46, 47)
    for member in members:
        await member.until(47)
        assert member.numbers() == list(range(1, 48))


async def test_a_position_that_cannot_be_is_not_recovered_and_all_is_delivered(new_layer: NewLayer) -> None:
    layer = new_layer()
    for number in range(3):
        await layer.group_send("chat.a", said(number))
    top = Position.read((await layer.history("chat.a")).position)
    assert top is not None
    beyond = str(Position(top.epoch, top.offset + 1))
    for since in ("", "nonsense", "0-1", beyond, "a" * 500, "0-" + "9" * 17):
        member = Inbox(await member_of(layer))
        assert await layer.group_join("chat.a", member.member.name, since) == Recovery(False, 3, str(top))
        await member.until(3)
        assert member.numbers() == [0, 1, 2]


async def test_a_group_that_keeps_one_shows_the_newest_value(new_layer: NewLayer) -> None:
    sender, layer = new_layer(), new_layer()
    for number in range(3):
        await sender.group_send("board.a", said(number))
    member = Inbox(await member_of(layer))
    recovery = await layer.group_join("board.a", member.member.name, "all")
    await member.until(1)

    assert (recovery.recovered, recovery.count, member.numbers()) == (True, 1, [2])


async def test_what_was_said_before_is_left_out_if_asked_for(new_layer: NewLayer) -> None:
    layer = new_layer()
    await layer.group_send("chat.a", said(0))
    await asyncio.sleep(0.005)
    moment = datetime.datetime.now(datetime.UTC)
    await layer.group_send("chat.a", said(1))
    for since in ("all", moment, moment.timestamp()):
        member = Inbox(await member_of(layer))
        recovery = await layer.group_join("chat.a", member.member.name, since, not_before=moment)
        await member.until(1)
        assert (recovery.recovered, recovery.count, member.numbers()) == (True, 1, [1])
    with pytest.raises(ValueError, match="a time needs a time zone"):
        await layer.group_join("chat.a", member.member.name, datetime.datetime(2024, 1, 1))


async def test_history_is_not_bounded_by_capacity(new_layer: NewLayer) -> None:
    layer = new_layer()
    for number in range(30):
        await layer.group_send("chat.a", said(number))
    member = Inbox(await member_of(layer, 5))
    assert (await layer.group_join("chat.a", member.member.name, "all")).count == 30
    await member.until(30)
    assert member.numbers() == list(range(30))
    name = await layer.new_channel()
    await layer.group_join("chat.a", name, "all")
    assert [(await layer.receive(name))["number"] for _ in range(30)] == list(range(30))


async def test_what_was_missed_leaves_live_messages_their_room(new_layer: NewLayer) -> None:
    layer = new_layer()
    for number in range(30):
        await layer.group_send("chat.a", said(number))
    member, name = Inbox(await member_of(layer, 5)), await layer.new_channel()
    for channel in (member.member.name, name):
        assert (await layer.group_join("chat.a", channel, "all")).recovered
    for number in range(30, 34):
        await layer.group_send("chat.a", said(number))
    await member.until(34)

    assert member.numbers() == list(range(34))
    assert [(await layer.receive(name))["number"] for _ in range(34)] == list(range(34))


async def test_broadcasts_are_kept_and_objects_carry_their_position(new_layer: NewLayer) -> None:
    layer = new_layer()
    live = Inbox(await member_of(layer))
    await layer.group_add("chat.a", live.member.name)
    await layer.group_broadcast_json("chat.a", {"total": 1})
    await layer.group_broadcast_json("chat.a", [1])
    await layer.group_broadcast("chat.a", "{text}")
    await layer.group_broadcast("chat.a", bytes_data=b"bytes")
    await live.until(4)
    late = Inbox(await member_of(layer))
    assert (await layer.group_join("chat.a", late.member.name, "all")).count == 4
    await late.until(4)
    for items in (live.items, late.items):
        payloads = [item for item in items if isinstance(item, Payload)]
        positions = [payload.position for payload in payloads]
        assert [payload.text for payload in payloads] == [
            f'{{"layer.position": "{positions[0]}", "total": 1}}', "[1]", "{text}", None
        ]  # fmt: skip
        assert payloads[3].data == b"bytes"
        assert [int(position.rpartition("-")[2]) for position in positions] == [1, 2, 3, 4]
    history = await layer.history("chat.a")
    assert [event["type"] for event in history.messages] == ["fairway.broadcast"] * 4


async def test_some_messages_are_not_kept_and_some_count_once(new_layer: NewLayer) -> None:
    layer = new_layer()
    member = Inbox(await member_of(layer))
    await layer.group_add("chat.a", member.member.name)
    await layer.group_send("chat.a", {"type": "typing"}, keep=False)
    for _ in range(3):
        await layer.group_send("chat.a", said(0), key="task 1")
    await layer.group_send("chat.a", said(1), keep=True)
    await layer.group_broadcast("chat.a", "not kept", keep=False)
    await member.until(4)

    assert member.items[0] == {"type": "typing"}
    assert [item["number"] for item in member.items[1:3]] == [0, 1]
    assert member.items[3].text == "not kept"
    assert [event["number"] for event in (await layer.history("chat.a")).messages] == [0, 1]


async def test_a_repeated_key_keeps_a_message_from_queues_that_follow(new_layer: NewLayer, which: str) -> None:
    layer, worker = new_layer(), new_layer()
    channel_layers.set("default", layer)
    send = layer.group_send if which == "engine" else sync_to_async(sync.group_send)
    await layer.group_add("chat.a", "work")
    for number in range(2):
        await layer.group_send("chat.a", said(number), key="task 1")
        await send("chat.a", said(number), key="task 2")
    await layer.group_send("chat.a", said(5))
    assert [(await worker.receive("work"))["number"] for _ in range(3)] == [0, 0, 5]


async def test_of_the_positions_of_several_groups_each_group_takes_its_own(new_layer: NewLayer, which: str) -> None:
    layer, other = new_layer(), new_layer()
    channel_layers.set("default", other)
    histories = [other.history, *([sync_to_async(sync.history)] if which != "engine" else [])]
    for number in range(3):
        for group in ("chat.a", "chat.b"):
            await layer.group_send(group, said(number))
    second = [(await layer.history(group)).messages[1]["layer.position"] for group in ("chat.a", "chat.b")]
    since = ".".join(second)
    for group in ("chat.a", "chat.b"):
        member = Inbox(await member_of(other))
        assert (await other.group_join(group, member.member.name, since)).recovered
        assert [item["number"] for item in await member.until(1)] == [2]
        for history in histories:
            assert [event["number"] for event in (await history(group, since)).messages] == [2]
    member = Inbox(await member_of(other))
    assert not (await other.group_join("chat.c", member.member.name, since)).recovered

    await layer.flush()  # other epochs begin, which one process does not know of yet
    await layer.group_send("chat.a", said(3))
    await layer.group_send("chat.b", said(4))
    since = ".".join([(await layer.history(group)).top for group in ("chat.a", "chat.b")])
    for group in ("chat.a", "chat.b"):
        member = Inbox(await member_of(other))
        assert (await other.group_join(group, member.member.name, since)).recovered, group


async def test_history_is_read_from_a_position(new_layer: NewLayer) -> None:
    layer = new_layer()
    for number in range(60):
        await layer.group_send("chat.a", said(number))
    everything = await layer.history("chat.a")
    assert ([event["number"] for event in everything.messages], everything.complete) == (list(range(10, 60)), True)
    some = await layer.history("chat.a", everything.messages[-3]["layer.position"], limit=1)
    assert ([event["number"] for event in some.messages], some.complete) == ([58], True)
    assert some.position == some.messages[0]["layer.position"]
    assert some.top == everything.top == everything.position
    assert (await layer.history("chat.a", everything.position)).messages == []
    assert not (await layer.history("chat.a", "0-1")).complete


async def test_a_group_without_a_history_says_so(new_layer: NewLayer) -> None:
    layer = new_layer()
    name = await layer.new_channel()
    sentence = r"^the group room has no history: name it in `history` \(CHANNEL_LAYERS, CONFIG\)$"
    with pytest.raises(InvalidChannelLayerError, match=sentence):
        await layer.history("room")
    with pytest.raises(InvalidChannelLayerError, match=sentence):
        await layer.group_join("room", name, "all")
    for arguments in ({"keep": True}, {"key": "k"}):
        with pytest.raises(ValueError, match=sentence):
            await layer.group_send("room", {"type": "a"}, **arguments)
    with pytest.raises(ValueError, match=sentence):
        await layer.group_broadcast("room", "text", keep=True)
    with pytest.raises(ValueError, match="has to be kept: leave out keep=False"):
        await layer.group_send("chat.a", {"type": "a"}, keep=False, key="k")
    with pytest.raises(ValueError, match="a key has at most 200 characters"):
        await layer.group_send("chat.a", {"type": "a"}, key="k" * 201)
    assert await layer.group_join("room", name) == Recovery(False, 0, "")
    await layer.group_send("room", {"type": "a"})
    assert await layer.receive(name) == {"type": "a"}


async def test_flush_ends_the_history(new_layer: NewLayer) -> None:
    layer = new_layer()
    await layer.group_send("chat.a", said(0))
    before = await layer.history("chat.a")
    await layer.flush()
    await layer.group_send("chat.a", said(1))
    after = await layer.history("chat.a", before.position)

    assert [event["number"] for event in after.messages] == [1]
    assert not after.complete


# In outages (over the engine, which can be made to lose what the network would) ------------------------------------


class Counting(InProcessBackplane):
    """Counts what is read from the service."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.reads = self.tops = 0
        streams, read, tops = self.streams, self.streams.read, self.streams.tops
        self.fails: Exception | None = None

        async def counted_read(subject: str, after: Position | float | None, limit: int) -> Page[bytes]:
            self.reads += 1
            await asyncio.sleep(0)
            if self.fails is not None:
                raise self.fails
            return await read(subject, after, limit)

        async def counted_tops(subjects: Any) -> Any:
            self.tops += 1
            return await tops(subjects)

        streams.read = counted_read  # type: ignore[method-assign]
        streams.tops = counted_tops  # type: ignore[method-assign]


class Process:
    """A process whose link to the service may be lost, and a member that listens for gaps."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.backplane: Counting
        self._engine = engine
        self.layer = BackplaneLayer(self._make, history=HISTORY, **options)

    def _make(self) -> InProcessBackplane:
        self.backplane = Counting(self._engine)
        return self.backplane

    async def member(self, *groups: str, hears_of_gaps: bool = True) -> Inbox:
        inbox = Inbox(await member_of(self.layer, 1000))
        if hears_of_gaps:
            self.layer.hub.gaps.add(inbox.member)
        for group in groups:
            await self.layer.group_join(group, inbox.member.name)
        return inbox


async def two_processes() -> tuple[Process, Process, Engine]:
    engine = Engine()
    return Process(engine), Process(engine), engine


async def test_what_an_outage_swallowed_is_delivered_in_order_and_is_no_gap() -> None:
    sender, process, _ = await two_processes()
    member = await process.member("chat.a", "plain")
    await sender.layer.group_send("chat.a", said(0))
    await member.until(1)
    process.backplane.lose(Unavailable("lost"))
    for number in range(1, 6):
        await sender.layer.group_send("chat.a", said(number))
    process.backplane.recover()
    await sender.layer.group_send("chat.a", said(6))
    await member.until(8)

    assert member.numbers() == [0, 1, 2, 3, 4, 5, 6]
    gaps = [item for item in member.items if item["type"] == "layer.gap"]
    assert gaps == [{"type": "layer.gap", "groups": ["plain"], "reason": "outage"}]


async def test_after_an_outage_a_slow_consumer_gets_all_that_it_has_missed_and_what_follows() -> None:
    sender, process, _ = await two_processes()
    member = await process.member("chat.a")
    member.member.capacity = 5
    process.backplane.lose(Unavailable("lost"))
    for number in range(40):
        await sender.layer.group_send("chat.a", said(number))
    await sender.layer.group_broadcast("chat.a", "a broadcast")
    process.backplane.recover()
    async with asyncio.timeout(DEADLINE):
        while process.layer.keeper._streaming.tracks.position("g.chat.a").offset < 41:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    for number in range(40, 44):
        await sender.layer.group_send("chat.a", said(number))
    await member.until(45)

    assert member.numbers() == list(range(44))


async def test_a_lost_message_is_noticed_without_another_one() -> None:
    sender, process, _ = await two_processes()
    member = await process.member("chat.a")
    process.backplane.lose(Unavailable("lost"))
    await sender.layer.group_send("chat.a", said(0))
    process.backplane.recover()
    await member.until(1)

    assert member.numbers() == [0]


async def test_what_is_lost_for_good_is_a_gap_before_the_next_message() -> None:
    sender, process, _ = await two_processes()
    member, other = await process.member("chat.a"), await process.member("chat.a", hears_of_gaps=False)
    await sender.layer.group_send("chat.a", said(0))
    await member.until(1)
    process.backplane.lose(Unavailable("lost"))
    for number in range(1, 55):
        await sender.layer.group_send("chat.a", said(number))
    process.backplane.recover()
    await member.until(52)
    await other.until(51)

    epoch = member.items[0]["layer.position"].rpartition("-")[0]
    assert member.items[1] == {
        "type": "layer.gap", "groups": ["chat.a"], "reason": "trimmed", "from": f"{epoch}-1", "to": f"{epoch}-5"
    }  # fmt: skip
    assert member.numbers() == other.numbers() == [0, *range(5, 55)]


async def test_another_epoch_is_a_gap_and_only_what_is_new_is_delivered() -> None:
    sender, process, engine = await two_processes()
    member = await process.member("chat.a")
    await sender.layer.group_send("chat.a", said(0))
    await member.until(1)
    engine.histories.clear()
    await sender.layer.group_send("chat.a", said(1))
    await member.until(3)

    assert [item.get("reason") for item in member.items] == [None, "epoch", None]
    assert member.numbers() == [0, 1]
    await sender.layer.group_send("chat.a", said(2))
    await member.until(4)
    assert member.numbers() == [0, 1, 2]


@pytest.mark.parametrize("size", [10, 10_000], ids=["from the ring", "from the service"])
async def test_whoever_comes_back_before_a_flush_was_noticed_is_told_that_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    sender, process, engine = await two_processes()
    for number in range(20):
        await sender.layer.group_send("chat.a", {**said(number), "text": "x" * size})
    since = (await sender.layer.history("chat.a")).messages[3]["layer.position"]
    member = await process.member("chat.a")
    for number in range(20, 50):
        await sender.layer.group_send("chat.a", {**said(number), "text": "x" * size})
    await member.until(30)
    engine.histories.clear()
    with monkeypatch.context() as lost:
        lost.setattr(Engine, "publish", lambda engine, subject, data: 1)
        await sender.layer.group_send("chat.a", said(50))
    late = await process.member()
    async with asyncio.timeout(DEADLINE):
        recovery = await process.layer.group_join("chat.a", late.member.name, since)
    await late.until(1)
    await member.until(32)

    assert (recovery.recovered, recovery.count, late.numbers()) == (False, 1, [50])
    assert member.items[30]["reason"] == "epoch"


@pytest.mark.slow
async def test_a_thousand_that_come_back_read_from_the_service_twice_at_most() -> None:
    sender, process, _ = await two_processes()
    for number in range(50):
        await sender.layer.group_send("chat.a", said(number))
    messages = (await sender.layer.history("chat.a")).messages
    inboxes = [await process.member() for _ in range(1000)]
    recoveries = await asyncio.gather(
        *(
            process.layer.group_join("chat.a", inbox.member.name, messages[index % 10]["layer.position"])
            for index, inbox in enumerate(inboxes)
        )
    )

    assert [(one.recovered, one.count) for one in recoveries[:3]] == [(True, 49), (True, 48), (True, 47)]
    assert all(one.recovered for one in recoveries)
    assert process.backplane.reads + process.backplane.tops <= 4
    assert process.backplane.reads <= 2
    for index, inbox in enumerate(inboxes):
        await inbox.until(49 - index % 10)
        assert inbox.numbers() == list(range(index % 10 + 1, 50))


async def test_what_no_ring_holds_is_read_from_the_service() -> None:
    sender, process, _ = await two_processes()
    watching = await process.member("chat.a")
    for number in range(40):
        await sender.layer.group_send("chat.a", {**said(number), "text": "x" * 10_000})
    await watching.until(40)
    for since, count in (
        ("all", 40),
        (watching.items[4]["layer.position"], 35),
        (watching.items[38]["layer.position"], 1),
    ):
        member = await process.member()
        recovery = await process.layer.group_join("chat.a", member.member.name, since)
        assert (recovery.recovered, recovery.count) == (True, count)
        await member.until(count)
        assert member.numbers() == list(range(40 - count, 40))


async def test_one_that_fails_to_join_is_not_in_the_group() -> None:
    _, process, _ = await two_processes()
    member = await process.member()
    process.backplane.lose(Unavailable("lost"))
    with pytest.raises(Unavailable):
        await process.layer.group_join("chat.a", member.member.name, "all")

    assert process.layer.hub.groups == {}
    process.backplane.recover()
    assert (await process.layer.group_join("chat.a", member.member.name, "all")).recovered


async def test_a_service_that_does_not_let_one_read_is_a_gap_and_life_goes_on() -> None:
    sender, process, _ = await two_processes()
    member = await process.member("chat.a")
    process.backplane.fails = NotAble("no")
    process.backplane.lose(Unavailable("lost"))
    await sender.layer.group_send("chat.a", said(0))
    process.backplane.recover()
    await member.until(1)
    await sender.layer.group_send("chat.a", said(1))
    await member.until(2)

    assert [item.get("reason") for item in member.items] == ["unreadable", None]


async def test_a_process_without_the_setting_delivers_kept_messages_too() -> None:
    engine = Engine()
    sender, plain = Process(engine), BackplaneLayer(lambda: InProcessBackplane(engine))
    name = await plain.new_channel()
    await plain.group_add("chat.a", name)
    await sender.layer.group_send("chat.a", said(0))

    assert await plain.receive(name) == said(0)
    await plain.close()


async def test_a_message_that_cannot_be_read_is_dropped_and_the_others_follow() -> None:
    sender, process, engine = await two_processes()
    member = await process.member("chat.a")
    for data in (b"", b"\0", b"rubbish", b"\x12\x90"):
        _, message = engine.keep("g.chat.a", data, Keep(50, 60), "", source.monotonic(), time.time())
        assert message is not None
        engine.publish("g.chat.a", message)
    await sender.layer.group_send("chat.a", said(0))
    await member.until(1)

    assert member.numbers() == [0]
    assert process.layer.node.statistics.undecodable == 4
    late = await process.member()
    assert (await process.layer.group_join("chat.a", late.member.name, "all")).count == 1


async def test_a_channel_of_another_process_can_join_but_not_catch_up() -> None:
    one, two, _ = await two_processes()
    name = await two.layer.new_channel()
    with pytest.raises(ValueError, match="belongs to another process"):
        await one.layer.group_join("chat.a", name, "all")
    assert await one.layer.group_join("chat.a", name) == Recovery(False, 0, "")
    await one.layer.group_send("chat.a", said(0))
    assert (await two.layer.receive(name))["number"] == 0


# Settings and texts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "sentence"),
    [
        ({"a": 5}, r"history\['a'\] is 5: write a dictionary with size and seconds"),
        ({"a": {"sise": 5}}, r"history\['a'\] has 'sise': it takes size and seconds"),
        ({"a": {"size": 0}}, r"history\['a'\]: size is 0, and has to be a number from 1 to 100,000"),
        ({"a": {"size": True}}, r"size is True"),
        ({"a": {"seconds": "5"}}, r"history\['a'\]: seconds is '5', and has to be a number from 1 to 31,622,400"),
        ({"a": {"seconds": float("nan")}}, r"seconds is nan"),
    ],
)
def test_settings_that_are_wrong_are_refused(history: Any, sentence: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=sentence):
        InMemoryChannelLayer(history=history)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', '{"layer.position": "e-1", "a": 1}'),
        ("{}", '{"layer.position": "e-1"}'),
        (' { "a": {}}', '{"layer.position": "e-1",  "a": {}}'),
    ],
)
def test_the_position_is_written_into_an_object(text: str, expected: str) -> None:
    assert spliced(text, "e-1") == expected
