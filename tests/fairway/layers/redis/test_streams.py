"""Histories in Redis: another server takes over, rights are missing, and what Redis holds and does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.fairway.layers.doubles import new_member, waiting
from tests.services.redis import RedisServer, find_valkey, redis_server

from fairway.delivery import Member
from fairway.layers import streaming
from fairway.layers.backplane import Keep, Position, Refused
from fairway.layers.redis import RedisChannelLayer, functions
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from fairway.testing.backplane_contract import Process
from fairway.testing.fault_proxy import FaultProxy

DEADLINE = 20.0
HISTORY = {"*": {"size": 1000, "seconds": 600}}


@pytest.fixture(scope="module")
def other() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def pair(redis: RedisServer, other: RedisServer) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master, and a server that copies it."""
    with redis.client() as master, other.client() as replica:
        master.flushall()
        replica.replicaof(redis.host, redis.port)
        until(lambda: replica.info("replication")["master_link_status"] == "up")
        yield redis, other
        replica.replicaof("NO", "ONE")
        replica.flushall()


def until(condition: Any) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


async def collected(member: Member, count: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE):
        while len(items) < count:
            items += waiting(member)
            await asyncio.sleep(0.005)
    return items


@pytest.fixture
async def proxy(pair: tuple[RedisServer, RedisServer]) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(*pair[0].address) as proxy:
        yield proxy


def said(number: int) -> dict[str, Any]:
    return {"type": "said", "number": number}


async def failed_over(
    pair: tuple[RedisServer, RedisServer], proxy: FaultProxy, trusts: bool, lost: int
) -> tuple[RedisChannelLayer, Member, str]:
    """A layer after a failover in which the new master missed this many messages that members had got."""
    _, replica = pair
    layer = RedisChannelLayer(hosts=[f"redis://{proxy.host}:{proxy.port}"], history=HISTORY, trust_failover=trusts)
    member = new_member(layer.hub, await layer.new_channel())
    layer.hub.gaps.add(member)
    await layer.group_join("room", member.name)
    for number in range(10):
        await layer.group_send("room", said(number))
    with replica.client() as client:
        until(lambda: client.get("fairway:m2::changes") == "10")
        client.replicaof("NO", "ONE")
    for number in range(10, 10 + lost):
        await layer.group_send("room", said(number))
    items = await collected(member, 10 + lost)
    proxy.target = replica.address
    proxy.cut()
    async with asyncio.timeout(DEADLINE):
        while not (layer.node.statistics.outages and layer.is_up()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return layer, member, items[-1]["layer.position"]


@pytest.mark.slow
async def test_a_failover_that_lost_messages_is_said(pair: tuple[RedisServer, RedisServer], proxy: FaultProxy) -> None:
    layer, member, position = await failed_over(pair, proxy, trusts=False, lost=5)
    for number in range(100, 107):
        await layer.group_send("room", said(number))
    items = await collected(member, 8)

    assert [item.get("reason", item.get("number")) for item in items] == ["epoch", *range(100, 107)]
    late = new_member(layer.hub, await layer.new_channel())
    recovery = await layer.group_join("room", late.name, position)
    assert (recovery.recovered, recovery.count) == (False, 17)
    assert [item["number"] for item in await collected(late, 17)] == [*range(10), *range(100, 107)]
    await layer.close()


@pytest.mark.slow
async def test_a_failover_that_is_trusted_goes_on(pair: tuple[RedisServer, RedisServer], proxy: FaultProxy) -> None:
    layer, member, position = await failed_over(pair, proxy, trusts=True, lost=0)
    await layer.group_send("room", said(10))
    assert [item["number"] for item in await collected(member, 1)] == [10]
    late = new_member(layer.hub, await layer.new_channel())
    assert (await layer.group_join("room", late.name, position)).recovered
    assert [item["number"] for item in await collected(late, 1)] == [10]
    await layer.close()


async def test_positions_do_not_name_the_server(redis: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[redis.url], history=HISTORY)
    await layer.group_send("room", said(0))
    position = Position.read((await layer.history("room")).position)
    await layer.close()
    with redis.client() as client:
        run_id = client.info("server")["run_id"]

    assert position is not None
    assert len(position.epoch) == 22
    assert position.epoch[:8] not in run_id


async def test_a_user_who_may_not_run_scripts_is_told_so(redis: RedisServer) -> None:
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "meek", "on", ">secret", "~*", "&*", "+@all", "-@scripting")
    layer = RedisChannelLayer(hosts=[f"redis://meek:secret@{redis.host}:{redis.port}"], history=HISTORY)
    with pytest.raises(Refused, match="give the user that command"):
        await layer.group_send("room", said(0))
    await layer.close()


async def test_everything_expires_and_little_is_renewed(redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()
        client.config_resetstat()
        process = Process(RedisBackplane(addresses([redis.url]), "p"))
        streams = process.backplane.streams
        for _ in range(50):
            await streams.append("g.room", b"", Keep(1000, 300), "key" + str(_))
        await streams.read("g.room", None, 10)
        await streams.tops(["g.hall"])
        keys = client.keys("*")
        lives = {key: client.pttl(key) / 1000 for key in keys}
        calls = client.info("commandstats")["cmdstat_pexpire"]["calls"]
        await process.backplane.close()

    assert all(life > 0 for life in lives.values()), lives
    assert 550 < lives["p:s2:g.room"] <= 600
    assert 86000 < lives["p:m2:g.room"] <= 86400
    assert 800 < lives["p:m2:g.hall"] <= 900
    assert lives["p:i2:g.room:key0"] <= 300
    assert "p:m2::changes" in lives
    assert calls < 10


async def test_a_history_that_never_had_a_message_is_soon_forgotten_unless_it_is_asked_for(redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()
        process = Process(RedisBackplane(addresses([redis.url]), "p"))
        streams = process.backplane.streams
        lives = []
        (top,) = await streams.tops(["g.a"])
        assert (await streams.read("g.b", None, 10)).top.offset == 0
        lives += [client.pttl("p:m2:g.a"), client.pttl("p:m2:g.b")]
        for key in ("p:m2:g.a", "p:m2:g.b"):
            client.pexpire(key, 10_000)
        assert await streams.tops(["g.a"]) == [top]
        await streams.read("g.b", None, 10)
        lives += [client.pttl("p:m2:g.a"), client.pttl("p:m2:g.b")]
        assert all(functions.BARE_LIFE * 900 < life <= functions.BARE_LIFE * 1000 for life in lives)

        position = await streams.append("g.a", b"", Keep(10, 60))
        assert position == Position(top.epoch, 1)
        await streams.tops(["g.a"])
        assert client.pttl("p:m2:g.a") > 86_000_000
        await process.backplane.close()


async def test_a_group_with_members_is_asked_for_although_nothing_is_sent(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "IDLE", 0.05)
    monkeypatch.setattr(streaming, "ASK_AGAIN", 0.1)
    with redis.client() as client:
        client.flushall()
        layer = RedisChannelLayer(hosts=[redis.url], prefix="p", history=HISTORY)
        await layer.group_join("room", new_member(layer.hub, await layer.new_channel()).name)
        client.pexpire("p:m2:g.room", 60_000)
        await asyncio.to_thread(until, lambda: client.pttl("p:m2:g.room") > 60_000)
        await layer.close()


@pytest.mark.slow
async def test_functions_are_loaded_once_and_used() -> None:
    with redis_server(find_valkey()) as server, server.client() as client:
        process = Process(RedisBackplane(addresses([server.url]), "p"))
        for _ in range(20):
            await process.backplane.streams.append("g.room", b"", Keep(10, 60))
        stats = client.info("commandstats")
        assert stats["cmdstat_fcall"]["calls"] == 22  # the first time it is not there yet, and asked for again
        assert "cmdstat_evalsha" not in stats
        client.execute_command("FUNCTION", "FLUSH")
        await process.backplane.streams.append("g.room", b"", Keep(10, 60))
        libraries = client.execute_command("FUNCTION", "LIST")
        assert functions.LIBRARY in str(libraries)
        await process.backplane.close()


async def test_reading_has_a_connection_of_its_own_that_comes_back(redis: RedisServer) -> None:
    async with FaultProxy(*redis.address) as proxy:
        process = Process(RedisBackplane(addresses([f"redis://{proxy.host}:{proxy.port}"]), "reading", outage_wait=5.0))
        streams = process.backplane.streams
        await streams.append("g.room", b"1", Keep(10, 60))
        assert proxy.accepted == 1
        for _ in range(3):
            await streams.read("g.room", None, 10)
        assert proxy.accepted == 2
        proxy.cut()
        await process.events.until(lambda: process.events.downs)
        page = await streams.read("g.room", None, 10)
        assert [kept.data for kept in page.messages] == [b"1"]
        await process.backplane.close()


async def test_what_one_pass_appends_is_one_call_and_keeps_its_place(redis: RedisServer) -> None:
    process = Process(RedisBackplane(addresses([redis.url]), "gathered"))
    backplane, streams, keep = process.backplane, process.backplane.streams, Keep(1000, 60)
    await backplane.subscribe(["g.room"])
    await streams.append("g.room", b"0", keep)
    with redis.client() as client:
        client.config_resetstat()
        await asyncio.gather(*(streams.append(f"g.{number % 7}", b"", keep) for number in range(150)))
        calls = {name[8:]: found["calls"] for name, found in client.info("commandstats").items()}
    assert sum(calls.get(name, 0) for name in ("fcall", "evalsha", "eval")) == 2, "100, and the rest"

    async def post(data: bytes) -> None:
        backplane.post("g.room", data)

    one, _, two, _, three, four = await asyncio.gather(
        streams.append("g.room", b"1", keep, "key"),
        post(b"posted"),
        streams.append("g.room", b"2", keep),
        backplane.publish("g.room", b"published"),
        streams.append("g.room", b"3", keep),
        streams.append("g.room", b"again", keep, "key"),
    )
    assert [place.offset for place in (one, two, three, four) if place is not None] == [2, 3, 4, 2]
    await process.events.received(6)
    assert [data.rpartition(b"\n")[2] for _, data in process.events.messages] == [
        b"0", b"1", b"posted", b"2", b"published", b"3"
    ]  # fmt: skip
    await backplane.close()


async def test_a_message_that_cannot_be_kept_takes_no_other_with_it(redis: RedisServer) -> None:
    process = Process(RedisBackplane(addresses([redis.url]), "gathered"))
    streams = process.backplane.streams
    with redis.client() as client:
        client.set("gathered:m2:g.taken", "something else")
    results = await asyncio.gather(
        *(streams.append(subject, b"", Keep(10, 60)) for subject in ("g.one", "g.taken", "g.two")),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == ["Position", "Refused", "Position"]
    assert "WRONGTYPE" in str(results[1])
    await process.backplane.close()


async def test_a_storm_of_clients_that_come_back_reads_twice_at_most(redis: RedisServer) -> None:
    """Once to know the newest position, once for what is kept. A second storm finds all of it in the process."""
    sender, layer = (RedisChannelLayer(hosts=[redis.url], prefix="storm", history=HISTORY) for _ in range(2))
    for number in range(60):
        await sender.group_send("room", said(number))
    since = (await sender.history("room", limit=10)).position
    await layer.group_join("warm-up", await layer.new_channel(), "all")  # the scripts are known from now on
    for reads in (2, 0):
        members = [new_member(layer.hub, await layer.new_channel()) for _ in range(1000)]
        with redis.client() as client:
            client.config_resetstat()
            joins = await asyncio.gather(*(layer.group_join("room", member.name, since) for member in members))
            calls = {
                name.removeprefix("cmdstat_"): found["calls"] for name, found in client.info("commandstats").items()
            }
        assert {(join.recovered, join.count) for join in joins} == {(True, 50)}
        assert [item["number"] for item in await collected(members[-1], 50)] == list(range(10, 60))
        assert sum(calls.get(name, 0) for name in ("fcall", "evalsha", "eval")) <= reads, calls
        assert calls.get("subscribe", 0) <= 1
    await sender.close()
    await layer.close()


async def test_groups_without_a_history_cost_as_if_there_were_none(redis: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[redis.url], prefix="plain", history={"chat.*": {"size": 10}})
    member = new_member(layer.hub, await layer.new_channel())
    await layer.group_add("warm-up", member.name)
    with redis.client() as client:
        client.config_resetstat()
        await layer.group_add("room", member.name)
        for number in range(20):
            await layer.group_send("room", said(number))
        items = await collected(member, 20)
        calls = {name[8:] for name in client.info("commandstats")}
    await layer.close()

    assert items == [said(number) for number in range(20)], "without positions"
    assert calls - {"config|resetstat", "config", "info", "ping"} == {"subscribe", "publish"}
