"""What the contract suite does not see of presence in Redis: what exists there, for how long, and what it costs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from tests.services.redis import RedisServer

from fairway.layers.backplane import NOTE, Unavailable
from fairway.layers.redis import entries
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from fairway.layers.redis.presence import RedisPresence
from fairway.testing.backplane_contract import Process
from fairway.testing.fault_proxy import FaultProxy

MANY = {str(number): b"somebody" for number in range(100)}


@pytest.fixture
async def backplane(redis: RedisServer) -> AsyncIterator[RedisBackplane]:
    with redis.client() as client:
        client.flushall()
    backplane = RedisBackplane(addresses([redis.url]), "suite")
    await Process(backplane).events.until(lambda: backplane.is_up)
    yield backplane
    await backplane.close()


@pytest.fixture
async def who(backplane: RedisBackplane) -> RedisPresence:
    assert isinstance(backplane.presence, RedisPresence)
    await backplane.presence.renew(60)
    return backplane.presence


def kinds(redis: RedisServer) -> list[str]:
    """The keys that there are, without the prefix and the holder."""
    with redis.client() as client:
        return sorted(re.sub(r"^suite:(..)(:[0-9a-f]{12}\.1)?", r"\1", key) for key in client.keys("*"))


async def listed(who: RedisPresence, subject: str) -> dict[str, bytes]:
    found = await who.present(subject)
    assert len(found) <= 1
    return dict(found[0].entries) if found else {}


async def test_small_groups_have_no_keys(who: RedisPresence, redis: RedisServer) -> None:
    await asyncio.gather(*(who.enter(f"h.user-{number}", {"1": b"", NOTE: b"1"}, 1) for number in range(50)))
    assert kinds(redis) == ["e2", "l2"]
    await asyncio.gather(*(who.leave(f"h.user-{number}", ["1"], 1) for number in range(50)))
    assert kinds(redis) == ["l2"]


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_group_that_grows_gets_a_hash_until_all_have_left(
    who: RedisPresence, redis: RedisServer, at_once: bool
) -> None:
    await who.enter("h.user-1", {"1": b"alone"}, 1)
    if at_once:
        await who.enter("h.room", {**MANY, NOTE: b"100"}, 1)
    else:
        for id_, data in MANY.items():
            await who.enter("h.room", {id_: data, NOTE: b"100"}, 1)
    assert await listed(who, "h.room") == {**MANY, NOTE: b"100"}
    assert await who.count("h.room") == 100
    assert kinds(redis) == ["e2", "e2:h.room", "l2", "o2"]

    *most, last = MANY
    await who.leave("h.room", most, 1)
    assert await listed(who, "h.room") == {last: b"somebody", NOTE: b"100"}
    await who.leave("h.room", [last], 1)
    assert kinds(redis) == ["e2", "l2"]
    await who.enter("h.room", {"a": b"again"}, 1)
    assert await listed(who, "h.room") == {"a": b"again"}
    assert kinds(redis) == ["e2", "l2"]


async def test_all_that_is_said_in_one_pass_takes_effect_in_its_order(who: RedisPresence, redis: RedisServer) -> None:
    await asyncio.gather(
        who.enter("h.room", {"1": b"small"}, 1),
        who.enter("h.room", MANY, 1),
        who.leave("h.room", list(MANY), 1),
        who.enter("h.room", {"x": b"later"}, 1),
        who.leave("h.room", ["x"], 1),
        who.enter("h.room", {"y": b"last"}, 1),
        who.enter("h.hall", MANY, 1),
        who.leave("h.hall", list(MANY), 1),
    )
    assert (await listed(who, "h.room"), await listed(who, "h.hall")) == ({"y": b"last"}, {})
    assert (await who.count("h.room"), await who.count("h.hall")) == (1, 0)
    await who.leave("h.room", ["y"], 1)
    assert kinds(redis) == ["l2"]


async def test_what_was_left_by_a_group_that_is_small_again_does_not_come_back(
    who: RedisPresence, redis: RedisServer
) -> None:
    with redis.client() as client:
        client.hset(f"suite:e2:{who.process}.1:h.room", "ghost", "")
    await who.enter("h.room", MANY, 1)
    assert await listed(who, "h.room") == MANY


async def test_everything_expires_if_nobody_is_left(
    backplane: RedisBackplane, who: RedisPresence, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "AGAIN", 0.0)
    await who.enter("h.room", {"1": b"", NOTE: b"1"}, 1)
    await who.enter("h.hall", MANY, 1)
    with redis.client() as client:
        for is_renewed in (False, True):
            lives = {key: client.pttl(key) for key in client.keys("*")}
            assert len(lives) == 4
            assert all(entries.DAY - 50_000 < life <= entries.DAY for life in lives.values()), (is_renewed, lives)
            for key in lives:
                client.pexpire(key, 60_000)
            await who.renew(60)


async def test_joins_of_one_pass_are_one_command(who: RedisPresence, redis: RedisServer) -> None:
    await who.enter("h.hall", {"1": b""}, 1)
    with redis.client() as client:
        client.config_resetstat()
        await asyncio.gather(*(who.enter(f"h.user-{number}", {"1": b"", NOTE: b"1"}, 1) for number in range(100)))
        commands = {name: found["calls"] for name, found in client.info("commandstats").items()}

    assert {name: calls for name, calls in commands.items() if "config" not in name} == {"cmdstat_hset": 1}


async def test_what_could_not_be_said_is_said_with_what_follows(redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()
    async with FaultProxy(*redis.address) as proxy:
        url = f"redis://{proxy.host}:{proxy.port}"
        process = Process(RedisBackplane(addresses([url]), "suite", outage_wait=0.05))
        await process.events.until(lambda: process.backplane.is_up)
        who = process.backplane.presence
        assert isinstance(who, RedisPresence)
        await who.renew(60)
        await who.enter("h.room", {"1": b"before"}, 1)
        await who.enter("h.hall", MANY, 1)
        proxy.refusing = True
        proxy.cut()
        await process.events.until(lambda: process.events.downs)
        with redis.client() as client:
            client.delete(f"suite:e2:{who.process}.1")
        for call in (who.enter("h.room", {"2": b"meanwhile"}, 1), who.enter("h.hall", {"new": b""}, 1)):
            with pytest.raises(Unavailable):
                await call
        proxy.refusing = False
        await process.events.until(lambda: process.backplane.is_up)
        await who.enter("h.room", {"3": b"after"}, 1)
        await who.enter("h.hall", {"new": b""}, 1)
        assert await listed(who, "h.room") == {"1": b"before", "2": b"meanwhile", "3": b"after"}
        assert await listed(who, "h.hall") == {**MANY, "new": b""}
        await process.backplane.close()
