"""Thousands of calls at once: all are answered, and if the service stands still, all are told so in time."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.services.local import running_broker
from tests.services.redis import RedisServer, redis_server

from fairway.layers.backplane import Unavailable
from fairway.layers.layer import BackplaneLayer
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.place import Place, given_place
from fairway.layers.recovery import Recovery
from fairway.layers.redis import RedisChannelLayer

pytestmark = pytest.mark.asyncio

DEADLINE = 60.0
HISTORY = {"chat.*": {"size": 50, "seconds": 600}}
ANSWER_TIMEOUT = 0.5
CROWD = 2000
"""Clients that join at once."""

NewLayer = Callable[..., BackplaneLayer]


@pytest.fixture(params=["redis", "local"])
def which(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, int]]:
    place = given_place(str(tmp_path_factory.mktemp("local") / "broker.sock"))
    with running_broker(place) as process:
        yield place, process.pid


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """One that a test may stop."""
    with redis_server() as server:
        yield server


@pytest.fixture
def service(request: pytest.FixtureRequest, which: str) -> tuple[NewLayer, Callable[[int], None]]:
    """Makes layers of one service, and sends it a signal."""
    if which == "local":
        place, pid = request.getfixturevalue("broker")
        return lambda **options: LocalChannelLayer(socket=place.path, **options), lambda number: os.kill(pid, number)
    server: RedisServer = request.getfixturevalue("own_redis")
    return lambda **options: RedisChannelLayer(hosts=[server.url], **options), server.signal


@pytest.fixture
async def new_layer(service: tuple[NewLayer, Callable[[int], None]]) -> AsyncIterator[NewLayer]:
    layers: list[BackplaneLayer] = []

    def make(**options: Any) -> BackplaneLayer:
        layers.append(service[0](history=HISTORY, **options))
        return layers[-1]

    yield make
    for layer in layers:
        await layer.close()


async def crowd(layer: BackplaneLayer, count: int) -> list[Any]:
    """What each of so many channels gets that come back to their groups at once, or its error."""
    channels = [await layer.new_channel() for _ in range(count)]
    joining = (layer.group_join(f"chat.{number}", name, "all") for number, name in enumerate(channels))
    async with asyncio.timeout(DEADLINE):
        return await asyncio.gather(*joining, return_exceptions=True)


async def kept(layer: BackplaneLayer, count: int, text: str) -> None:
    """Each of so many groups has a message."""
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        await asyncio.gather(
            *(layer.group_send(f"chat.{number}", {"type": "said", "text": text}) for number in numbers)
        )


@pytest.mark.slow
async def test_who_waits_for_its_turn_is_not_given_up(new_layer: NewLayer) -> None:
    count, took = CROWD, 0.0
    while took < 2 * ANSWER_TIMEOUT:  # or else it proves nothing: how long a crowd takes depends on the machine
        await kept(new_layer(), count, "x")
        began = time.monotonic()
        results = await crowd(new_layer(answer_timeout=ANSWER_TIMEOUT), count)
        took = time.monotonic() - began
        assert {type(result) for result in results} == {Recovery}
        assert all(result.recovered and result.count for result in results)
        count *= 2


@pytest.mark.slow
async def test_what_is_read_comes_in_turns_and_overflows_nothing(new_layer: NewLayer) -> None:
    count, size = 400, 100_000  # together more than a broker lets wait for one process
    await kept(new_layer(), count, "x" * size)
    results = await crowd(new_layer(), count)
    assert {type(result) for result in results} == {Recovery}


@pytest.mark.slow
async def test_a_crowd_is_told_in_time_that_the_service_stands_still(
    new_layer: NewLayer, service: tuple[NewLayer, Callable[[int], None]]
) -> None:
    layer, send_signal = new_layer(answer_timeout=ANSWER_TIMEOUT, outage_wait=0.2), service[1]
    channels = [await layer.new_channel() for _ in range(CROWD)]
    await layer.group_join("chat.first", channels[0])
    send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        joining = (layer.group_join(f"chat.{number}", name, "all") for number, name in enumerate(channels))
        async with asyncio.timeout(DEADLINE):
            results = await asyncio.gather(*joining, return_exceptions=True)
        assert time.monotonic() - began < 10 * ANSWER_TIMEOUT
        assert {type(result) for result in results} == {Unavailable}
    finally:
        send_signal(signal.SIGCONT)
