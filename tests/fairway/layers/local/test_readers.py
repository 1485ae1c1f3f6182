"""Readers of queues at the broker: what they wait for, and what becomes of a message whose reader has gone."""

from __future__ import annotations

import asyncio

import pytest
from tests.fairway.loops import passes

from fairway.layers.backplane import BackplaneStatistics, Unavailable
from fairway.layers.local import protocol
from fairway.layers.local.link import Link
from fairway.layers.local.protocol import Ask
from fairway.layers.local.readers import Readers


class LinkDouble:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self.written.append(frame)


class Place:
    """Has a link, or has none; who waits for one gets it, or `Unavailable`."""

    def __init__(self) -> None:
        self.link: LinkDouble | None = LinkDouble()
        self.next: asyncio.Future[LinkDouble] = asyncio.get_running_loop().create_future()
        self.statistics = BackplaneStatistics()
        self.readers = Readers(lambda: self.statistics, self._now, self._standing)

    def _now(self) -> Link | None:
        return self.link  # type: ignore[return-value]

    async def _standing(self) -> Link:
        return await self.next  # type: ignore[return-value]


async def test_a_message_goes_to_who_has_waited_longest_and_without_anybody_back() -> None:
    place = Place()
    first, second = (asyncio.ensure_future(place.readers.pull("work")) for _ in range(2))
    await passes()
    for data in (b"1", b"2", b"3"):
        place.readers.item("work", data)

    assert (await first, await second) == (b"1", b"2")
    assert place.link is not None
    pull, back = protocol.frame(Ask.PULL, "work"), protocol.frame(Ask.PUT_BACK, "work", b"3")
    assert place.link.written == [pull, pull, back]


async def test_a_message_that_arrived_for_who_gave_up_waits_for_the_next_link() -> None:
    place = Place()
    reading = asyncio.ensure_future(place.readers.pull("work"))
    await passes()
    place.readers.item("work", b"1")
    place.link = None
    reading.cancel()
    await passes()
    link = LinkDouble()
    place.next.set_result(link)
    await passes()

    assert link.written == [protocol.frame(Ask.PUT_BACK, "work", b"1")]
    assert place.statistics.lost == 0


async def test_one_that_cannot_be_put_back_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    place.statistics = BackplaneStatistics()  # those of the layer, which it has after it was made
    place.link = None
    place.readers.item("work", b"1")
    place.next.set_exception(Unavailable("the broker is away"))
    await passes()

    assert place.statistics.lost == 1
    assert "a message of the queue work is lost: its reader has gone, and the broker is away" in caplog.text


async def test_a_new_link_is_asked_for_everything_that_is_waited_for() -> None:
    place = Place()
    reading = [asyncio.ensure_future(place.readers.pull(queue)) for queue in ("work", "work", "mail")]
    await passes()
    link = LinkDouble()
    place.readers.ask_again(link)  # type: ignore[arg-type]
    assert sorted(link.written) == sorted(protocol.frame(Ask.PULL, queue) for queue in ("work", "work", "mail"))

    await place.readers.close(0)
    for error in await asyncio.gather(*reading, return_exceptions=True):
        assert isinstance(error, Unavailable)
        assert str(error) == "the channel layer has been closed"
