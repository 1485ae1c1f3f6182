"""Presence inside one process: what the channels of a group hear, and when."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.fairway.layers.doubles import new_member, waiting

from fairway.delivery import Member
from fairway.layers import audiences, presence
from fairway.layers.attendance import MOST_KEY
from fairway.layers.audiences import DIFF, MOST_LISTED, STATE
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.memory import MemoryChannelLayer

DEADLINE = 20.0
BOTH = (STATE, DIFF)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (audiences, presence):
        monkeypatch.setattr(module, "GATHER", 0.001)


@pytest.fixture
def layer() -> MemoryChannelLayer:
    return MemoryChannelLayer(linger=0.01)


async def heard(member: Member, count: int = 1) -> list[dict[str, Any]]:
    """The next events of a member, when there are so many."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE):
        while len(found) < count:
            found += waiting(member)
            await asyncio.sleep(0.001)
    return found


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_one_hears_first_of_all_and_then_of_the_others(layer: MemoryChannelLayer) -> None:
    mira, tom = new_member(layer.hub, "m"), new_member(layer.hub, "t")
    await layer.presence.track("room", "m", {"name": "Mira"}, key="1", hears=BOTH)
    (state,) = await heard(mira)
    assert state == {"type": STATE, "group": "room", "members": {"1": [{"name": "Mira"}]}, "me": "1"}

    await layer.presence.track("room", "t", {"name": "Tom"}, key="2", hears=BOTH)
    (difference,) = await heard(mira)
    assert difference == {
        "type": DIFF, "group": "room", "joined": {"2": [{"name": "Tom"}]}, "left": {}, "changed": {}
    }  # fmt: skip
    (state,) = await heard(tom)
    assert set(state["members"]) == {"1", "2"}
    assert waiting(tom) == [], "it is in the state already"

    await layer.presence.untrack("room", "t")
    (difference,) = await heard(mira)
    assert (difference["joined"], difference["left"]) == ({}, {"2": [{"name": "Tom"}]})
    assert waiting(tom) == []


async def test_only_the_wanted_events_come(layer: MemoryChannelLayer) -> None:
    one, two, three = (new_member(layer.hub, name) for name in "abc")
    await layer.presence.track("room", "a", hears=(STATE,))
    await layer.presence.track("room", "b", hears=(DIFF,))
    await layer.presence.track("room", "c")
    await heard(one)
    await layer.presence.track("room", "d", key="4", hears=BOTH)

    assert [event["type"] for event in await heard(two)] == [DIFF]
    assert waiting(one) == []
    assert waiting(three) == []


async def test_whoever_ends_is_missed_after_a_while(layer: MemoryChannelLayer) -> None:
    mira, tom = new_member(layer.hub, "m"), new_member(layer.hub, "t")
    await layer.presence.track("room", "m", key="1", hears=BOTH)
    await layer.presence.track("room", "t", key="2")
    await heard(mira)
    tom.detach()
    assert await layer.presence.members("room") == {"1": [None], "2": [None]}
    (difference,) = await heard(mira)

    assert difference["left"] == {"2": [None]}
    assert await layer.presence.members("room") == {"1": [None]}


async def test_a_flush_forgets_everybody(layer: MemoryChannelLayer) -> None:
    mira, tom = new_member(layer.hub, "m"), new_member(layer.hub, "t")
    await layer.presence.track("room", "m", key="1", hears=BOTH)
    await layer.presence.track("hall", "t", key="2")
    await heard(mira)
    tom.detach()
    await layer.flush()
    assert [await layer.presence.members(group) for group in ("room", "hall")] == [{}, {}]
    await asyncio.sleep(0.03)  # longer than somebody lingers
    assert waiting(mira) == []
    await layer.presence.track("room", "m", key="1", hears=BOTH)
    assert (await heard(mira))[0]["members"] == {"1": [None]}


async def test_a_reload_is_not_noticed() -> None:
    layer = MemoryChannelLayer(linger=60)
    mira, before = new_member(layer.hub, "m"), new_member(layer.hub, "t1")
    await layer.presence.track("room", "m", key="1", hears=BOTH)
    await layer.presence.track("room", "t1", "Tom", key="2")
    await heard(mira)
    before.detach()
    new_member(layer.hub, "t2")
    await layer.presence.track("room", "t2", "Tom", key="2")
    await layer.presence.track("room", "x", key="mark")

    (difference,) = await heard(mira)
    assert (difference["joined"], difference["left"]) == ({"mark": [None]}, {})
    assert await layer.presence.count("room") == 3


async def test_several_channels_of_one_key_are_one_person(layer: MemoryChannelLayer) -> None:
    for number in range(3):
        await layer.presence.track("room", f"c{number}", number % 2, key="7")

    assert await layer.presence.members("room") == {"7": [0, 1]}
    assert await layer.presence.count("room") == 3


async def test_clients_do_not_see_hidden_keys(layer: MemoryChannelLayer) -> None:
    mira = new_member(layer.hub, "m")
    await layer.presence.track("room", "m", "Mira", key="12345", hides_key=True, hears=BOTH)
    await layer.presence.track("room", "t", "Tom")
    (state,) = await heard(mira)

    assert state["me"] in state["members"]
    assert len(state["members"]) == 2
    assert not any(secret in str(state) for secret in ("12345", "'m'", "'t'"))
    assert await layer.presence.members("room") == {"12345": ["Mira"], "t": ["Tom"]}, "code of the site sees them"


async def test_data_does_not_change_behind_ones_back(layer: MemoryChannelLayer) -> None:
    mira, tom = new_member(layer.hub, "m"), new_member(layer.hub, "t")
    data = {"tags": ["a"]}
    for name in "mt":
        await layer.presence.track("room", name, data, key=name, hears=BOTH)
    data["tags"].append("later")
    (state,), (other,) = await heard(mira), await heard(tom)
    state["members"]["m"][0]["tags"].append("mine")
    (await layer.presence.members("room"))["m"][0]["tags"].append("mine, too")

    assert other["members"]["m"] == [{"tags": ["a"]}]
    assert await layer.presence.members("room") == {"m": [{"tags": ["a"]}], "t": [{"tags": ["a"]}]}


async def test_many_changes_are_one_event(layer: MemoryChannelLayer) -> None:
    mira = new_member(layer.hub, "m")
    await layer.presence.track("room", "m", key="m", hears=BOTH)
    await heard(mira)
    for number in range(100):
        await layer.presence.track("room", f"c{number}", key=str(number))
    for number in range(50):
        await layer.presence.untrack("room", f"c{number}")
    (difference,) = await heard(mira)

    assert set(difference["joined"]) == {str(number) for number in range(50, 100)}


async def test_of_very_many_only_the_numbers_are_told(layer: MemoryChannelLayer) -> None:
    mira, late = new_member(layer.hub, "m"), new_member(layer.hub, "late")
    await layer.presence.track("room", "m", key="m", hears=BOTH)
    await heard(mira)
    for number in range(MOST_LISTED + 1):
        await layer.presence.track("room", f"c{number}", key=str(number))
    (difference,) = await heard(mira)
    await layer.presence.track("room", "late", key="late", hears=BOTH)
    (state,) = await heard(late)

    counts = {"joined": MOST_LISTED + 1, "left": 0, "changed": 0, "present": MOST_LISTED + 2}
    assert difference == {"type": DIFF, "group": "room", "counts": counts}
    assert state == {"type": STATE, "group": "room", "counts": {"present": MOST_LISTED + 3}, "me": "late"}


async def test_a_channel_that_was_full_gets_the_state_again(layer: MemoryChannelLayer) -> None:
    mira = new_member(layer.hub, "m", capacity=1)
    await layer.presence.track("room", "m", key="m", hears=BOTH)
    await until(lambda: mira.qsize() == 1)
    await layer.presence.track("room", "t", key="t")
    await until(lambda: mira.dropped)
    (state,) = await heard(mira)
    assert set(state["members"]) == {"m"}
    (state,) = await heard(mira)

    assert (state["type"], set(state["members"])) == (STATE, {"m", "t"})


async def test_a_channel_without_a_consumer_can_be_tracked(layer: MemoryChannelLayer) -> None:
    await layer.presence.track("room", "plain", key="1", hears=BOTH)
    async with asyncio.timeout(DEADLINE):
        assert (await layer.receive("plain"))["members"] == {"1": [None]}
    await layer.presence.untrack("room", "plain")

    assert await layer.presence.members("room") == {}


@pytest.mark.parametrize("key", ["", "x" * (MOST_KEY + 1), 7])
async def test_a_key_is_a_short_text(layer: MemoryChannelLayer, key: Any) -> None:
    with pytest.raises(ValueError, match="a key of presence is a text of 1 to 200 characters, not "):
        await layer.presence.track("room", "m", key=key)


async def test_a_group_has_a_valid_name(layer: MemoryChannelLayer) -> None:
    for call in (
        lambda: layer.presence.track("no room", "m"),
        lambda: layer.presence.members("no room"),
        lambda: layer.presence.count("no room"),
    ):
        with pytest.raises(TypeError, match="Group name is not valid"):
            await call()


@pytest.mark.parametrize("linger", [-1, float("inf"), float("nan")])
def test_linger_is_a_number_of_seconds(linger: float) -> None:
    with pytest.raises(InvalidChannelLayerError, match=r"linger is .*: use a number of seconds"):
        MemoryChannelLayer(linger=linger)


def test_another_event_loop_goes_on_where_one_has_ended(layer: MemoryChannelLayer) -> None:
    async def begin() -> None:
        await layer.presence.track("room", "t", key="t")

    async def go_on() -> None:
        mira = new_member(layer.hub, "m")
        await layer.presence.track("room", "m", key="m", hears=BOTH)
        (state,) = await heard(mira)
        assert set(state["members"]) == {"m", "t"}

    asyncio.run(begin())
    asyncio.run(go_on())


async def test_a_thread_with_a_loop_of_its_own_can_track(layer: MemoryChannelLayer) -> None:
    mira = new_member(layer.hub, "m")
    await layer.presence.track("room", "m", key="m", hears=BOTH)
    await heard(mira)
    thread = threading.Thread(target=lambda: asyncio.run(layer.presence.track("room", "t", key="t")))
    thread.start()
    (difference,) = await heard(mira)
    thread.join(DEADLINE)

    assert set(difference["joined"]) == {"t"}


async def test_a_forked_child_knows_nobody(layer: MemoryChannelLayer) -> None:
    await layer.presence.track("room", "m", key="m")
    child = os.fork()
    if not child:
        known = True
        try:
            known = bool(layer.presence.own.groups)
        finally:
            os._exit(known)
    _, status = os.waitpid(child, 0)  # noqa: ASYNC222

    assert status == 0
    assert await layer.presence.count("room") == 1


async def test_nothing_is_left_of_a_group_that_everybody_has_left(layer: MemoryChannelLayer) -> None:
    mira = new_member(layer.hub, "m")
    await layer.presence.track("room", "m", key="m", hears=BOTH)
    await heard(mira)
    mira.detach()
    await until(lambda: not layer.presence.own.groups)

    assert layer.presence.own.person("room", "m") is None
