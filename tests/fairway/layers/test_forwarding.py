"""A rolling change from one layer to another: processes with the old, with both, and with the new one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import patch

import pytest

from fairway.layers import forwarding
from fairway.layers.engine import Engine
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.forwarding import NUMBER, ForwardingChannelLayer
from fairway.layers.layer import BackplaneLayer
from fairway.testing.in_process import InProcessBackplane

DEADLINE = 20.0


class Site:
    """Processes of one site, over two services."""

    def __init__(self) -> None:
        self._old, self._new = Engine(), Engine()
        self.made: list[Any] = []

    def old(self) -> BackplaneLayer:
        """A layer of others: names of processes are longer, as those of channels_redis."""
        with patch("fairway.layers.node._new_name", lambda: os.urandom(16).hex()):
            return self._keep(BackplaneLayer(lambda: InProcessBackplane(self._old)))

    def new(self) -> BackplaneLayer:
        return self._keep(BackplaneLayer(lambda: InProcessBackplane(self._new)))

    def both(self, lead: str = "old") -> ForwardingChannelLayer:
        return self._keep(ForwardingChannelLayer(self.old(), self.new(), lead))

    def _keep(self, layer: Any) -> Any:
        self.made.append(layer)
        return layer


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    for layer in reversed(made.made):
        await layer.close()


async def received(layer: Any, channel: str, count: int = 1) -> list[Any]:
    async with asyncio.timeout(DEADLINE):
        return [await layer.receive(channel) for _ in range(count)]


Step = Callable[[Site], list[Any]]
STEPS: dict[str, Step] = {
    "the first has both": lambda site: [site.old(), site.old(), site.both("old")],
    "all have both": lambda site: [site.both("old"), site.both("old")],
    "the new one begins to lead": lambda site: [site.both("old"), site.both("new")],
    "the new one leads": lambda site: [site.both("new"), site.both("new")],
    "the first has the new one only": lambda site: [site.both("new"), site.new(), site.new()],
}


@pytest.mark.parametrize("step", STEPS)
async def test_everybody_hears_everybody_once_in_every_step(site: Site, step: str) -> None:
    layers = STEPS[step](site)
    names = [await layer.new_channel() for layer in layers]
    for layer, name in zip(layers, names, strict=True):
        await layer.group_add("room", name)
    for number, layer in enumerate(layers):
        for again in range(3):
            await layer.group_send("room", {"type": "a", "number": 10 * number + again})
        await asyncio.sleep(0.01)  # let it arrive over both
    for layer in layers:
        for name in names:
            await layer.send(name, {"type": "direct"})

    numbers = [10 * number + again for number in range(len(layers)) for again in range(3)]
    for layer, name in zip(layers, names, strict=True):
        events = await received(layer, name, len(numbers) + len(layers))
        assert sorted(event["number"] for event in events if event["type"] == "a") == numbers
        assert [event["type"] for event in events].count("direct") == len(layers)
        if isinstance(layer, ForwardingChannelLayer):
            assert all(NUMBER not in event for event in events)


@pytest.mark.parametrize("step", STEPS)
async def test_a_queue_is_read_once_in_every_step(site: Site, step: str) -> None:
    layers = STEPS[step](site)
    taken: list[int] = []
    everything = asyncio.Event()

    async def work(layer: Any) -> None:
        while True:
            taken.append((await layer.receive("work"))["number"])
            if len(taken) == 10 * len(layers):
                everything.set()

    working = [asyncio.ensure_future(work(layer)) for layer in layers]
    for number, layer in enumerate(layers):
        for again in range(10):
            await layer.send("work", {"type": "a", "number": 10 * number + again})
    async with asyncio.timeout(DEADLINE):
        await everything.wait()
    for task in working:
        task.cancel()
    await asyncio.wait(working)
    assert sorted(taken) == list(range(10 * len(layers)))


async def test_who_has_left_a_group_hears_nothing_over_either(site: Site) -> None:
    one, other = site.both(), site.both()
    name = await one.new_channel()
    await one.group_add("room", name)
    await one.group_discard("room", name)
    await other.group_send("room", {"type": "no"})
    await other.send(name, {"type": "yes"})
    assert await received(one, name) == [{"type": "yes"}]


async def test_a_channel_of_another_process_is_added(site: Site) -> None:
    one, other = site.both(), site.both()
    name = await one.new_channel()
    await other.group_add("room", name)
    await other.group_send("room", {"type": "a"})
    assert await received(one, name) == [{"type": "a"}]


async def test_one_layer_that_is_away_keeps_nothing_from_the_other(site: Site) -> None:
    both, new = site.both(), site.new()
    name = await new.new_channel()
    await new.group_add("room", name)

    async def fail(*arguments: Any) -> None:
        raise ConnectionError("away")

    both.old.group_send = fail
    with pytest.raises(ConnectionError, match=r"^away$"):
        await both.group_send("room", {"type": "a"})
    (event,) = await received(new, name)
    assert event["type"] == "a"


async def test_a_receive_that_is_given_up_loses_nothing(site: Site) -> None:
    both = site.both()
    name = await both.new_channel()
    numbers = []
    for number in range(50):
        reading = asyncio.ensure_future(both.receive(name))
        await asyncio.sleep(0)
        await both.send(name, {"type": "a", "number": number})
        await asyncio.sleep(number % 3 * 0.001)
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            numbers.append(reading.result()["number"])
    while len(numbers) < 50:
        numbers.append((await received(both, name))[0]["number"])
    assert numbers == list(range(50))


async def test_a_channel_is_forgotten_when_nobody_has_read_it_for_some_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "LINGER", 0.01)
    both = site.both()
    gone = asyncio.Event()
    forget = both.forget
    monkeypatch.setattr(both, "forget", lambda name: (forget(name), gone.set()))
    reading = asyncio.ensure_future(both.receive(await both.new_channel()))
    await asyncio.sleep(0)
    reading.cancel()
    async with asyncio.timeout(DEADLINE):
        await gone.wait()
    assert both._channels == {}


def test_layers_are_made_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 7}}
    layer = ForwardingChannelLayer(old=memory, new={"BACKEND": "channels.layers.InMemoryChannelLayer"}, lead="new")
    assert (layer.old.capacity, layer.new.capacity) == (7, 100)

    with pytest.raises(InvalidChannelLayerError, match=r"the BACKEND of old, 'channels\.layers\.Nothing', cannot be"):
        ForwardingChannelLayer(old={"BACKEND": "channels.layers.Nothing"}, new=memory)
    with pytest.raises(InvalidChannelLayerError, match=r'lead is \'both\': use "old" or "new"$'):
        ForwardingChannelLayer(old=memory, new=memory, lead="both")
