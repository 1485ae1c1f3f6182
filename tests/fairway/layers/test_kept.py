"""A service that is kept connected, over links that a test makes and breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from fairway.layers import kept as kept_module
from fairway.layers.backplane import BackplaneStatistics, Refused, Unavailable
from fairway.layers.kept import Kept

pytestmark = pytest.mark.asyncio


class LinkDouble:
    """A link that does what the test says."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reads = 0
        self.is_paused = False
        self.asked = asyncio.Event()
        self.service: ServiceDouble

    def ask_whether_alive(self) -> None:
        self.asked.set()
        if self.service.answers:
            self.reads += 1

    def abort(self, error: Exception) -> None:
        self.lose(error)

    async def close(self, drain: float) -> None:
        self.lose(ConnectionError("it was closed here"))

    def lose(self, error: Exception) -> None:
        if not self.ended.done():
            self.service.kept.lost(self, error)
            self.ended.set_result(None)


class ServiceDouble:
    """What is dialled: `problem` is raised if there is one."""

    def __init__(self, outage_wait: float, answer_timeout: float) -> None:
        self.problem: Exception | None = None
        self.answers = True
        self.told: list[Exception | None] = []
        self.statistics = BackplaneStatistics()
        self._changed = asyncio.Event()
        self.kept: Kept[LinkDouble] = Kept(
            "The service",
            self.statistics,
            answer_timeout=answer_timeout,
            outage_wait=outage_wait,
            longest_pause=0.01,
            dial=self._dial,
            told=self._tell,
        )

    async def _dial(self) -> LinkDouble:
        if self.problem is not None:
            raise self.problem
        link = LinkDouble()
        link.service = self
        return link

    def _tell(self, error: Exception | None) -> None:
        self.told.append(error)
        self._changed.set()

    async def told_again(self) -> None:
        count = len(self.told)
        async with asyncio.timeout(20):
            while len(self.told) == count:
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def service(outage_wait: float = 0.2, answer_timeout: float = 5.0) -> AsyncIterator[ServiceDouble]:
    double = ServiceDouble(outage_wait, answer_timeout)
    try:
        yield double
    finally:
        await double.kept.close(0)


async def test_whoever_needs_it_waits_until_it_is_there() -> None:
    async with service() as double:
        link = await double.kept.standing()
        assert double.kept.link is link
        assert double.told == [None]


async def test_a_lost_link_is_replaced_and_both_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with service() as double:
        first = await double.kept.standing()
        lost = ConnectionError("cable")
        with caplog.at_level(logging.WARNING, "fairway.layers"):
            first.lose(lost)
            assert await double.kept.standing() is not first
        assert double.told == [None, lost, None]
        assert double.statistics.outages == 1
        away, back = [record.getMessage() for record in caplog.records]
        assert away == (
            "The service is away: cable. Trying again until it works; calls wait for up to 0.2 s, then fail"
        )
        assert back.startswith("The service is back after 0.")


async def test_after_a_while_everybody_fails_at_once() -> None:
    async with service() as double:
        first = await double.kept.standing()
        double.problem = OSError("no route")
        first.lose(ConnectionError("cable"))
        with pytest.raises(Unavailable, match=r"^The service is away: no route$"):
            await double.kept.standing()
        began = asyncio.get_running_loop().time()
        for _ in range(1000):
            with pytest.raises(Unavailable):
                await double.kept.standing()
        assert asyncio.get_running_loop().time() - began < 2
        assert double.statistics.unavailable == 1001
        patient = asyncio.ensure_future(double.kept.standing(patiently=True))
        double.problem = None
        assert await patient is double.kept.link


async def test_what_is_refused_fails_at_once_and_is_tried_again() -> None:
    async with service(answer_timeout=1000) as double:
        double.problem = Refused("no entry")
        with pytest.raises(Refused, match=r"^no entry$"):
            await double.kept.standing()
        double.problem = None
        await double.kept.standing(patiently=True)


async def test_a_retired_link_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    async with service() as double:
        first = await double.kept.standing()
        with caplog.at_level(logging.WARNING, "fairway.layers"):
            double.kept.retire(first)
            double.problem = OSError("not yet")
            waiting = asyncio.ensure_future(double.kept.standing())
            first.lose(ConnectionError("its end"))
            await asyncio.sleep(0.05)
            double.problem = None
            assert await waiting is not first
        assert double.told == [None, None]
        assert double.statistics.outages == 0
        assert caplog.records == []


async def test_a_silent_link_is_asked_and_cut_if_it_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "LOOK", 0.01)
    async with service() as double:
        first = await double.kept.standing()
        async with asyncio.timeout(20):
            await first.asked.wait()
        assert double.kept.link is first
        double.answers = False
        await double.told_again()
        assert isinstance(double.told[1], ConnectionError)
        assert str(double.told[1]) == "it has sent nothing for 0.04 s, although it was asked"
        assert await double.kept.standing() is not first


async def test_a_link_that_reads_nothing_because_of_us_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "LOOK", 0.005)
    async with service() as double:
        first = await double.kept.standing()
        first.is_paused = True
        double.answers = False
        await asyncio.sleep(0.1)
        assert double.kept.link is first
        assert not first.asked.is_set()


async def test_when_it_is_closed_everybody_is_told() -> None:
    async with service() as double:
        first = await double.kept.standing()
        await double.kept.close(1)
        assert first.ended.done()
        with pytest.raises(Unavailable, match="the layer has been closed"):
            await double.kept.standing()
