"""`fairway.layers.lag`: what is measured, by a clock of the tests; and layers over each service, in the one place."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.foreign import QueueLayer
from tests.services.local import broker_process
from tests.services.redis import RedisServer

from channels.layers import InMemoryChannelLayer
from fairway.delivery import process_statistics
from fairway.layers import session
from fairway.layers.forwarding import ForwardingChannelLayer
from fairway.layers.lag import GIVEN_UP, Lag
from fairway.layers.layer import BackplaneLayer
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.place import Place
from fairway.layers.redis import RedisChannelLayer

DEADLINE = 30.0


def test_it_is_how_long_the_last_message_took() -> None:
    lag = Lag()
    assert lag.seconds(0.0) is None
    assert lag.sent(10.0) == 1
    lag.came(1, 10.5)
    assert lag.seconds(14.0) == 0.5


def test_one_message_at_a_time_goes_round_and_counts_while_it_does() -> None:
    lag = Lag()
    lag.came(lag.sent(10.0) or 0, 10.5)
    assert lag.sent(15.0) == 2
    assert lag.sent(20.0) is None
    assert [lag.seconds(now) for now in (15.25, 18.0)] == [0.5, 3.0]
    lag.came(2, 18.0)
    assert lag.seconds(20.0) == 3.0


def test_a_message_that_does_not_come_back_is_followed_by_another_and_counts_from_its_start() -> None:
    lag = Lag()
    assert lag.sent(0.0) == 1
    assert lag.sent(GIVEN_UP) == 2
    lag.came(1, GIVEN_UP)
    lag.came(7, GIVEN_UP)
    assert lag.seconds(GIVEN_UP + 1) == GIVEN_UP + 1
    lag.came(2, GIVEN_UP + 2)
    assert lag.seconds(99.0) == 2.0


def test_nothing_is_known_after_a_loss() -> None:
    lag = Lag()
    lag.came(lag.sent(0.0) or 0, 1.0)
    lag.sent(5.0)
    lag.lost()
    assert lag.seconds(9.0) is None
    lag.came(2, 9.0)
    assert lag.seconds(9.0) is None


# Layers in the one place for counters -------------------------------------------------------------------------------


async def until(reached: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not reached():  # noqa: ASYNC110  # counters tell nobody
            await asyncio.sleep(0.005)


class OwnRedisLayer(RedisChannelLayer):
    """By its name it is told from those of other tests."""


class OwnLocalLayer(LocalChannelLayer):
    """The same."""


NAMES = {"redis": "channel layer OwnRedisLayer", "local": "channel layer OwnLocalLayer"}


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.slow), pytest.param("local", marks=pytest.mark.slow)])
async def layer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BackplaneLayer]:
    prefix = uuid.uuid4().hex
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        made: BackplaneLayer = OwnRedisLayer([server.url], prefix)
        yield made
        await made.close()
        return
    place = Place(str(tmp_path / "broker.sock"), is_ours=False)
    broker = broker_process(place)
    made = OwnLocalLayer(place.path, prefix=prefix)
    yield made
    await made.close()
    broker.terminate()
    broker.wait(DEADLINE)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return NAMES[request.node.callspec.params["layer"]]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MEASURE_EVERY", 0.01)


async def test_a_layer_over_a_service_tells_its_counts_whether_it_is_up_and_its_lag(
    layer: BackplaneLayer, name: str, often: None
) -> None:
    gc.collect()  # layers of other tests count no longer
    before = process_statistics().counters["backplane"]
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.group_send("room", {"type": "said"})
    async with asyncio.timeout(DEADLINE):
        assert await layer.receive(channel) == {"type": "said"}
    await until(lambda: name in process_statistics().lag)

    found = process_statistics()
    assert found.counters["backplane"]["published"] > before["published"]
    assert found.counters["backplane"]["received"] > before["received"]
    assert found.counters["layers"]["memberships"] >= 1
    assert found.up[name] is True
    assert 0 < found.lag[name] < DEADLINE

    await layer.close()
    assert name not in process_statistics().lag


async def test_a_layer_for_changing_over_tells_those_of_the_new_one(
    layer: BackplaneLayer, name: str, often: None
) -> None:
    both = ForwardingChannelLayer(QueueLayer(), layer, lead="new")
    channel = await both.new_channel()
    await both.group_add("room", channel)
    await until(lambda: name in process_statistics().lag)
    assert process_statistics().up[name] is True
    await both.close()


async def test_an_outage_is_counted_and_seen_and_ends_what_is_known_of_the_lag(often: None, tmp_path: Path) -> None:
    name = NAMES["local"]
    place = Place(str(tmp_path / "broker.sock"), is_ours=False)
    broker = broker_process(place)
    layer = OwnLocalLayer(place.path, prefix="shop")
    await layer.new_channel()
    await until(lambda: name in process_statistics().lag)
    outages = process_statistics().counters["backplane"]["outages"]
    broker.kill()
    await asyncio.to_thread(broker.wait, DEADLINE)
    await until(lambda: process_statistics().up[name] is False)
    assert name not in process_statistics().lag
    assert process_statistics().counters["backplane"]["outages"] == outages + 1
    again = broker_process(place)
    await until(lambda: process_statistics().up[name] and name in process_statistics().lag)
    await layer.close()
    again.terminate()
    await asyncio.to_thread(again.wait, DEADLINE)


async def test_the_layer_in_memory_tells_its_counts_and_needs_nothing_that_could_be_away() -> None:
    before = process_statistics()
    layer = InMemoryChannelLayer()
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    found = process_statistics()
    assert found.counters["layers"]["memberships"] == before.counters["layers"]["memberships"] + 1
    assert found.up.keys() == before.up.keys()
    await layer.group_discard("room", channel)
