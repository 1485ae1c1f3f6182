"""`Memberships`: groups are sets of names, whatever stands behind the names."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.layers.doubles import Clock, new_hub, new_member, waiting

from fairway.delivery import Member
from fairway.delivery.member import MANY_GROUPS

_names = st.sampled_from("abc")
_groups = st.sampled_from("gh")


async def test_a_discarded_group_is_not_kept_in_mind() -> None:
    hub = new_hub()
    member = new_member(hub)
    hub.group_add("g", "m")
    hub.group_add("g", "m")
    hub.group_discard("g", "m")

    assert member.groups == []
    assert hub.groups == {}


async def test_a_member_of_many_groups_is_found_in_each_at_once() -> None:
    hub = new_hub()
    member = new_member(hub)
    names = [f"g{number}" for number in range(2 * MANY_GROUPS)]
    for name in names + names:
        hub.group_add(name, "m")

    # A list would be searched from its beginning, for each of them.
    assert type(member.groups) is dict
    assert list(member.groups) == names
    for name in names[1:]:
        hub.group_discard(name, "m")
        hub.group_discard(name, "m")
    assert list(member.groups) == list(hub.groups) == names[:1]
    hub.group_send(names[0], {"n": 1})
    assert waiting(member) == [{"n": 1}]
    hub.detach(member)
    assert hub.groups == {}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), _groups, _names),
            st.tuples(st.just("discard"), _groups, _names),
            st.tuples(st.just("attach"), _names),
            st.tuples(st.just("detach"), _names),
            st.tuples(st.just("send"), _groups),
        ),
        max_size=30,
    )
)
def test_groups_behave_like_sets_of_names(steps: list[tuple[str, ...]]) -> None:
    async def main() -> None:
        hub = new_hub(clock=Clock())
        model: dict[str, set[str]] = {"g": set(), "h": set()}
        members: dict[str, Member] = {}
        for action, *names in steps:
            if action == "add":
                hub.group_add(*names)
                model[names[0]].add(names[1])
            elif action == "discard":
                hub.group_discard(*names)
                model[names[0]].discard(names[1])
            elif action == "attach" and names[0] not in members and not any(names[0] in m for m in model.values()):
                members[names[0]] = new_member(hub, names[0])
            elif action == "detach" and names[0] in members:
                hub.detach(members.pop(names[0]))
                for group in model.values():
                    group.discard(names[0])
            elif action == "send":
                for member in members.values():
                    waiting(member)
                hub.group_send(names[0], {"n": 1})
                reached = {name for name, member in members.items() if waiting(member)}
                assert reached == model[names[0]] & set(members)
            assert {group: set(names) for group, names in hub.groups.items()} == {
                group: names for group, names in model.items() if names
            }

    asyncio.run(main())
