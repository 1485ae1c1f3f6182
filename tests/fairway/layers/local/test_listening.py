"""The socket that a broker listens at: found again when its file was removed, and never beside another."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from tests.fairway.layers.local.brokers import Client, client, running

from fairway.layers.local import broker as broker_module
from fairway.layers.local import protocol
from fairway.layers.local.listening import Listening, listen
from fairway.layers.local.place import Place, given_place
from fairway.layers.local.protocol import Answer, Ask
from fairway.layers.local.starting import claim
from fairway.testing.backplane_contract import DEADLINE


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return given_place(str(tmp_path / "broker.sock"))


@pytest.fixture(autouse=True)
def it_looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "_TICK", 0.01)


async def until_it_listens(place: Place) -> Client:
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await Client.connected(place)
            except OSError:
                await asyncio.sleep(0.005)


async def test_a_broker_whose_file_was_removed_is_found_again(place: Place) -> None:
    async with running(place), client(place) as one:
        await one.greeted()
        await one.says(*protocol.names(Ask.SUBSCRIBE, ["g.room"]))
        assert await one.hears() == (Answer.DONE, "", b"\0\0\0\0")
        os.unlink(place.path)
        two = await until_it_listens(place)
        await two.greeted()
        await two.says(protocol.publish("g.room", b"x"))
        assert await two.hears() == (Answer.DONE, "", b"\0\0\0\1"), "both are at the same broker"
        assert await one.hears() == (Answer.MESSAGE, "g.room", b"x")
        await two.close()


@pytest.mark.parametrize("what", ["a socket", "a link"])
async def test_a_broker_in_whose_place_another_is_ends_and_leaves_it_alone(place: Place, what: str) -> None:
    async with running(place) as it, client(place) as one:
        await one.greeted()
        os.unlink(place.path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(f"{place.path}.other" if what == "a link" else place.path)
            if what == "a link":
                os.symlink(f"{place.path}.other", place.path)
            await it.ended()
            assert await one.hears() is None
            assert os.path.lexists(place.path)  # noqa: ASYNC240  # one look


async def test_a_broker_whose_folder_was_removed_ends(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    place = given_place(str(tmp_path / "run" / "broker.sock"))
    async with running(place) as it:
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        (tmp_path / "run").rmdir()
        await it.ended()


async def test_without_its_lock_file_there_is_still_one_broker(place: Place) -> None:
    async with running(place), client(place) as one:
        await one.greeted()
        os.unlink(place.lock)

        assert await asyncio.to_thread(claim, place) is None

        await one.says(protocol.frame(Ask.PING))
        assert await one.hears() is not None, "it goes on"


async def test_without_its_lock_file_a_newer_broker_takes_over_in_order(place: Place) -> None:
    async with running(place) as old, client(place) as one:
        await one.greeted()
        await one.says(protocol.push("work", b"kept", 10, 60))
        assert await one.hears() == (Answer.DONE, "", b"\0\0\0\0")
        os.unlink(place.lock)
        taking_over = asyncio.ensure_future(asyncio.to_thread(claim, place, protocol.VERSION + 1))
        assert await one.hears() == (Answer.GOING, "", b"")
        await one.says(protocol.frame(Ask.LEAVE))
        claimed = await taking_over
        assert claimed is not None
        with claimed.listen():
            await old.ended()
            assert os.path.exists(place.path), "the old one leaves the new one's socket alone"  # noqa: ASYNC240
        ((_, _, message),) = claimed.heritage.engines["suite"].waiting()
        assert message == b"kept"
        claimed.release()


async def test_its_end_removes_the_file(place: Place) -> None:
    there = Listening(place, asyncio.Protocol)
    await there.begin(listen(place))
    assert await there.stands()
    there.end()
    assert not os.path.lexists(place.path)  # noqa: ASYNC240  # one look
    there.end()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listen(given_place(str(tmp_path / "nowhere" / "broker.sock")))
