"""Watchers of groups: what they hear is in order, and adds up to what is there."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.layers.doubles import Clock, new_hub, new_member
from tests.fairway.loops import LoopFactory, on_each_loop, run

from fairway.delivery import Member
from fairway.layers.hub import Hub

Picture = dict[str, set[str]]


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []

    def opened(self, group: str) -> None:
        self.heard.append(("opened", group))

    def closed(self, group: str) -> None:
        self.heard.append(("closed", group))

    def joined(self, group: str, member: str) -> None:
        self.heard.append(("joined", group, member))

    def left(self, group: str, member: str) -> None:
        self.heard.append(("left", group, member))

    def picture(self) -> Picture:
        """The groups as they must be after what was heard. Fails if that contradicts itself."""
        groups: Picture = {}
        previous = ("",)
        for event, group, *member in self.heard:
            if event == "opened":
                assert group not in groups
                groups[group] = set()
            elif event == "closed":
                assert (previous[0], previous[1]) == ("left", group)
                assert groups.pop(group) == set()
            elif event == "joined":
                assert groups[group] or previous == ("opened", group)
                assert member[0] not in groups[group]
                groups[group].add(member[0])
            else:
                groups[group].remove(member[0])
            previous = (event, group, *member)
        assert all(groups.values())
        return groups


def listening(hub: Hub) -> Listener:
    listener = Listener()
    hub.watch(listener)
    return listener


def in_hub(hub: Hub) -> Picture:
    return {group: set(names) for group, names in hub.groups.items() if names}


def test_a_watcher_hears_of_the_first_and_the_last_member_and_of_all_in_between() -> None:
    hub = new_hub()
    listener = listening(hub)

    for name in "ab":
        hub.group_add("g", name)
        hub.group_add("g", name)
    for name in ("a", "b", "b", "stranger"):
        hub.group_discard("g", name)

    assert listener.heard == [
        ("opened", "g"),
        ("joined", "g", "a"),
        ("joined", "g", "b"),
        ("left", "g", "a"),
        ("left", "g", "b"),
        ("closed", "g"),
    ]


def test_a_watcher_that_comes_late_is_told_what_is_there() -> None:
    hub = new_hub()
    early = listening(hub)
    for group, name in ("ga", "gb", "hc"):
        hub.group_add(group, name)
    hub.group_discard("g", "a")

    late = listening(hub)
    hub.group_discard("h", "c")

    assert late.heard[-2:] == [("left", "h", "c"), ("closed", "h")]
    assert late.picture() == early.picture() == {"g": {"b"}}


def test_who_watches_no_more_hears_no_more_and_others_do() -> None:
    hub = new_hub()
    first, second = listening(hub), listening(hub)
    hub.group_add("g", "a")

    hub.unwatch(first)
    hub.unwatch(first)
    hub.group_add("g", "b")
    hub.unwatch(second)
    hub.group_add("g", "c")

    assert (first.picture(), second.picture()) == ({"g": {"a"}}, {"g": {"a", "b"}})
    again = listening(hub)
    assert again.picture() == {"g": {"a", "b", "c"}}


def test_a_watcher_that_fails_is_named_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Listener):
        def __repr__(self) -> str:
            return "<Broken>"

        def joined(self, group: str, member: str) -> None:
            raise ArithmeticError("on purpose")

    hub = new_hub()
    hub.watch(Broken())
    listener = listening(hub)

    hub.group_add("g", "a")

    assert listener.picture() == in_hub(hub) == {"g": {"a"}}
    [record] = caplog.records
    assert record.getMessage() == "A watcher of groups failed: <Broken>"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ArithmeticError)


@on_each_loop
def test_a_member_whose_loop_was_closed_has_left(new_loop: LoopFactory) -> None:
    hub = new_hub()
    listener = listening(hub)

    async def connect() -> None:
        new_member(hub, "a")
        hub.group_add("g", "a")

    run(new_loop, connect())
    assert listener.picture() == {"g": {"a"}}

    hub.group_send("g", {"n": 1})

    assert listener.heard[-2:] == [("left", "g", "a"), ("closed", "g")]


async def test_a_change_by_hand_is_told_with_the_next_message() -> None:
    hub = new_hub()
    listener = listening(hub)
    for name in "ab":
        new_member(hub, name)
        hub.group_add("g", name)
    hub.group_send("g", {"n": 1})

    del hub.groups["g"]["a"]
    hub.groups["g"]["c"] = hub.groups["g"]["d"] = 0.0
    hub.group_send("g", {"n": 2})
    assert listener.picture() == {"g": {"b", "c", "d"}}

    del hub.groups["g"]
    hub.group_send("g", {"n": 3})
    assert listener.picture() == {}


def test_nothing_is_heard_out_of_order_when_threads_join_and_leave() -> None:
    hub = new_hub()
    listener = listening(hub)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(500):
            change = hub.group_add if chance.random() < 0.5 else hub.group_discard
            change(chance.choice("gh"), chance.choice("abc"))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert listener.picture() == in_hub(hub)


_names = st.sampled_from("abc")
_groups = st.sampled_from("gh")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["add", "discard", "put in", "take out"]), _groups, _names),
            st.tuples(st.sampled_from(["attach", "detach", "send", "discard from all"]), _names),
            st.tuples(st.sampled_from(["group send", "delete"]), _groups),
            st.tuples(st.sampled_from(["flush", "wait", "watch"])),
        ),
        max_size=40,
    )
)
def test_a_watchers_picture_is_what_the_hub_has(steps: list[tuple[str, ...]]) -> None:
    async def main() -> None:
        clock = Clock()
        hub = new_hub(expiry=30, group_expiry=50, clock=clock)
        listeners = [listening(hub)]
        members: dict[str, Member] = {}
        for action, *names in steps:
            name = names[-1] if names else ""
            if action == "add":
                hub.group_add(*names)
            elif action == "discard":
                hub.group_discard(*names)
            elif action == "put in":
                hub.groups.setdefault(names[0], {})[name] = clock.now
            elif action == "take out":
                hub.groups.get(names[0], {}).pop(name, None)
            elif action == "delete":
                hub.groups.pop(name, None)
            elif action == "attach" and name not in members:
                members[name] = new_member(hub, name)
            elif action == "detach" and name in members:
                hub.detach(members.pop(name))
            elif action == "send":
                hub.send(name, {"n": 1})
            elif action == "discard from all":
                hub.memberships.discard_from_all(name)
            elif action == "group send":
                hub.group_send(name, {"n": 1})
            elif action == "flush":
                hub.flush()
            elif action == "wait":
                clock.now += 20
                hub.expire()
            elif action == "watch":
                listeners.append(listening(hub))
            if action in ("put in", "take out", "delete"):
                hub.group_send(names[0], {"n": "finds out"})
            for listener in listeners:
                assert listener.picture() == in_hub(hub)

    asyncio.run(main())
