"""The broker, over a real socket: who is let in, who is cut off, when it ends, and how another takes over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from tests.fairway.layers.local.brokers import client, running

from fairway.layers.backplane import Keep, Position
from fairway.layers.local import broker as broker_module
from fairway.layers.local import protocol
from fairway.layers.local.backplane import LocalBackplane
from fairway.layers.local.place import Misplaced, Place, given_place
from fairway.layers.local.protocol import Answer, Ask
from fairway.layers.local.starting import claim
from fairway.testing.backplane_contract import DEADLINE, Process

pytestmark = pytest.mark.asyncio


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return given_place(str(tmp_path / "broker.sock"))


# Who is let in ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_one_that_says_nothing_is_cut_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "GREETING", 0.1)
    async with running(place), client(place) as silent, client(place) as other:
        await other.greeted()
        assert await silent.hears() is None
        await other.says(protocol.frame(Ask.PING))
        assert await other.hears() is not None


async def test_an_older_process_is_told_to_restart(place: Place) -> None:
    async with running(place, version=3, oldest=2), client(place) as older:
        await older.says(protocol.hello("suite", version=1))
        said = await older.refusal()
        assert said == (
            f"the broker at {place.path} speaks version 3 of its protocol, and this process the older 1: restart it, "
            "since it runs an older release"
        )


async def test_a_newer_process_is_told_that_the_broker_is_older(place: Place) -> None:
    async with running(place), client(place) as newer:
        await newer.says(protocol.hello("suite", version=protocol.VERSION + 1))
        assert (await newer.refusal()).startswith(protocol.OLDER)


async def test_somebody_else_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Place, connection: socket.socket) -> None:
        raise Misplaced("at the other end is user 4711")

    monkeypatch.setattr(Place, "check_peer", refuse)
    async with running(place), client(place) as stranger:
        assert await stranger.refusal() == "at the other end is user 4711"


async def test_too_many_processes_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "MOST_PEERS", 1)
    async with running(place), client(place) as one:
        await one.greeted()
        async with client(place) as two:
            assert await two.refusal() == "1 processes are connected to the broker, and no more can be"


async def test_too_many_prefixes_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "MOST_PREFIXES", 1)
    async with running(place), client(place) as one, client(place) as two:
        await one.greeted("a")
        await two.says(protocol.hello("b"))
        assert await two.refusal() == "the broker serves 1 prefixes, and no more"


async def test_a_prefix_that_nobody_uses_any_more_makes_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run of a project's tests has its own, beside processes that stay."""
    monkeypatch.setattr(broker_module, "MOST_PREFIXES", 2)
    monkeypatch.setattr(broker_module, "_TICK", 0.01)
    async with running(place), client(place) as stays, asyncio.timeout(DEADLINE):
        await stays.greeted("site")
        for number in range(5):
            while True:
                async with client(place) as one:
                    await one.says(protocol.hello(f"run-{number}"))
                    heard = await one.hears()
                    if heard is not None and heard[0] is Answer.WELCOME:
                        break
                await asyncio.sleep(0.01)
        await stays.says(*protocol.names(Ask.SUBSCRIBE, ["g.room"]))
        assert await stays.hears() == (Answer.DONE, "", b"\0\0\0\0")
        async with client(place) as other:
            await other.greeted("site")
            await other.says(protocol.publish("g.room", b""))
            assert await other.hears() == (Answer.DONE, "", b"\0\0\0\1"), "its prefix was not forgotten"


# Its end ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_it_ends_when_nobody_has_been_there_for_a_while(place: Place) -> None:
    async with running(place, idle=1.0) as it:
        async with client(place) as one:
            await one.greeted()
        await it.ended()
        assert not Path(place.path).exists()  # noqa: ASYNC240  # one look


@pytest.mark.slow
async def test_it_does_not_end_before_what_waits_has_been_read_or_has_expired(place: Place) -> None:
    async with running(place, idle=0.0) as it:
        async with client(place) as one:
            await one.greeted()
            await one.says(protocol.push("work", b"", 10, 2.5))
            assert await one.hears() is not None
        began = asyncio.get_running_loop().time()
        await it.ended()
        assert asyncio.get_running_loop().time() - began >= 2.4


# Another takes over -----------------------------------------------------------------------------------------------


async def test_a_newer_broker_takes_over_and_nothing_is_lost(place: Place) -> None:
    async with running(place) as old, contextlib.AsyncExitStack() as stack:
        senders = [Process(LocalBackplane(place, "suite")) for _ in range(2)]
        receivers = [Process(LocalBackplane(place, "suite")) for _ in range(2)]
        for process in (*senders, *receivers):
            stack.push_async_callback(process.backplane.close)
        for process in receivers:
            await process.backplane.subscribe(["g.room"])
        await senders[0].backplane.push("work", b"kept", 10, 60)
        await senders[0].backplane.followers.add("room", "work", 60)
        positions = [
            await senders[0].backplane.streams.append("g.past", data, Keep(10, 60), key)
            for data, key in ((b"1", ""), (b"2", ""), (b"3", "key"))
        ]
        reading = asyncio.ensure_future(receivers[0].backplane.pull("more"))
        sent: list[list[bytes]] = [[], []]
        is_over = False

        async def send(number: int) -> None:
            while not is_over:
                data = b"%d.%d" % (number, len(sent[number]))
                sent[number].append(data)
                await (senders[number].backplane.post("g.room", data) or asyncio.sleep(0))

        sending = [asyncio.ensure_future(send(number)) for number in range(2)]
        await receivers[0].events.received(100)
        ending = asyncio.ensure_future(old.ended())
        async with running(place, version=protocol.VERSION + 1):
            await ending
            count = len(receivers[0].events.messages)
            await receivers[0].events.received(count + 100)
            is_over = True
            await asyncio.gather(*sending)
            for process in receivers:
                await process.events.received(sum(map(len, sent)))
                for number in range(2):
                    mine = [data for _, data in process.events.messages if data.startswith(b"%d." % number)]
                    assert mine == sent[number], "nothing is lost, doubled or overtaken"
            orders = [process.events.messages for process in receivers]
            assert orders[0] == orders[1]
            assert await receivers[1].backplane.pull("work") == b"kept"
            streams = senders[1].backplane.streams
            page = await streams.read("g.past", None, 10)
            assert ([kept.position for kept in page.messages], page.top) == (positions, positions[-1])
            assert await streams.append("g.past", b"again", Keep(10, 60), "key") == positions[-1]
            assert await streams.append("g.past", b"more", Keep(10, 60)) == Position(positions[0].epoch, 4)
            assert [row[:2] for row in await senders[1].backplane.followers.all()] == [("room", "work")]
            await senders[1].backplane.push("more", b"for who waited", 10, 60)
            async with asyncio.timeout(DEADLINE):
                assert await reading == b"for who waited"
            for process in (*senders, *receivers):
                statistics = process.backplane.statistics
                assert (process.events.downs, statistics.outages, statistics.uncertain) == (0, 0, 0)
            for process in (*senders, *receivers):
                await process.backplane.close()


async def test_one_of_the_same_version_does_not_take_over(place: Place) -> None:
    async with running(place), client(place) as one:
        await one.greeted()
        assert await asyncio.to_thread(claim, place) is None
        await one.says(protocol.frame(Ask.PING))
        assert await one.hears() is not None
