"""What the broker answers about queues, and their bounds. Presence and histories are in the contract suite."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tests.fairway.layers.local.brokers import client, running

from fairway.layers.engine import EACH_QUEUE, OVERHEAD
from fairway.layers.local import answering, protocol
from fairway.layers.local import broker as broker_module
from fairway.layers.local.place import Place, given_place
from fairway.layers.local.protocol import Answer, Ask


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return given_place(str(tmp_path / "broker.sock"))


async def test_followers_of_one_prefix_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "MOST_FOLLOWERS", 1)
    async with running(place), client(place) as one:
        await one.greeted()
        await one.says(protocol.follow("room", "work", 60), protocol.follow("room", "log", 60))
        answers = [await one.hears() for _ in range(2)]
        assert [answer[0] for answer in answers if answer] == [Answer.DONE, Answer.REFUSED]


async def test_bytes_in_queues_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "QUEUE_BYTES", 2 * (EACH_QUEUE + OVERHEAD + 400))
    async with running(place), client(place) as one:
        await one.greeted()
        await one.says(*(protocol.push(f"work.{number}", b"x" * 400, 100, 60) for number in range(3)))
        answers = [await one.hears() for _ in range(3)]
        assert [answer[0] for answer in answers if answer] == [Answer.DONE, Answer.DONE, Answer.FULL]


async def test_readers_of_one_process_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "MOST_READERS", 2)
    async with running(place), client(place) as one:
        await one.greeted()
        await one.says(*[protocol.frame(Ask.PULL, "work")] * 3)
        assert "more than 2 readers" in await one.refusal()


async def test_who_follows_one_group_can_be_asked_without_the_others(place: Place) -> None:
    async with running(place), client(place) as one:
        await one.greeted()
        await one.says(protocol.follow("room", "work", 60), protocol.follow("hall", "log", 60))
        await one.says(protocol.frame(Ask.FOLLOWING, "room"), protocol.frame(Ask.FOLLOWING, "attic"))
        await one.says(protocol.frame(Ask.FOLLOWING))
        answers = [await one.hears() for _ in range(5)]
        rows = [protocol.read_followers(answer[2]) for answer in answers[2:] if answer]
        assert [[row[:2] for row in answer] for answer in rows] == [
            [("room", "work")],
            [],
            [("room", "work"), ("hall", "log")],
        ]


async def test_a_follower_with_a_name_that_cannot_be_told_is_refused(place: Place) -> None:
    async with running(place), client(place) as one, client(place) as other:
        await one.greeted()
        await other.greeted()
        await one.says(protocol.frame(Ask.FOLLOW, "room", struct.pack("!d", 60.0) + b"x" * 256))
        assert "a name of 256 letters" in await one.refusal()
        await other.says(protocol.frame(Ask.FOLLOWING))
        assert await other.hears() == (Answer.FOLLOWERS, "", b"")


async def test_more_than_could_be_taken_is_not_put_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    most = EACH_QUEUE + 4 * (OVERHEAD + 400)
    monkeypatch.setattr(broker_module, "QUEUE_BYTES", most // 2)
    async with running(place), client(place) as one, client(place) as other:
        await one.greeted()
        await other.greeted()
        await one.says(*[protocol.frame(Ask.PUT_BACK, "work", b"x" * 400)] * 5)
        assert f"all queues together hold {most} bytes" in await one.refusal()
        await one.close()
        await other.says(protocol.frame(Ask.FLUSH), protocol.frame(Ask.PING))
        assert [await other.hears() for _ in range(2)] == [(Answer.DONE, "", b"\0\0\0\0")] * 2
