"""One process at the broker: nonsense is answered, everything is bounded, and who takes nothing is cut off."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.layers.local.brokers import client, running

from fairway.layers.engine import Engine
from fairway.layers.local import peer as peer_module
from fairway.layers.local import protocol
from fairway.layers.local.peer import Peer
from fairway.layers.local.place import Place, given_place
from fairway.layers.local.protocol import Answer, Ask, Decoder


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return given_place(str(tmp_path / "broker.sock"))


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "a frame of 1195725856 bytes"),
        (protocol.post("g.room", b""), "MESSAGE before a greeting"),
        (protocol.frame(Ask.HELLO, body=b"\0" * 20), "no greeting of ours"),
        (protocol.hello("suite") + protocol.hello("suite"), "HELLO is out of place"),
        (protocol.hello("suite") + protocol.frame(Ask.PUSH, "work", b"x"), "a body of 1 bytes"),
        (protocol.hello("suite") + protocol.frame(Ask.LEAVE) + protocol.frame(Ask.PING), "PING after the last message"),
    ],
    ids=["http", "early", "magic", "twice", "short", "late"],
)
async def test_nonsense_is_answered_and_ends_the_connection(place: Place, said: bytes, answer: str) -> None:
    async with running(place), client(place) as stranger, client(place) as other:
        await other.greeted()
        await stranger.says(said)
        assert answer in await stranger.refusal()
        await other.says(protocol.publish("g.room", b""))
        assert await other.hears() == (Answer.DONE, "", b"\0\0\0\0"), "nobody else is harmed"


# Bounds -----------------------------------------------------------------------------------------------------------


async def test_subjects_of_one_process_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "MOST_SUBJECTS", 2)
    async with running(place), client(place) as one:
        await one.greeted()
        await one.says(*protocol.names(Ask.SUBSCRIBE, ["a", "b", "c"]))
        answer = await one.hears()
        assert answer is not None
        assert answer[0] is Answer.REFUSED
        assert protocol.read_refused(answer[2]) == "a process can subscribe to 2 subjects, and no more"


async def test_one_that_takes_nothing_is_cut_off_and_others_notice_nothing(place: Place) -> None:
    async with running(place, stalled=0.5), client(place) as stalled, client(place) as sender, client(place) as other:
        for one in (stalled, other, sender):
            await one.greeted()
        for one in (stalled, other):
            await one.says(*protocol.names(Ask.SUBSCRIBE, ["g.room"]))
        assert await other.hears() == (Answer.DONE, "", b"\0\0\0\0")
        heard = -1
        sent = 0
        while heard != 1:  # until the broker knows of one receiver only
            await sender.says(protocol.publish("g.room", b"x" * 10_000))
            answer = await sender.hears()
            assert answer is not None
            heard = protocol.number(answer[2])
            sent += 1
            assert await other.hears() == (Answer.MESSAGE, "g.room", b"x" * 10_000)
        assert sent > 2


async def test_one_that_lets_too_much_wait_is_cut_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "MOST_WAITING_BYTES", 1_000_000)
    async with running(place, stalled=1000), client(place) as stalled, client(place) as sender:
        await stalled.greeted()
        await sender.greeted()
        await stalled.says(*protocol.names(Ask.SUBSCRIBE, ["g.room"]))
        heard, sent = 1, 0
        while heard or sent < 2:
            await sender.says(protocol.publish("g.room", b"x" * 100_000))
            answer = await sender.hears()
            assert answer is not None
            heard = protocol.number(answer[2])
            sent += 1
            assert sent < 100, "one megabyte is all that may wait"


# Whatever is said -------------------------------------------------------------------------------------------------


class Nobody:
    """Lets everybody in, and keeps nothing."""

    def __init__(self) -> None:
        self.engine = Engine(1000)

    def greeted(self, peer: Peer, version: int, role: protocol.Role, prefix: str) -> Engine:
        return self.engine

    def arrived(self, peer: Peer) -> None: ...

    def has_news(self, peer: Peer) -> None: ...

    def has_subscribed(self, peer: Peer) -> None: ...

    def left(self, peer: Peer) -> None: ...

    def gone(self, peer: Peer) -> None: ...


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_ended

    def close(self) -> None:
        self.is_ended = True

    def get_write_buffer_size(self) -> int:
        return 0


NAMES = st.sampled_from(["", "g.a", "work", "x" * protocol.MAX_NAME])
BODIES = st.binary(max_size=40) | st.sampled_from(
    [
        protocol.follow("g", "work", 60)[8:],
        b"\x03g.a",
        b"\0" * 12,
        b"\0" * 8 + b"x" * 400,
        b"x" * 1500,
        protocol.hello("suite")[6:],
    ]
)


@given(st.lists(st.tuples(st.sampled_from(list(Ask)), NAMES, BODIES), max_size=12), st.booleans())
def test_whatever_a_process_says_harms_nobody(frames: list[tuple[Ask, str, bytes]], greets: bool) -> None:
    """It is carried out, or refused in a sentence; another process is served as ever, and memory is bounded."""
    owner = Nobody()
    peers = [Peer(owner) for _ in range(2)]
    wires = [Wire() for _ in peers]
    for peer, wire in zip(peers, wires, strict=True):
        peer.connection_made(wire)
    if greets:
        peers[0].data_received(protocol.hello("suite"))
    peers[0].data_received(b"".join(protocol.frame(*frame) for frame in frames))
    peers[0].flush()

    peers[1].data_received(protocol.hello("suite") + protocol.frame(Ask.FOLLOWING) + protocol.frame(Ask.PING))
    peers[1].flush()

    for peer in peers:
        peer.connection_lost(None)
    Decoder(Answer).feed(wires[0].written)
    heard = Decoder(Answer).feed(wires[1].written)
    assert [op for op, _, _ in heard if op in (Answer.FOLLOWERS, Answer.DONE)] == [Answer.FOLLOWERS, Answer.DONE]
    assert owner.engine.size <= 2 * 1000
    owner.engine.flush()
    assert owner.engine.is_empty
