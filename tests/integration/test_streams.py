"""Histories and presence over two server processes: one is killed, or stands still. The clock of one is an hour off."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fairway.layers.layer import BackplaneLayer
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.place import given_place
from fairway.layers.redis import RedisChannelLayer
from fairway.testing import ServerProcess
from tests.integration.rooms import servers_of
from tests.integration.streams import Tab, application, set_up
from tests.services.local import end_broker
from tests.services.redis import RedisServer, redis_server

pytestmark = [pytest.mark.slow, pytest.mark.on_one_loop("asyncio")]

LEASE = 1.0
HISTORY = {"room": {"size": 500, "seconds": 600}, "long": {"size": 5000, "seconds": 600}}
LAYERS = {"local": LocalChannelLayer, "redis": RedisChannelLayer}


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    """One that cuts a subscriber off when 2 MB wait for it."""
    with redis_server() as server, server.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 2mb 2mb 0")
        yield server


@pytest.fixture(params=LAYERS)
def which(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def config(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    config: dict[str, Any] = {"lease": LEASE, "linger": 0.2, "history": HISTORY}
    if which == "redis":
        yield config | {"hosts": [request.getfixturevalue("own_redis").url], "prefix": str(tmp_path)}
        return
    place = given_place(str(tmp_path / "broker.sock"))
    yield config | {"socket": place.path}
    end_broker(place)


@pytest.fixture
def servers(which: str, config: dict[str, Any]) -> Iterator[list[ServerProcess]]:
    layer = {"BACKEND": f"fairway.layers.{which}.{LAYERS[which].__name__}", "CONFIG": config}
    with servers_of(application, [partial(set_up, layer, hours) for hours in (0, 1)]) as started:
        yield started
        for server in started:
            if server.is_alive():
                os.kill(server.pid, signal.SIGCONT)


@pytest.fixture
async def sender(which: str, config: dict[str, Any], servers: list[ServerProcess]) -> AsyncIterator[BackplaneLayer]:
    layer = LAYERS[which](**config)
    yield layer
    await layer.close()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def say(layer: BackplaneLayer, numbers: range, size: int = 10, group: str = "room") -> None:
    for number in numbers:
        await layer.group_send(group, {"type": "said", "number": number, "text": "x" * size}, key=f"{number}")


async def test_each_person_joins_and_leaves_once_over_tabs_and_processes(
    servers: list[ServerProcess], stack: AsyncExitStack
) -> None:
    here, there = (server.port.value for server in servers)
    watcher = await stack.enter_async_context(Tab(here, "watcher"))
    first = await stack.enter_async_context(Tab(here, "mira"))
    for name in ("mira", "mira", "tom"):
        await stack.enter_async_context(Tab(there, name))
    await watcher.until(lambda: watcher.people == {"watcher", "mira", "tom"})
    await first.__aexit__()
    ann = await stack.enter_async_context(Tab(here, "ann"))
    await watcher.until(lambda: "ann" in watcher.people)
    assert watcher.events == ["mira joined", "tom joined", "ann joined"]

    killed_at = time.monotonic()
    servers[1].kill()
    await watcher.until(lambda: watcher.people == {"watcher", "ann"})
    assert time.monotonic() - killed_at < 2 * LEASE + 4, "the lease, and time for a busy machine"
    await ann.until(lambda: ann.people == {"watcher", "ann"})
    assert watcher.events == ["mira joined", "tom joined", "ann joined", "mira left", "tom left"]


async def test_one_that_stands_still_has_left_and_comes_back_and_its_clients_miss_nothing(
    servers: list[ServerProcess], stack: AsyncExitStack, sender: BackplaneLayer
) -> None:
    here, there = (server.port.value for server in servers)
    watcher = await stack.enter_async_context(Tab(here, "watcher"))
    tom = await stack.enter_async_context(Tab(there, "tom"))
    await say(sender, range(5))
    await watcher.until(lambda: watcher.people == {"watcher", "tom"})
    os.kill(servers[1].pid, signal.SIGSTOP)
    await watcher.until(lambda: watcher.people == {"watcher"})
    await say(sender, range(5, 100))
    await asyncio.sleep(2 * LEASE)
    os.kill(servers[1].pid, signal.SIGCONT)
    await watcher.until(lambda: watcher.people == {"watcher", "tom"})
    for tab in (watcher, tom):
        await tab.until(lambda tab=tab: tab.heard[-1:] == [99])
        assert tab.heard == list(range(100))

    ann = await stack.enter_async_context(Tab(there, "ann", watcher.position))
    assert (ann.is_recovered, ann.heard) == (True, [])
    await watcher.until(lambda: "ann" in watcher.people)
    assert watcher.events == ["tom joined", "tom left", "tom joined", "ann joined"]


@pytest.mark.parametrize("which", ["redis"])
async def test_one_that_was_cut_off_for_standing_still_reads_all_that_it_has_missed(
    servers: list[ServerProcess], stack: AsyncExitStack, sender: BackplaneLayer, own_redis: RedisServer
) -> None:
    """24 MB are more than Redis keeps for a subscriber, and than fits into the network between."""
    tom = await stack.enter_async_context(Tab(servers[1].port.value, "tom", group="long"))
    subscribers = _subscribers(own_redis)
    os.kill(servers[1].pid, signal.SIGSTOP)
    await say(sender, range(1200), 20_000, "long")
    async with asyncio.timeout(20):
        while subscribers <= _subscribers(own_redis):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    os.kill(servers[1].pid, signal.SIGCONT)
    await tom.until(lambda: tom.heard[-1:] == [1199])

    assert tom.heard == list(range(1200))


@pytest.mark.parametrize(("which", "count"), [("redis", 1200), ("local", 2400)])
async def test_what_it_cannot_have_any_more_is_told_and_the_rest_comes(
    servers: list[ServerProcess], stack: AsyncExitStack, sender: BackplaneLayer, count: int
) -> None:
    """The history keeps 500 messages, and the broker cuts a process off for which 32 MB wait."""
    tom = await stack.enter_async_context(Tab(servers[1].port.value, "tom"))
    os.kill(servers[1].pid, signal.SIGSTOP)
    await say(sender, range(count), 20_000)
    os.kill(servers[1].pid, signal.SIGCONT)
    await tom.until(lambda: tom.heard[-1:] == [count - 1])

    at = tom.heard.index("trimmed")
    before, rest = tom.heard[:at], tom.heard[at + 1 :]
    assert before == list(range(at)), "what had been on its way"
    assert rest == list(range(count - len(rest), count)), "and then the last ones"
    assert len(rest) >= 500


def _subscribers(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {one["id"] for one in client.client_list(_type="pubsub")}
