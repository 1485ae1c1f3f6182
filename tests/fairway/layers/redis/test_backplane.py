"""The backplane over Redis where Redis itself is in question: killed, stopped, flushed, refusing, several, slow."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.fairway.layers.redis.rights import documented
from tests.services.redis import RedisServer, redis_server

from fairway.layers import kept as kept_module
from fairway.layers.backplane import Keep, Refused, Unavailable
from fairway.layers.link import WINDOW_MESSAGES
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from fairway.layers.redis.blocking import BlockingRedis
from fairway.testing.backplane_contract import DEADLINE, Process
from fairway.testing.fault_proxy import FaultProxy


class Processes:
    """Starts some, and closes them in the end."""

    def __init__(self) -> None:
        self.started: list[Process] = []

    def start(self, *hosts: Any, prefix: str = "suite", **options: Any) -> Process:
        options = {"answer_timeout": 2.0, "outage_wait": 0.3, **options}
        self.started.append(Process(RedisBackplane(addresses(list(hosts)), prefix, **options)))
        return self.started[-1]


@pytest.fixture
async def processes(redis: RedisServer) -> AsyncIterator[Processes]:
    with redis.client() as client:
        client.flushall()
    those = Processes()
    yield those
    for process in those.started:
        await process.backplane.close()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """For tests that harm it."""
    with redis_server() as server:
        yield server


async def test_a_post_is_one_publish_and_nothing_else(redis: RedisServer, processes: Processes) -> None:
    sender, other = processes.start(redis.url), processes.start(redis.url)
    await other.backplane.subscribe(["g.room"])
    await sender.backplane.publish("g.room", b"")
    with redis.client() as client:
        client.config_resetstat()
        for _ in range(100):
            sender.backplane.post("g.room", b"")
        await other.events.received(101)
        calls = {
            name.removeprefix("cmdstat_"): numbers["calls"] for name, numbers in client.info("commandstats").items()
        }
    assert calls.pop("publish") == 100
    assert calls.keys() <= {"info", "config", "config|resetstat", "hello"}


async def test_what_is_posted_in_one_pass_is_one_write(redis: RedisServer, processes: Processes) -> None:
    async with FaultProxy(*redis.address) as proxy:
        sender = processes.start(f"redis://{proxy.host}:{proxy.port}")
        await sender.backplane.publish("g.room", b"")
        before = proxy.reads
        for _ in range(100):
            sender.backplane.post("g.room", b"")
        await sender.backplane.publish("g.room", b"")
        # The command, and the answers.
        assert proxy.reads - before <= 3


async def test_who_posts_too_much_waits(redis: RedisServer, processes: Processes) -> None:
    sender = processes.start(redis.url)
    await sender.backplane.publish("g.room", b"")
    posted = [sender.backplane.post("g.room", b"") for _ in range(WINDOW_MESSAGES + 5)]
    waiting = [one for one in posted if one is not None]
    assert len(waiting) == 6
    await asyncio.gather(*waiting)
    large = sender.backplane.post("g.room", b"x" * 1024 * 1024)
    assert large is not None
    await large
    assert sender.backplane.post("g.room", b"") is None


async def test_messages_nobody_has_subscribed_to_are_counted(redis: RedisServer, processes: Processes) -> None:
    sender = processes.start(redis.url)
    await sender.backplane.publish("g.room", b"")
    for _ in range(3):
        sender.backplane.post("p.gone", b"")
    await sender.backplane.publish("g.room", b"")
    assert sender.backplane.statistics.unheard == 3


async def test_databases_see_nothing_of_each_other(redis: RedisServer, processes: Processes) -> None:
    one, two = processes.start(f"{redis.url}/1"), processes.start(f"{redis.url}/2")
    for process in (one, two):
        await process.backplane.subscribe(["g.room"])
    await one.backplane.publish("g.room", b"one")
    await one.backplane.push("work", b"one", 10, 60)
    await two.backplane.push("work", b"two", 10, 60)
    assert await two.backplane.pull("work") == b"two"
    assert await one.events.received(1) == [("g.room", b"one")]
    await two.marked(two, 0)


async def test_killed_and_started_again_it_goes_on(own_redis: RedisServer, processes: Processes, caplog: Any) -> None:
    sender, other = processes.start(own_redis.url), processes.start(own_redis.url)
    await other.backplane.subscribe(["g.room"])
    await sender.backplane.publish("g.room", b"before")
    await other.events.received(1)
    reading = asyncio.ensure_future(other.backplane.pull("work"))
    await asyncio.to_thread(own_redis.kill)
    for process in (sender, other):
        await process.events.until(lambda process=process: process.events.downs)
    with pytest.raises(Unavailable, match=rf"^Redis at 127\.0\.0\.1:{own_redis.port} is away: "):
        await sender.backplane.publish("g.room", b"lost")
    await asyncio.to_thread(own_redis.restart)
    for process in (sender, other):
        await process.events.until(lambda process=process: process.events.ups == 2)
    # A server that has started anew knows no scripts.
    await sender.backplane.push("work", b"after", 10, 60)
    assert await reading == b"after"
    sender.backplane.post("g.room", b"after")
    assert await other.events.received(2) == [("g.room", b"before"), ("g.room", b"after")]

    ours = [record for record in caplog.records if record.name == "fairway.layers"]
    assert [record.levelno for record in ours].count(logging.ERROR) == 2
    assert [record.levelno for record in ours].count(logging.WARNING) == 2
    assert not any(record.exc_info for record in ours)
    assert any("calls wait for up to 0.3 s, then fail" in record.getMessage() for record in ours)
    assert any(" is back after " in record.getMessage() for record in ours)


async def test_flushall_loses_only_what_waited_in_queues(own_redis: RedisServer, processes: Processes) -> None:
    sender, other = processes.start(own_redis.url), processes.start(own_redis.url)
    await other.backplane.subscribe(["g.room"])
    await sender.backplane.push("work", b"lost", 10, 60)
    with own_redis.client() as client:
        client.flushall()
        client.script_flush()
    await sender.backplane.publish("g.room", b"")
    assert len(await other.events.received(1)) == 1
    await sender.backplane.push("work", b"kept", 10, 60)
    assert await other.backplane.pull("work") == b"kept"


async def test_a_server_that_stands_still_is_noticed_and_left(
    own_redis: RedisServer, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "LOOK", 0.05)
    process = processes.start(own_redis.url, answer_timeout=0.5)
    await process.backplane.subscribe(["g.room"])
    own_redis.signal(signal.SIGSTOP)
    try:
        posted = process.backplane.post("g.room", b"")
        assert posted is None
        await process.events.until(lambda: process.events.downs)
        assert process.backplane.statistics.uncertain == 1
        with pytest.raises(Unavailable, match="is away"):
            await process.backplane.publish("g.room", b"")
    finally:
        own_redis.signal(signal.SIGCONT)
    await process.events.until(lambda: process.events.ups == 2)
    await process.backplane.publish("g.room", b"after")
    await process.events.until(lambda: ("g.room", b"after") in process.events.messages)


@pytest.mark.slow
async def test_an_idle_connection_is_asked_and_stays(
    redis: RedisServer, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "LOOK", 0.25)
    process = processes.start(redis.url)
    await process.backplane.publish("g.room", b"")
    await asyncio.sleep(2)
    assert process.events.downs == 0
    await process.backplane.publish("g.room", b"")


async def test_a_cable_that_is_pulled_is_noticed(
    redis: RedisServer, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "LOOK", 0.05)
    async with FaultProxy(*redis.address) as proxy:
        process = processes.start(f"redis://{proxy.host}:{proxy.port}", answer_timeout=0.3)
        await process.backplane.subscribe(["g.room"])
        proxy.silent = True
        await process.events.until(lambda: process.events.downs)
        with pytest.raises(Unavailable, match="is away"):
            async with asyncio.timeout(DEADLINE):
                await process.backplane.publish("g.room", b"")
        proxy.silent = False
        await process.events.until(lambda: process.events.ups == 2)
        await process.backplane.publish("g.room", b"after")
        await process.events.until(lambda: ("g.room", b"after") in process.events.messages)


@pytest.mark.slow
async def test_a_command_that_is_not_answered_fails_in_time(redis: RedisServer, processes: Processes) -> None:
    async with FaultProxy(*redis.address) as proxy:
        process = processes.start(f"redis://{proxy.host}:{proxy.port}", answer_timeout=0.3)
        await process.backplane.publish("g.room", b"")
        proxy.silent = True
        for call in (
            process.backplane.publish("g.room", b""),
            process.backplane.push("work", b"", 10, 60),
            process.backplane.subscribe(["g.room"]),
        ):
            with pytest.raises(Unavailable, match=r"has not answered within 0\.3 s"):
                await call


@pytest.mark.slow
async def test_many_who_wait_while_it_is_away_take_no_memory_for_ever(redis: RedisServer, processes: Processes) -> None:
    async with FaultProxy(*redis.address) as proxy:
        process = processes.start(f"redis://{proxy.host}:{proxy.port}", outage_wait=0.5)
        await process.backplane.publish("g.room", b"")
        proxy.refusing = True
        proxy.cut()
        await process.events.until(lambda: process.events.downs)
        calls = [process.backplane.post("g.room", b"") for _ in range(kept_module.MOST_WAITING + 500)]
        results = await asyncio.gather(*(call for call in calls if call is not None), return_exceptions=True)
    assert len(results) == kept_module.MOST_WAITING + 500
    assert all(isinstance(result, Unavailable) for result in results)


# What Redis refuses -------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_one_sentence(own_redis: RedisServer, processes: Processes, caplog: Any) -> None:
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "allkeys", "allchannels", "allcommands")
    wrong = processes.start(f"redis://app:guess@127.0.0.1:{own_redis.port}", answer_timeout=DEADLINE)
    with pytest.raises(Refused, match=r"^Redis refuses: WRONGPASS .*; check user and password in hosts"):
        await wrong.backplane.publish("g.room", b"")
    right = processes.start(f"redis://app:secret@127.0.0.1:{own_redis.port}")
    await right.backplane.publish("g.room", b"")
    assert not any("guess" in line or "secret" in line for line in caplog.messages)


async def test_the_least_rights_are_enough(own_redis: RedisServer, processes: Processes) -> None:
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", *documented("suite").messages)
        client.execute_command(
            "ACL", "SETUSER", "less", "reset", "resetchannels", "on", ">secret", "+hello", "+publish", "&suite:0:g.*"
        )
    process = processes.start(f"redis://app:secret@127.0.0.1:{own_redis.port}")
    await process.backplane.subscribe(["g.room"])
    process.backplane.post("g.room", b"yes")
    assert await process.events.received(1) == [("g.room", b"yes")]
    await process.backplane.push("work", b"yes", 10, 60)
    assert await process.backplane.pull("work") == b"yes"
    await process.backplane.followers.add("room", "work", 60)
    assert [row[:2] for row in await process.backplane.followers.all()] == [("room", "work")]
    sender = BlockingRedis(addresses(f"redis://app:secret@127.0.0.1:{own_redis.port}"), "suite")
    deadline = time.monotonic() + DEADLINE
    assert await asyncio.to_thread(sender.publish_to_group, "room", b"sent", deadline) == ["work"]
    assert await process.events.received(2) == [("g.room", b"yes"), ("g.room", b"sent")]
    await asyncio.to_thread(sender.push, "work", b"sent", 10, 60, deadline)
    assert await process.backplane.pull("work") == b"sent"
    sender.close()
    await process.backplane.followers.remove("room", "work")

    less = processes.start(f"redis://less:secret@127.0.0.1:{own_redis.port}")
    await less.backplane.publish("g.room", b"yes")
    with pytest.raises(Refused, match=r"^Redis refuses: NOPERM .*; give the user that command, key or channel"):
        await less.backplane.subscribe(["g.room"])
    with pytest.raises(Refused, match="NOPERM"):
        await less.backplane.push("work", b"", 10, 60)


async def test_an_error_about_a_posted_message_is_raised_by_the_next(
    own_redis: RedisServer, processes: Processes, caplog: Any
) -> None:
    with own_redis.client() as client:
        client.execute_command(
            "ACL",
            "SETUSER",
            "app",
            "reset",
            "resetchannels",
            "on",
            ">secret",
            "+hello",
            "+publish",
            "+ping",
            "&suite:0:g.*",
        )
    process = processes.start(f"redis://app:secret@127.0.0.1:{own_redis.port}")
    await process.backplane.publish("g.room", b"")
    for _ in range(5):
        assert process.backplane.post("p.other", b"") is None
    await process.backplane.publish("g.room", b"")
    posted = process.backplane.post("g.room", b"")
    assert posted is not None
    with pytest.raises(Refused, match="NOPERM"):
        await posted
    assert process.backplane.post("g.room", b"") is None
    assert process.backplane.statistics.refused == 5
    assert len([line for line in caplog.messages if line.startswith("A message was lost: Redis refuses: NOPERM")]) == 1


async def test_a_server_that_became_a_replica_is_left(
    own_redis: RedisServer, redis: RedisServer, processes: Processes
) -> None:
    process = processes.start(own_redis.url)
    await process.backplane.push("work", b"", 10, 60)
    with own_redis.client() as client:
        client.execute_command("REPLICAOF", *map(str, redis.address))
    with pytest.raises((Unavailable, Refused)):
        await process.backplane.push("work", b"", 10, 60)
    await process.events.until(lambda: process.events.downs)


async def test_what_is_no_redis_is_left(processes: Processes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        process = processes.start((host, port), answer_timeout=0.3)
        with pytest.raises(Unavailable, match="is away"):
            await process.backplane.publish("g.room", b"")


async def test_nobody_there_is_said_so(processes: Processes) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        process = processes.start(("127.0.0.1", unused.getsockname()[1]), answer_timeout=0.3)
        with pytest.raises(Unavailable, match=r"^Redis at 127\.0\.0\.1:\d+ is away: .*(refused|Connect call failed)"):
            await process.backplane.publish("g.room", b"")


# Shards -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_shard_that_is_away_takes_its_groups_with_it_and_no_others(
    own_redis: RedisServer, redis: RedisServer, processes: Processes
) -> None:
    process = processes.start(own_redis.url, redis.url)
    names = [f"g.{number}" for number in range(40)]
    await process.backplane.subscribe(names)
    await asyncio.to_thread(own_redis.kill)
    await process.events.until(lambda: process.events.downs)
    assert not process.backplane.is_up
    lost = set()
    for name in names:
        try:
            await process.backplane.publish(name, b"")
        except Unavailable:
            lost.add(name)
    assert 5 < len(lost) < 35
    await process.events.until(lambda: {name for name, _ in process.events.messages} == set(names) - lost)
    await asyncio.to_thread(own_redis.restart)


async def test_all_processes_choose_the_same_shard_in_whatever_order_they_name_them(
    own_redis: RedisServer, redis: RedisServer, processes: Processes
) -> None:
    one, two = processes.start(own_redis.url, redis.url), processes.start(redis.url, own_redis.url)
    names = [f"g.{number}" for number in range(40)]
    await two.backplane.subscribe(names)
    for name in names:
        assert await one.backplane.publish(name, b"") == 1


# What others put into Redis -----------------------------------------------------------------------------------


async def test_items_of_others_in_a_queue_are_skipped(redis: RedisServer, processes: Processes) -> None:
    process = processes.start(redis.url)
    with redis.client() as client:
        for item in ("", "x", "no time at all", "nan0000000000data", "0000000000001old"):
            client.rpush("suite:q:work", item)
    await process.backplane.push("work", b"genuine", 1, 60)
    assert await process.backplane.pull("work") == b"genuine"
    with redis.client() as client:
        client.rpush("suite:q:work", "x", "y")
    pulling = asyncio.ensure_future(process.backplane.pull("work"))
    await process.backplane.push("work", b"another", 1, 60)
    async with asyncio.timeout(DEADLINE):
        assert await pulling == b"another"


async def test_a_key_of_another_type_is_said_to_be_one(redis: RedisServer, processes: Processes) -> None:
    process = processes.start(redis.url)
    with redis.client() as client:
        client.set("suite:q:work", "text")
        client.set("suite:f", "text")
    for call in (process.backplane.push("work", b"", 10, 60), process.backplane.followers.all()):
        with pytest.raises(Refused, match="WRONGTYPE"):
            await call


@pytest.mark.slow
async def test_one_of_several_away_takes_its_groups_only(redis: RedisServer, processes: Processes) -> None:
    with redis_server() as other:
        process = processes.start(redis.url, other.url)
        both = processes.start(redis.url, other.url)
        names = [f"g.{number}" for number in range(20)]
        await both.backplane.subscribe(names)
        other.kill()
        await process.events.until(process.is_down)
        await both.events.until(both.is_down)
        reached, failed = [], []
        for name in names:
            try:
                await process.backplane.publish(name, b"")
            except Unavailable:
                failed.append(name)
            else:
                reached.append(name)
        assert reached
        assert failed
        assert sorted(name for name, _ in await both.events.received(len(reached))) == sorted(reached)
        assert not process.backplane.is_up
        other.restart()
        for one in (process, both):
            await one.events.until(one.is_up)
        for name in failed:
            await process.backplane.publish(name, b"again")
        await both.events.until(lambda: {(name, b"again") for name in failed} <= set(both.events.messages))


async def test_a_flush_leaves_alone_what_others_keep_beside_it(redis: RedisServer, processes: Processes) -> None:
    process = processes.start(redis.url)
    others = ["suite:session:mira", "suite:list", "suite:q", "suite:l:x", "suit:q:work", "other:q:work"]
    with redis.client() as client:
        for key in others:
            client.set(key, "")
        await process.backplane.push("work", b"", 10, 60)
        await process.backplane.streams.append("g.room", b"", Keep(10, 60), "key")
        await process.backplane.presence.renew(60)
        await process.backplane.presence.enter("h.room", {"1": b""}, 1)
        assert len(client.keys("suite:*")) > 8
        await process.backplane.flush()
        assert sorted(client.keys("*")) == sorted(others)
