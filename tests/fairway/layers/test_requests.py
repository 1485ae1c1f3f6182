"""Channels of other processes in groups: every request is carried out or refused, and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.fairway.layers.conftest import NewLayer

from fairway.layers.backplane import Refused, Unavailable
from fairway.layers.requests import MOST_REQUESTS
from fairway.testing.in_process import InProcessBackplane


@pytest.mark.slow
async def test_more_requests_than_are_carried_out_at_once_wait_for_their_turn(new_layer: NewLayer) -> None:
    here, there = new_layer(), new_layer()
    name = await here.new_channel()
    count = 3 * MOST_REQUESTS
    async with asyncio.timeout(60):
        await asyncio.gather(*(there.group_add(f"room{number}", name) for number in range(count)))
    assert len(here.hub.groups) == count
    async with asyncio.timeout(60):
        await asyncio.gather(*(there.group_discard(f"room{number}", name) for number in range(count)))
    assert not here.hub.groups


async def test_requests_beyond_those_that_may_wait_are_refused_at_once(
    new_layer: NewLayer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairway.layers.requests.MOST_REQUESTS", 2)
    monkeypatch.setattr("fairway.layers.requests.MOST_WAITING", 3)
    here, there = new_layer(), new_layer()
    name = await here.new_channel()
    await there.group_add("room", name)  # both are connected
    asked = [there.group_add(f"room{number}", name) for number in range(20)]
    async with asyncio.timeout(4):  # less than the time in which an answer is waited for
        results = await asyncio.gather(*asked, return_exceptions=True)
    refused = [error for error in results if error is not None]
    assert refused
    assert all(isinstance(error, Unavailable) for error in refused)
    assert {str(error) for error in refused} == {
        f"the process of {name} has too many requests to add channels to groups, or to take them out, "
        "and has not carried out this one"
    }
    assert len(here.hub.groups) == 1 + results.count(None)
    assert caplog.messages[0].startswith(f"Refused a request for {name}: ")


async def test_what_could_not_be_carried_out_is_answered_with_that(new_layer: NewLayer) -> None:
    class Refusing(InProcessBackplane):
        async def subscribe(self, subjects: Sequence[str]) -> None:
            if "g.secret" in subjects:
                raise Refused("no permission")
            await super().subscribe(subjects)

    here, there = new_layer(backplane=Refusing), new_layer()
    name = await here.new_channel()
    async with asyncio.timeout(4):
        with pytest.raises(Unavailable, match=f"the process of {name} could not carry this out"):
            await there.group_add("secret", name)
    assert not here.hub.groups
