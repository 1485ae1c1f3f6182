"""Drops are logged when they begin, and summed up later."""

from __future__ import annotations

import asyncio

import pytest

from fairway.layers import drops as module
from fairway.layers.drops import Drops


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == module.logger.name]


async def test_the_first_drop_is_a_line_and_those_that_follow_are_a_sum(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "INTERVAL", 0.2)
    drops = Drops()
    for _ in range(400):
        drops.left_out("room", 2, 3)
    assert lines(caplog) == ["2 of 3 channels over capacity in group room"]
    async with asyncio.timeout(10):
        while len(lines(caplog)) < 2:  # noqa: ASYNC110  # a log tells nobody
            await asyncio.sleep(0.01)
    assert lines(caplog)[1:] == ["798 more deliveries to channels over capacity in 0.2 s, in all groups"]
    assert drops.total == 800


def test_without_a_loop_the_sum_comes_with_the_next_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    drops = Drops()
    for _ in range(3):
        drops.left_out("room", 1, 1)
    now[0] += module.INTERVAL
    drops.left_out("hall", 1, 5)
    assert lines(caplog) == [
        "1 of 1 channels over capacity in group room",
        "2 more deliveries to channels over capacity in 10 s, in all groups",
        "1 of 5 channels over capacity in group hall",
    ]
