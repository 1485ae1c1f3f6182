"""One Redis that is kept connected: who waits for the link, for how long, and what each new one subscribes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.fairway.layers.redis.doubles import FakeTransport, acknowledgement, message
from tests.fairway.loops import passes

from fairway.layers import kept as kept_module
from fairway.layers.backplane import BackplaneStatistics, Refused, Unavailable
from fairway.layers.redis import shard as shard_module
from fairway.layers.redis.link import Link, Owner
from fairway.layers.redis.queues import Queue
from fairway.layers.redis.shard import Shard

DEADLINE = 10.0


class FakeServer:
    """Is dialled; acknowledges subscriptions as long as it is `prompt`."""

    db = 0

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.links: list[Link] = []
        self.subscribed: list[list[bytes]] = []
        self.prompt = True

    def __str__(self) -> str:
        return "there:6379"

    async def dial(self, owner: Owner) -> Link:
        if self.error is not None:
            raise self.error
        link = Link(owner)
        link.connection_made(_Answering(self, link))
        self.links.append(link)
        self.subscribed.append([])
        return link


class _Answering(FakeTransport):
    def __init__(self, server: FakeServer, link: Link) -> None:
        super().__init__()
        self._server = server
        self._link = link

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        words = bytes(data).split(b"\r\n")[2::2]
        if words[0] in (b"SUBSCRIBE", b"UNSUBSCRIBE") and self._server.prompt:
            kind = words[0].lower()
            for name in words[1:]:
                names = self._server.subscribed[-1]
                names.append(name) if kind == b"subscribe" else names.remove(name)
                self._link.data_received(acknowledgement(kind, name, 1))

    def abort(self) -> None:
        if not self.is_aborted:
            super().abort()
            asyncio.get_running_loop().call_soon(self._link.connection_lost, None)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
async def shard(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shard]:
    monkeypatch.setattr(kept_module, "_SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr(shard_module, "_LONGEST_PAUSE", 0.01)
    told: list[Exception | None] = []
    shard = Shard(server, BackplaneStatistics(), answer_timeout=0.2, outage_wait=0.1, told=told.append)
    yield shard
    await shard.kept.close(0.01)


async def standing(shard: Shard) -> Link:
    async with asyncio.timeout(DEADLINE):
        return await shard.kept.standing(patiently=True)


async def test_each_link_subscribes_to_everything(shard: Shard, server: FakeServer) -> None:
    taken: list[bytes] = []
    names = [b"%d" % number for number in range(2500)]
    await shard.subscribe(dict.fromkeys(names, taken.append))
    await shard.unsubscribe(names[:1])
    assert server.subscribed == [names[1:]]
    server.links[0].connection_lost(None)
    link = await standing(shard)

    assert link is server.links[1]
    assert server.subscribed[1] == names[1:]
    link.data_received(message(names[1], b"yes") + message(names[0], b"no") + message(b"unknown", b"no"))
    assert taken == [b"yes"]


async def test_a_shard_is_up_only_when_everything_is_subscribed(shard: Shard, server: FakeServer) -> None:
    await shard.subscribe({b"a": lambda data: None})
    server.prompt = False
    server.links[0].connection_lost(None)
    async with asyncio.timeout(DEADLINE):
        while len(server.links) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await passes()
    assert shard.kept.link is None
    server.links[1].data_received(acknowledgement(b"subscribe", b"a", 1))
    assert await standing(shard) is server.links[1]


async def test_what_changes_while_it_connects_is_made_up_for(shard: Shard, server: FakeServer) -> None:
    await shard.subscribe({b"a": lambda data: None, b"b": lambda data: None})
    server.prompt = False
    server.links[0].connection_lost(None)
    async with asyncio.timeout(DEADLINE):
        while len(server.links) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await passes()
    await shard.unsubscribe([b"a"])
    server.prompt = True
    server.subscribed[1] = [b"a", b"b"]
    server.links[1].data_received(acknowledgement(b"subscribe", b"a", 1) + acknowledgement(b"subscribe", b"b", 2))
    await standing(shard)
    assert server.subscribed[1] == [b"b"]


async def test_who_waits_gets_the_link_or_an_error_in_time(shard: Shard, server: FakeServer) -> None:
    await standing(shard)
    server.error = OSError("gone")
    server.links[0].connection_lost(OSError("cable"))
    waiting = [asyncio.ensure_future(shard.kept.standing()) for _ in range(3)]
    await asyncio.sleep(0)
    server.error = None
    async with asyncio.timeout(DEADLINE):
        assert await asyncio.gather(*waiting) == [server.links[1]] * 3

    server.error = OSError("gone")
    server.links[1].connection_lost(OSError("cable"))
    with pytest.raises(Unavailable, match=r"^Redis at there:6379 is away: (gone|cable)$"):
        await shard.kept.standing()
    assert shard.statistics.unavailable == 1
    assert shard.statistics.outages == 2


async def test_what_is_refused_fails_at_once_and_is_tried_again(server: FakeServer, shard: Shard) -> None:
    server.error = Refused("Redis refuses: WRONGPASS")
    patient = Shard(server, BackplaneStatistics(), answer_timeout=60, outage_wait=60, told=lambda error: None)
    with pytest.raises(Refused, match=r"^Redis refuses: WRONGPASS$"):
        async with asyncio.timeout(DEADLINE):
            await patient.kept.standing()
    server.error = None
    assert (await standing(patient)) in server.links
    await patient.kept.close(0.01)


async def test_only_so_many_wait(shard: Shard, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "MOST_WAITING", 3)
    await standing(shard)
    server.error = OSError("gone")
    server.links[0].connection_lost(None)
    waiting = [asyncio.ensure_future(shard.kept.standing()) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        async with asyncio.timeout(0.05):
            await shard.kept.standing()
    await asyncio.wait(waiting)


@pytest.mark.slow
async def test_a_silent_link_is_asked_then_cut(
    shard: Shard, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "LOOK", 0.01)
    link = await standing(shard)
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait([link.ended])
    transport = link.transport
    assert isinstance(transport, FakeTransport)
    assert transport.written == [b"*1\r\n$4\r\nPING\r\n"]


async def test_a_link_that_waits_for_the_hub_is_not_silent(
    shard: Shard, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await standing(shard)
    monkeypatch.setattr(kept_module, "LOOK", 0.001)
    link.is_paused = True
    server.links[0].reads += 1
    await asyncio.sleep(0.1)
    assert not link.ended.done()


async def test_a_subscription_that_is_not_acknowledged_is_none(shard: Shard, server: FakeServer) -> None:
    await standing(shard)
    server.prompt = False
    with pytest.raises(Unavailable, match=r"^Redis at there:6379 has not answered within 0\.2 s$"):
        await shard.subscribe({b"a": lambda data: None})
    assert not shard.has_taker(b"a")


async def test_a_server_that_has_forgotten_who_we_are_is_logged_in_to_anew(shard: Shard, server: FakeServer) -> None:
    first = await standing(shard)
    calling = asyncio.ensure_future(shard.call(b"PUBLISH", b"g", b""))
    await passes()
    first.data_received(b"-NOAUTH Authentication required.\r\n")
    with pytest.raises(Refused, match="NOAUTH"):
        await calling
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait([first.ended])

    second = await standing(shard)
    assert shard.post(b"g", b"") is None
    second.data_received(b"-NOAUTH Authentication required.\r\n")
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait([second.ended])
    third = await standing(shard)
    assert shard.post(b"g", b"") is None, "the complaint is about the other link"
    third.data_received(b":1\r\n")


async def test_leaving_that_is_refused_is_said_in_our_words(shard: Shard, server: FakeServer) -> None:
    await shard.subscribe({b"a": lambda data: None})
    server.prompt = False
    leaving = asyncio.ensure_future(shard.unsubscribe([b"a"]))
    await passes()
    server.links[0].data_received(b"-NOPERM this user has no permissions\r\n")
    with pytest.raises(Refused, match="NOPERM"):
        await leaving


async def test_an_item_whose_reader_has_gone_and_that_cannot_be_put_back_is_counted(
    shard: Shard, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue(shard, b"fairway:q:work", b"fairway:0:work", lambda: None)
    pulling = asyncio.ensure_future(queue.pull())
    link = await standing(shard)
    transport = link.transport
    assert isinstance(transport, FakeTransport)
    async with asyncio.timeout(DEADLINE):
        while b"EVALSHA" not in b"".join(transport.written):  # noqa: ASYNC110
            await asyncio.sleep(0)
        link.data_received(b"*1\r\n$14\r\n9999999999999x\r\n")
        await asyncio.sleep(0)  # the item is the reader's now, who has not run yet
        pulling.cancel()
        await asyncio.wait([pulling])
        assert pulling.cancelled()
        while len(transport.written) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        link.data_received(b"-OOM command not allowed\r\n")
        while not shard.statistics.lost:  # noqa: ASYNC110
            await asyncio.sleep(0)
    queue.close()

    assert shard.statistics.lost == 1
    assert "a message of the queue fairway:q:work is lost: its reader has gone, and OOM command not" in caplog.text
