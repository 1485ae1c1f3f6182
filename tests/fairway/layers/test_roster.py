"""`Roster`: who gets a message for a group, looked up once and for as long as nothing changes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.layers.doubles import Clock, FakeConnection, FakeFanout, join, new_hub, new_member, waiting

from fairway.delivery import Inbox, Member, Message, Payload

_names = st.sampled_from("abc")
_groups = st.sampled_from("gh")


async def test_connections_of_one_fanout_get_a_payload_in_one_call_and_others_one_by_one() -> None:
    hub, fanout, another = new_hub(), FakeFanout(), FakeFanout()
    connections = [join(hub, name, fanout)[1] for name in "abc"]
    stranger = join(hub, "d", another)[1]
    without = new_member(hub, "e")
    hub.group_add("g", "e")
    hub.group_add("g", "nobody")
    payload = Payload("a")

    hub.group_broadcast("g", payload)

    assert [one.payloads for one in (*connections, stranger)] == [[payload]] * 4
    assert (fanout.calls, another.calls) == (1, 0)
    assert waiting(without) == [payload]
    assert await hub.receive("nobody") == {"type": "fairway.broadcast", "text": "a"}


async def test_a_consumer_that_is_busy_gets_the_payload_into_its_inbox() -> None:
    hub, fanout = new_hub(), FakeFanout()
    busy, connection = join(hub, "busy", fanout)
    idle = join(hub, "idle", fanout)[1]
    busy.deliver({"type": "earlier"})
    payload = Payload("a")

    hub.group_broadcast("g", payload)

    assert (connection.payloads, idle.payloads) == ([], [payload])
    assert waiting(busy) == [payload]  # what came earlier has been handed over


async def test_the_excluded_are_left_out_of_one_message() -> None:
    hub, fanout = new_hub(), FakeFanout()
    connections = [join(hub, name, fanout)[1] for name in "ab"]
    others = [new_member(hub, name) for name in "cd"]
    for name in "cd":
        hub.group_add("g", name)

    for exclude in ({"a", "c"}, {"a", "b", "d"}, set(), {"stranger"}):
        hub.group_broadcast("g", Payload("x"), frozenset(exclude))

    assert [len(one.payloads) for one in connections] == [2, 3]
    assert [len(waiting(one)) for one in others] == [3, 3]


async def test_two_consumers_of_one_connection_are_two_members() -> None:
    hub, fanout = new_hub(), FakeFanout()
    _, connection = join(hub, "a", fanout)
    hub.attach(Member("b", connection.inbox, connection=connection))
    hub.group_add("g", "b")

    hub.group_broadcast("g", Payload("x"))

    assert len(connection.payloads) == 2


async def test_a_connection_that_opens_later_is_among_the_recipients_from_then_on() -> None:
    hub, fanout = new_hub(), FakeFanout()
    join(hub, "a", fanout)
    _, late = join(hub, "late", fanout)
    late.is_open = False
    hub.group_broadcast("g", Payload("too early"))
    late.inbox.take_nowait()
    late.inbox.wait()
    roster = hub.memberships.roster("g")
    assert hub.memberships.roster("g") is roster

    late.is_open = True
    hub.group_broadcast("g", Payload("in time"))

    assert [payload.text for payload in late.payloads] == ["in time"]
    assert hub.memberships.roster("g") is not roster
    assert len(hub.memberships.roster("g").recipients) == 2  # type: ignore[union-attr, arg-type]


async def test_the_inbox_that_a_consumer_reads_says_whether_it_is_busy() -> None:
    # Behind a middleware that wraps `receive`, the connection's own inbox is read by a pump, which always waits.
    hub, fanout = new_hub(), FakeFanout()
    connection = FakeConnection(Inbox(asyncio.get_running_loop()), fanout)
    connection.inbox.wait()
    member = Member("a", Inbox(asyncio.get_running_loop()), connection=connection)
    hub.attach(member)
    hub.group_add("g", "a")
    payload = Payload("a")

    hub.group_broadcast("g", payload)

    assert connection.payloads == []
    assert waiting(member) == [payload]


async def test_a_member_is_taken_off_the_direct_way_at_once() -> None:
    hub, fanout = new_hub(), FakeFanout()
    member, connection = join(hub, "a", fanout)
    hub.group_broadcast("g", Payload("direct"))

    member.detour()
    hub.group_broadcast("g", Payload("by inbox"))

    assert [payload.text for payload in connection.payloads] == ["direct"]
    assert member.connection is None
    assert not member.inbox.parked


async def test_from_another_thread_no_connection_is_touched() -> None:
    hub, fanout = new_hub(), FakeFanout()
    member, connection = join(hub, "a", fanout)

    await asyncio.to_thread(hub.group_broadcast, "g", Payload("a"))

    assert (fanout.calls, connection.payloads) == (0, [])
    await asyncio.sleep(0)
    assert not member.inbox.parked


def test_a_hub_keeps_nothing_of_groups_that_are_gone() -> None:
    async def main() -> None:
        hub = new_hub()
        for number in range(10):
            member = new_member(hub, f"m{number}")
            hub.group_add(f"g{number}", member.name)
            hub.group_send(f"g{number}", {"n": 1})
            assert hub.statistics()["rosters"] == 1
            hub.detach(member)
        assert hub.statistics()["rosters"] == 0

    asyncio.run(main())


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["add", "discard", "poke"]), _groups, _names),
            st.tuples(st.sampled_from(["attach", "detach", "read", "stop reading", "detour"]), _names),
            st.tuples(st.sampled_from(["send", "broadcast"]), _groups),
            st.tuples(st.just("flush")),
        ),
        max_size=40,
    )
)
def test_a_roster_is_what_a_fresh_look_would_find(steps: list[tuple[str, ...]]) -> None:
    async def main() -> None:
        hub, fanout = new_hub(clock=Clock()), FakeFanout()
        members: dict[str, Member] = {}
        readers: dict[str, asyncio.Task[Message]] = {}
        for action, *names in steps:
            name = names[-1] if names else ""
            if action == "add":
                hub.group_add(*names)
            elif action == "discard":
                hub.group_discard(*names)
            elif action == "poke":
                hub.groups.get(names[0], {}).pop(name, None)
            elif action == "attach":
                inbox = Inbox(asyncio.get_running_loop())
                members[name] = Member(name, inbox, connection=FakeConnection(inbox, fanout))
                hub.attach(members[name])
            elif action == "detach" and name in members:
                hub.detach(members.pop(name))
            elif action == "detour" and name in members:
                members[name].detour()
            elif action == "read" and name not in readers:
                readers[name] = asyncio.ensure_future(hub.receive(name))
                await asyncio.sleep(0)
            elif action == "stop reading" and name in readers:
                reader = readers.pop(name)
                reader.cancel()
                await asyncio.wait([reader])
            elif action == "send":
                hub.group_send(name, {"n": 1})
            elif action == "broadcast":
                hub.group_broadcast(name, Payload("a"))
            elif action == "flush":
                hub.flush()
            for group in ("g", "h"):
                targets = {name: hub.channels.get(name) for name in hub.groups.get(group, ())}
                found = {target for target in targets.values() if type(target) is Member}
                roster = hub.memberships.roster(group)
                assert (roster is None) == (not targets)
                if roster is not None:
                    assert set(roster.members) == found
                    assert set(roster.names) == {one for one, target in targets.items() if target not in found}
                    direct = roster.members[: len(roster.recipients or ())]
                    assert [member.connection for member in direct] == list(roster.recipients or ())
                    assert set(direct) == {one for one in found if one.connection is not None}
        for reader in readers.values():
            reader.cancel()
        await asyncio.gather(*readers.values(), return_exceptions=True)

    asyncio.run(main())
