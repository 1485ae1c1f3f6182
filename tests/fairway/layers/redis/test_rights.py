"""Users of Redis with the rights that the pages show. The contract suites (tests/contracts) run with them, too."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fairway.layers.doubles import new_member, waiting
from tests.fairway.layers.redis.rights import documented, user
from tests.services.redis import RedisServer

import fairway.layers.redis
from channels.layers import channel_layers
from fairway.layers import sync
from fairway.layers.backplane import Position, Refused
from fairway.layers.redis import RedisChannelLayer, functions

DEADLINE = 20.0
OPTIONS: dict[str, Any] = {"prefix": "mysite", "history": {"*": {"size": 10, "seconds": 600}}, "lease": 0.5}
RIGHTS = documented("mysite")


def said(number: int) -> dict[str, Any]:
    return {"type": "said", "number": number}


@pytest.fixture
def url(redis: RedisServer) -> str:
    """Of a user with the least rights, in an empty Redis."""
    with redis.client() as client:
        client.flushall()
    return user(redis, "mysite", RIGHTS.all)


@pytest.fixture
async def layer(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisChannelLayer]:
    """The layer of this process, for code with an event loop and without."""
    layer = RedisChannelLayer(hosts=[url], **OPTIONS)
    monkeypatch.setitem(channel_layers.backends, "default", layer)
    yield layer
    await layer.close()
    layer.retire()


async def test_histories_continue_and_one_warning_says_so(
    layer: RedisChannelLayer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "_said_at", -1000.0)
    with caplog.at_level(logging.WARNING):
        await layer.group_send("room", said(0), key="once")
        await layer.group_send("room", said(0), key="once")
        await asyncio.to_thread(sync.group_send, "room", said(1))
        history = await layer.history("room")
        read = await asyncio.to_thread(sync.history, "room")
        late = new_member(layer.hub, await layer.new_channel())
        recovery = await layer.group_join("room", late.name, history.messages[0]["layer.position"])

    assert [event["number"] for event in history.messages] == [0, 1]
    assert read == history
    assert (recovery.recovered, recovery.count) == (True, 1)
    position = Position.read(history.position)
    assert position is not None
    assert position.epoch.startswith(functions.NO_SERVER), "as with trust_failover"
    assert [line.getMessage()[:47] for line in caplog.records] == ["Redis does not say which server it is (NOPERM t"]


async def test_presence_is_seen_by_all_and_swept(layer: RedisChannelLayer, url: str, redis: RedisServer) -> None:
    other = RedisChannelLayer(hosts=[url], **OPTIONS)
    mira, tom = new_member(layer.hub, await layer.new_channel()), new_member(other.hub, await other.new_channel())
    await layer.presence.track("room", mira.name, "Mira", key="1", hears=["presence.diff"])
    await other.presence.track("room", tom.name, "Tom", key="2")
    await other.presence.track("room", tom.name, "Tom, away", key="2")

    assert await layer.presence.members("room") == {"1": ["Mira"], "2": ["Tom, away"]}
    assert await asyncio.to_thread(sync.presence, "room") == {"1": ["Mira"], "2": ["Tom, away"]}
    assert await layer.presence.count("room") == await asyncio.to_thread(sync.presence_count, "room") == 2

    # Another process has died: its lease has ended, and its entries are there.
    with redis.client() as client:
        client.zadd("mysite:l2", {"dead.1": time.time() * 1000 - 60_000})
        client.hset("mysite:e2:dead.1", mapping={"h.room": "", "h.hall": "1 1 0 1"})
        client.hset("mysite:e2:dead.1:h.room", "1", "")
        client.sadd("mysite:o2:dead.1", "h.room")
        async with asyncio.timeout(DEADLINE):
            while client.keys("mysite:*dead*") or client.zscore("mysite:l2", "dead.1"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(client.keys("mysite:e2:*")) == 2

    await other.presence.untrack("room", tom.name)
    left: list[Any] = []
    async with asyncio.timeout(DEADLINE):
        while not any(event["left"] for event in left):
            left += waiting(mira)
            await asyncio.sleep(0.005)
    await other.close()
    assert await layer.presence.members("room") == {"1": ["Mira"]}


async def test_what_is_missing_is_said(redis: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[user(redis, "less", RIGHTS.messages)], **OPTIONS)
    with pytest.raises(Refused, match=r"NOPERM.*give the user that command, key or channel"):
        await layer.group_send("room", said(0))
    with pytest.raises(Refused, match=r"NOPERM.*give the user that command"):
        await layer.presence.members("room")
    await layer.close()


def test_the_rights_are_those_that_the_layer_uses() -> None:
    granted = {right[1:].partition("|")[0].upper() for right in RIGHTS.all if right.startswith("+")}
    sources = [path.read_text("utf-8") for path in Path(fairway.layers.redis.__file__).parent.glob("*.py")]
    in_scripts = {word for source in sources for word in re.findall(r"redis\.call\('([A-Z]+)'", source)}
    named = {word for source in sources for word in re.findall(r"""["']([A-Z]+)["']""", source)}

    assert len(in_scripts) > 30
    assert in_scripts <= granted <= named
    # The pages name these apart.
    assert {"INFO", "FCALL", "FUNCTION", "ROLE", "SCAN"} <= named - granted
