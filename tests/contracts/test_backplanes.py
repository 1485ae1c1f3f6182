"""The suite for backplanes, over each of ours: the engine in memory, and real Redis servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from fairway.layers.backplane import Backplane, Unavailable
from fairway.layers.engine import Engine
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from fairway.testing.backplane_contract import BackplaneContract, OutageContract
from fairway.testing.fault_proxy import FaultProxy
from fairway.testing.in_process import InProcessBackplane
from tests.services.redis import RedisServer, redis_server


class InProcessService:
    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}
        self._backplanes: list[InProcessBackplane] = []
        self._is_lost = False

    def backplane(self, prefix: str = "suite") -> Backplane:
        backplane = InProcessBackplane(self._engines.setdefault(prefix, Engine()), is_lost=self._is_lost)
        self._backplanes.append(backplane)
        return backplane

    async def lose(self) -> None:
        self._is_lost = True
        for backplane in self._backplanes:
            backplane.lose(Unavailable("lost"))

    async def recover(self) -> None:
        self._is_lost = False
        for backplane in self._backplanes:
            backplane.recover()


class RedisService:
    """`outage_wait` is short: what is tested is that it is kept."""

    def __init__(self, *hosts: str, proxies: tuple[FaultProxy, ...] = ()) -> None:
        self._hosts = list(hosts)
        self._proxies = proxies

    def backplane(self, prefix: str = "suite") -> Backplane:
        return RedisBackplane(addresses(self._hosts), prefix, answer_timeout=2.0, outage_wait=0.3)

    async def lose(self) -> None:
        for proxy in self._proxies:
            proxy.refusing = True
            proxy.cut()

    async def recover(self) -> None:
        for proxy in self._proxies:
            proxy.refusing = False


@pytest.fixture
def clean(redis: RedisServer) -> RedisServer:
    with redis.client() as client:
        client.flushall()
    return redis


@pytest.fixture(scope="session")
def shards() -> Iterator[list[RedisServer]]:
    with redis_server() as one, redis_server() as two, redis_server() as three:
        yield [one, two, three]


class TestEngine(BackplaneContract, OutageContract):
    @pytest.fixture
    def service(self) -> InProcessService:
        return InProcessService()


class TestRedis(BackplaneContract):
    on_each_loop = True

    @pytest.fixture
    def service(self, clean: RedisServer) -> RedisService:
        return RedisService(clean.url)


class TestRedisThroughAFaultyNetwork(OutageContract):
    on_each_loop = True

    @pytest.fixture
    async def service(self, clean: RedisServer) -> AsyncIterator[RedisService]:
        async with FaultProxy(*clean.address) as proxy:
            yield RedisService(f"redis://{proxy.host}:{proxy.port}", proxies=(proxy,))


class TestRedisWithASlowNetwork(BackplaneContract):
    @pytest.fixture
    async def service(self, clean: RedisServer) -> AsyncIterator[RedisService]:
        async with FaultProxy(*clean.address) as proxy:
            proxy.delay = 0.002
            yield RedisService(f"redis://{proxy.host}:{proxy.port}")


class TestSeveralRedis(BackplaneContract):
    @pytest.fixture
    def service(self, shards: list[RedisServer]) -> RedisService:
        for server in shards:
            with server.client() as client:
                client.flushall()
        return RedisService(*(server.url for server in shards))
