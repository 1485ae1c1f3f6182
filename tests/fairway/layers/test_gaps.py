"""Who hears of a gap after an outage: consumers whose class has a handler for it, once, even if they are full."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.fairway.layers.doubles import new_hub, new_member, waiting

from channels.consumer import AsyncConsumer
from channels.layers import channel_layers
from channels.testing import ApplicationCommunicator
from fairway.layers import gaps
from fairway.layers.engine import Engine
from fairway.layers.layer import BackplaneLayer
from fairway.testing.in_process import InProcessBackplane

DEADLINE = 20.0


async def passes() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "LONGEST", 0.0)


async def test_a_member_is_told_once_with_its_groups_and_outside_of_its_capacity() -> None:
    hub = new_hub()
    member, other, alone = (new_member(hub, name, capacity=1) for name in ("m", "other", "alone"))
    for one in (member, alone):
        hub.gaps.add(one)
    for group in ("g", "h"):
        hub.group_add(group, "m")
        hub.group_add(group, "other")
    hub.group_send("g", {"type": "full"})
    hub.gaps.tell("outage")
    hub.gaps.tell("outage")
    await passes()

    assert waiting(member) == [{"type": "full"}, {"type": "layer.gap", "groups": ["g", "h"], "reason": "outage"}]
    assert waiting(other) == [{"type": "full"}], "it has no handler"
    assert waiting(alone) == [], "it is in no group"
    hub.gaps.tell("outage")
    await passes()
    assert len(waiting(member)) == 1, "there has been another"


async def test_a_member_that_has_ended_is_told_nothing() -> None:
    hub = new_hub()
    member = new_member(hub)
    hub.gaps.add(member)
    hub.group_add("g", "m")
    hub.gaps.tell("outage")
    hub.detach(member)
    await passes()

    assert waiting(member) == []
    assert len(hub.gaps) == 0


async def test_many_are_told_spread_over_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "LONGEST", 10.0)
    spreads: list[float] = []
    monkeypatch.setattr(gaps.random, "uniform", lambda low, high: spreads.append(high) or 0.0)
    hub = new_hub()
    for number in range(500):
        hub.gaps.add(new_member(hub, str(number)))
        hub.group_add("g", str(number))
    hub.gaps.tell("outage")
    assert spreads == [0.5] * 500


async def test_consumers_with_a_handler_hear_of_it_and_readers_do_not() -> None:
    backplanes: list[InProcessBackplane] = []
    engine = Engine()

    def make() -> InProcessBackplane:
        backplanes.append(InProcessBackplane(engine))
        return backplanes[-1]

    layer = BackplaneLayer(make)
    previous = channel_layers.set("default", layer)
    told: list[dict[str, Any]] = []
    heard = asyncio.Event()

    class Plain(AsyncConsumer):
        async def test_join(self, event: dict[str, Any]) -> None:
            await self.channel_layer.group_add(event["group"], self.channel_name)
            heard.set()

        async def test_event(self, event: dict[str, Any]) -> None:
            told.append(event)
            heard.set()

    class Careful(Plain):
        async def layer_gap(self, event: dict[str, Any]) -> None:
            told.append(event)
            heard.set()

    async def until_heard() -> None:
        async with asyncio.timeout(DEADLINE):
            await heard.wait()
        heard.clear()

    try:
        reader = await layer.new_channel()
        await layer.group_add("plain", reader)
        communicators = [ApplicationCommunicator(one.as_asgi(), {"type": "test"}) for one in (Plain, Careful)]
        for communicator, group in zip(communicators, ("plain", "careful"), strict=True):
            await communicator.send_input({"type": "test.join", "group": group})
            await until_heard()
        backplanes[0].lose(ConnectionError("lost"))
        backplanes[0].recover()
        await until_heard()
        await layer.group_send("plain", {"type": "test.event"})
        await until_heard()

        assert told == [
            {"type": "layer.gap", "groups": ["careful"], "reason": "outage"},
            {"type": "test.event"},
        ]
        assert await layer.receive(reader) == {"type": "test.event"}
        for communicator in communicators:
            communicator.stop(exceptions=False)
    finally:
        await layer.close()
        channel_layers.backends.pop("default", None)
        if previous is not None:
            channel_layers.set("default", previous)
