"""The layer for one process: what it sends, keeps and forgets."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest
from tests.fairway.layers.doubles import Clock
from tests.fairway.loops import LoopFactory, LoopThread, on_each_loop, passes, run

from fairway.delivery import Inbox, Member
from fairway.layers.errors import ChannelFull
from fairway.layers.hub_layer import hub_of
from fairway.layers.memory import MemoryChannelLayer


@pytest.fixture
def layer() -> MemoryChannelLayer:
    return MemoryChannelLayer(expiry=60, capacity=5)


@pytest.fixture
def clock(layer: MemoryChannelLayer) -> Clock:
    layer.hub._clock = clock = Clock()
    return clock


def test_it_has_groups_and_can_be_flushed(layer: MemoryChannelLayer) -> None:
    assert layer.extensions == ["groups", "flush"]


def test_an_unknown_policy_for_slow_consumers_is_named() -> None:
    complaint = r"^slow_consumers\['a\*'\] is 'drop': use one of close, drop-oldest, keep-latest "
    with pytest.raises(ValueError, match=complaint):
        MemoryChannelLayer(slow_consumers={"a*": "drop"})


async def test_channel_capacity_bounds_the_channels_it_names() -> None:
    layer = MemoryChannelLayer(capacity=3, channel_capacity={"small.*": 1})
    await layer.send("small.one", {"n": 0})

    with pytest.raises(ChannelFull, match=r"^small\.one$"):
        await layer.send("small.one", {"n": 1})
    for number in range(3):
        await layer.send("large", {"n": number})
    with pytest.raises(ChannelFull, match=r"^large$"):
        await layer.send("large", {"n": 3})


@on_each_loop
def test_send_and_receive(new_loop: LoopFactory) -> None:
    async def main() -> None:
        layer = MemoryChannelLayer()
        await layer.send("c", {"type": "a", "text": "b"})
        await layer.send("c", {"type": "a", "text": "c"})
        assert await layer.receive("c") == {"type": "a", "text": "b"}
        assert await layer.receive("c") == {"type": "a", "text": "c"}
        assert layer.hub.channels == {}

    run(new_loop, main())


async def test_a_message_is_copied_when_it_is_sent(layer: MemoryChannelLayer) -> None:
    message = {"type": "a", "items": [1]}
    await layer.send("c", message)
    message["items"].append(2)

    assert await layer.receive("c") == {"type": "a", "items": [1]}


async def test_every_member_of_a_group_gets_a_copy_of_its_own(layer: MemoryChannelLayer) -> None:
    await layer.group_add("g", "a")
    await layer.group_add("g", "b")
    await layer.group_send("g", {"type": "x", "items": []})

    (await layer.receive("a"))["items"].append(1)

    assert await layer.receive("b") == {"type": "x", "items": []}


async def test_a_full_channel_raises_with_its_name(layer: MemoryChannelLayer) -> None:
    for number in range(5):
        await layer.send("c", {"n": number})

    with pytest.raises(ChannelFull, match=r"^c$"):
        await layer.send("c", {"n": 5})


async def test_channels_of_one_prefix_do_not_share_their_capacity(layer: MemoryChannelLayer) -> None:
    for number in range(5):
        await layer.send("p!a", {"n": number})

    await layer.send("p!b", {"n": 0})

    assert await layer.receive("p!b") == {"n": 0}


async def test_a_group_send_to_a_full_channel_is_silent(layer: MemoryChannelLayer) -> None:
    await layer.group_add("g", "c")

    for number in range(7):
        await layer.group_send("g", {"n": number})

    assert layer.hub.channels["c"].qsize() == 5


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("text", "^message is not a dict$"),
        ({"__asgi_channel__": "x"}, "^the key __asgi_channel__ is reserved: use another one$"),
    ],
)
async def test_a_message_is_a_dict_without_the_reserved_key(
    layer: MemoryChannelLayer, message: Any, error: str
) -> None:
    with pytest.raises(AssertionError, match=error):
        await layer.send("c", message)
    with pytest.raises(AssertionError, match=error):
        await layer.group_send("g", message)


@pytest.mark.parametrize(
    "call",
    [
        lambda layer: layer.send("a b", {}),
        lambda layer: layer.receive("a b"),
        lambda layer: layer.group_add("g", "a b"),
        lambda layer: layer.group_add("a b", "c"),
        lambda layer: layer.group_discard("g", "a b"),
        lambda layer: layer.group_discard("a b", "c"),
        lambda layer: layer.group_send("a b", {}),
        lambda layer: layer.group_broadcast("a b", "text"),
    ],
)
async def test_every_call_checks_its_names(layer: MemoryChannelLayer, call: Any) -> None:
    with pytest.raises(TypeError, match="name is not valid"):
        await call(layer)
    assert (layer.hub.channels, layer.hub.groups) == ({}, {})


async def test_new_channel_names_are_valid_and_seeded_by_random(layer: MemoryChannelLayer) -> None:
    state = random.getstate()
    first = await layer.new_channel()
    random.setstate(state)

    assert await layer.new_channel() == first
    assert await layer.new_channel() != first
    assert re.fullmatch(r"specific\.\.inmemory![a-zA-Z0-9_-]{12}", first)
    assert re.fullmatch(r"test\.inmemory![a-zA-Z0-9_-]{12}", await layer.new_channel("test"))
    assert layer.require_valid_channel_name(first)


async def test_a_reader_shows_in_channels_and_leaves_when_it_is_served(layer: MemoryChannelLayer) -> None:
    reader = asyncio.ensure_future(layer.receive("c"))
    await passes()
    assert "c" in layer.hub.channels

    await layer.send("c", {"n": 1})

    assert await reader == {"n": 1}
    assert "c" not in layer.hub.channels


async def test_a_message_never_read_expires_and_takes_its_channel_out_of_groups(
    layer: MemoryChannelLayer, clock: Clock
) -> None:
    layer.expiry = 0.1
    await layer.group_add("g", "c")
    await layer.send("c", {"n": 1})
    clock.now += 0.2

    await layer.send("other", {"n": 2})
    assert await layer.receive("other") == {"n": 2}

    assert (layer.hub.channels, layer.hub.groups) == ({}, {})


async def test_memberships_expire(layer: MemoryChannelLayer, clock: Clock) -> None:
    layer.group_expiry = 10.5
    assert layer.group_expiry == 10.5
    await layer.group_add("g", "c")
    clock.now += 11

    await layer.group_send("g", {"n": 1})

    assert (layer.hub.channels, layer.hub.groups) == ({}, {})


async def test_expiry_with_the_real_clock() -> None:
    layer = MemoryChannelLayer(expiry=-0.001)
    await layer.send("c", {"n": 1})
    await layer.send("d", {"n": 2})

    assert "c" not in layer.hub.channels


async def test_flush_and_close(layer: MemoryChannelLayer) -> None:
    await layer.send("c", {"n": 1})
    await layer.group_add("g", "c")

    await layer.flush()
    await layer.close()

    assert (layer.hub.channels, layer.hub.groups) == ({}, {})


@on_each_loop
def test_cancelled_receives_lose_nothing(new_loop: LoopFactory) -> None:
    async def main() -> list[int]:
        layer = MemoryChannelLayer()
        got = []
        for number in range(20):
            reader = asyncio.ensure_future(layer.receive("c"))
            await passes(number % 3)
            await layer.send("c", {"n": number})
            await passes(number % 2)
            reader.cancel()
            try:
                got.append((await reader)["n"])
            except asyncio.CancelledError:
                continue
        while "c" in layer.hub.channels:
            got.append((await layer.receive("c"))["n"])
        return got

    assert run(new_loop, main()) == list(range(20))


@pytest.mark.parametrize(
    ("data", "event"), [({"text_data": "a"}, {"text": "a"}), ({"bytes_data": b"a"}, {"bytes": b"a"})]
)
async def test_a_broadcast_to_a_channel_without_a_consumer_is_a_message(
    layer: MemoryChannelLayer, data: dict[str, Any], event: dict[str, Any]
) -> None:
    await layer.group_add("g", "c")
    await layer.group_add("g", "d")

    await layer.group_broadcast("g", **data, exclude=["d"])

    assert await layer.receive("c") == {"type": "fairway.broadcast", **event}
    assert "d" not in layer.hub.channels


async def test_a_broadcast_has_text_or_bytes(layer: MemoryChannelLayer) -> None:
    with pytest.raises(ValueError, match=r"^a payload has either text or bytes: pass one of them$"):
        await layer.group_broadcast("g")


async def test_a_consumer_attached_to_the_hub_gets_what_is_sent(layer: MemoryChannelLayer) -> None:
    name = await layer.new_channel()
    hub = hub_of(layer)
    assert hub is layer.hub
    member = Member(name, Inbox(asyncio.get_running_loop()), capacity=1)
    hub.attach(member)
    await layer.send(name, {"n": 1})

    with pytest.raises(ChannelFull):
        await layer.send(name, {"n": 2})

    assert await member.inbox.get() == {"n": 1}


@on_each_loop
def test_one_layer_serves_several_event_loops(new_loop: LoopFactory) -> None:
    layer = MemoryChannelLayer(capacity=1000)

    async def echo(count: int) -> None:
        for _ in range(count):
            await layer.send("answers", await layer.receive("questions"))

    async def ask(count: int) -> list[int]:
        for number in range(count):
            await layer.send("questions", {"n": number})
        return sorted([(await layer.receive("answers"))["n"] for _ in range(count)])

    with LoopThread(new_loop) as one, LoopThread(new_loop) as two:
        echoes = [one.submit(echo(100)), two.submit(echo(100))]
        assert run(new_loop, ask(200)) == list(range(200))
        for future in echoes:
            future.result(timeout=10)

    assert layer.hub.channels == {}
