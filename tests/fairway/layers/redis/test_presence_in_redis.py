"""What the contract suite does not see of presence in Redis: what exists there, and for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.services.redis import RedisServer

from fairway.layers.backplane import NOTE
from fairway.layers.redis import presence
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from fairway.testing.backplane_contract import Process


@pytest.fixture
async def backplane(redis: RedisServer) -> AsyncIterator[RedisBackplane]:
    with redis.client() as client:
        client.flushall()
    backplane = RedisBackplane(addresses([redis.url]), "suite")
    await Process(backplane).events.until(lambda: backplane.is_up)
    yield backplane
    await backplane.close()


async def test_nothing_is_left_when_all_have_left(backplane: RedisBackplane, redis: RedisServer) -> None:
    who = backplane.presence
    await who.renew(60)
    await who.enter("h.room", {"1": b"", NOTE: b"1"}, 1)
    await who.leave("h.room", ["1"], 1)

    with redis.client() as client:
        assert client.keys() == ["suite:l"]


async def test_what_exists_for_a_while_expires_if_nobody_is_left(
    backplane: RedisBackplane, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "FIRST", 0.0)
    who = backplane.presence
    await who.renew(60)
    for group in ("h.room", "h.hall"):
        await who.enter(group, {"1": b"", NOTE: b"1"}, 1)
    await who.leave("h.hall", ["1"], 1)
    await who.renew(60)

    with redis.client() as client:
        keys = sorted(client.keys())
        assert [key.split(":")[1] for key in keys] == ["e", "h", "l", "o"]
        assert all(0 < client.pttl(key) <= presence.DAY for key in keys)


async def test_a_second_entry_is_one_command(backplane: RedisBackplane, redis: RedisServer) -> None:
    who = backplane.presence
    await who.renew(60)
    await who.enter("h.room", {"1": b"", NOTE: b"1"}, 1)
    with redis.client() as client:
        client.config_resetstat()
        await who.enter("h.room", {"2": b"", NOTE: b"2"}, 1)
        commands = {name: found["calls"] for name, found in client.info("commandstats").items()}

    assert {name: calls for name, calls in commands.items() if "config" not in name} == {"cmdstat_hset": 1}
