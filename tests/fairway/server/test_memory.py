"""Whom to drop when all clients together hold too much, and how they are added up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.server.test_context import context_of

from fairway.server.memory import ADDED_PER_TICK, ClientMemory, largest


@pytest.mark.parametrize(
    ("held", "bound", "dropped"),
    [
        ([], 100, []),
        ([(40, "a"), (60, "b")], 100, []),
        ([(40, "a"), (61, "b")], 100, ["b"]),
        ([(30, "a"), (10, "b"), (50, "c"), (45, "d")], 80, ["c", "d"]),
        ([(200, "a")], 100, ["a"]),
    ],
)
def test_the_largest_are_dropped_until_the_rest_is_well_below(
    held: list[tuple[int, str]], bound: int, dropped: list[str]
) -> None:
    assert largest(held, bound) == dropped


@given(st.lists(st.integers(0, 1000), max_size=50), st.integers(1, 5000))
def test_what_is_left_fits_and_nobody_is_dropped_who_holds_less_than_one_who_stays(
    sizes: list[int], bound: int
) -> None:
    dropped = largest([(size, number) for number, size in enumerate(sizes)], bound)
    left = [size for number, size in enumerate(sizes) if number not in dropped]
    assert sum(left) <= bound
    if dropped:
        assert sum(left) <= bound - bound // 8
        assert min(sizes[number] for number in dropped) >= max(left, default=0)
        assert sum(left) + sizes[dropped[-1]] > bound - bound // 8, "the last one had to go, too"


class Holding:
    """A connection that holds so much."""

    def __init__(self, held_bytes: int) -> None:
        self.held_bytes = held_bytes
        self.is_dropped = False

    def drain(self) -> None:
        raise AssertionError("nobody asked")

    def abort(self) -> None:
        self.is_dropped = True


async def test_thousands_are_added_up_some_at_a_time(caplog: Any) -> None:
    context = context_of(max_client_memory=10_000)
    connections = [Holding(1) for _ in range(2 * ADDED_PER_TICK)] + [Holding(9_000)]
    for connection in connections:
        context.add(connection)
    memory = ClientMemory(context)
    now = context.touch() + 10.0
    assert memory.handle_deadline(now) == now
    assert memory.handle_deadline(now + 0.25) == now + 0.25
    assert context.admission.has_memory()
    assert memory.handle_deadline(now + 0.5) == now + 1.0
    assert (memory.total, context.admission.short_of_memory) == (13_000, True)
    assert [one for one in connections if one.is_dropped] == [connections[-1]]
    assert context.counters.memory_drops == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "clients hold 13000 bytes, and may hold 10000: 1 that hold most are dropped"
    context.remove(connections[-1])
    for turn in range(2):
        memory.handle_deadline(now + 2 + turn / 4)
    assert (memory.total, context.admission.short_of_memory) == (4_000, False)
