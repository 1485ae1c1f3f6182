"""Which queues follow which groups: what is noted, what is read while it changes, and how much of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairway.layers import followers
from fairway.layers.followers import FollowerTable


def known(*rows: tuple[str, str, float]) -> FollowerTable:
    table = FollowerTable()
    table.begin()
    table.replace(rows)
    return table


def test_it_is_idle_only_when_it_is_known_that_there_are_none() -> None:
    table = FollowerTable()
    assert not table.is_idle
    assert not table.is_known
    table.begin()
    table.replace(())
    assert table.is_idle
    table.add("room", "work", 10.0)
    assert not table.is_idle
    table.remove("room", "work")
    assert table.is_idle
    table.forget()
    assert not table.is_idle


def test_a_queue_follows_until_its_time_is_over() -> None:
    table = known(("room", "work", 10.0), ("room", "log", 20.0), ("hall", "work", 30.0))
    assert table.of("room", 9.0) == ["work", "log"]
    assert table.of("room", 10.0) == ["log"]
    assert table.of("nobody", 0.0) == []
    table.add("room", "work", 40.0)
    assert table.of("room", 39.0) == ["work"]


def test_what_changes_while_it_is_read_is_newer_than_what_was_read() -> None:
    table = FollowerTable()
    table.begin()
    table.add("room", "new", 10.0)
    table.remove("room", "gone")
    table.replace([("room", "gone", 10.0), ("room", "old", 10.0)])
    assert sorted(table.of("room", 0.0)) == ["new", "old"]


def test_there_is_a_bound_whoever_sends_the_changes() -> None:
    table = known()
    most = followers.MOST_FOLLOWERS
    assert all(table.add("room", str(number), 10.0) for number in range(most))
    assert not table.add("room", "one more", 10.0)
    assert table.add("room", "0", 20.0), "those that are there are renewed"
    table.remove("room", "0")
    assert table.add("room", "one more", 10.0)

    unknown = FollowerTable()
    assert all(unknown.add("room", str(number), 10.0) for number in range(most))
    assert not unknown.add("room", "one more", 10.0)


names = st.sampled_from("ab")
changes = st.lists(st.tuples(names, names, st.none() | st.floats(0, 10)), max_size=20)


@given(changes, changes, st.floats(0, 10))
def test_it_is_what_a_dictionary_would_be(
    before: list[tuple[str, str, float | None]], after: list[tuple[str, str, float | None]], now: float
) -> None:
    model: dict[tuple[str, str], float] = {}
    table = known()
    for number, (group, queue, until) in enumerate((*before, *after)):
        if number == len(before):  # read anew, from a service that has everything
            table.forget()
            table.begin()
            table.replace((*key, time) for key, time in model.items())
        if until is None:
            model.pop((group, queue), None)
            table.remove(group, queue)
        else:
            model[group, queue] = until
            table.add(group, queue, until)
    for group in "ab":
        expected = {queue for (one, queue), until in model.items() if one == group and until > now}
        assert set(table.of(group, now)) == expected
    assert table.is_idle == (not model)
