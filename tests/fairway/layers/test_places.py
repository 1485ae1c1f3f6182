"""Where a client is in several groups, as one text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairway.layers.backplane import Position
from fairway.layers.places import Places
from fairway.layers.recovery import LONGEST, MOST_PLACES, Recovery, since_of, together
from fairway.layers.tracks import chosen

EPOCHS = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=40)
POSITIONS = st.builds(Position, EPOCHS, st.integers(0, 10**18 - 1))


@given(st.lists(POSITIONS, min_size=1, max_size=60))
def test_a_client_is_where_it_was_last_in_each_group(moves: list[Position]) -> None:
    places, last = Places(), dict[str, Position]()
    for move in moves:
        id = places.id_of(str(move))
        last.pop(move.epoch, None)
        last[move.epoch] = move
    assert len(id) <= LONGEST
    kept = list(last.values())[-MOST_PLACES:]
    for place in last.values():
        expected = place if place in kept else Position("", 0)
        assert chosen(since_of(id), place.epoch) == (expected if len(kept) > 1 else kept[0])


@given(st.text("0123456789abz-. \0", max_size=80))
def test_nonsense_is_a_position_of_no_epoch(text: str) -> None:
    """Or it has positions: whoever invents them is told that they are not recovered."""
    found = since_of(text)
    if isinstance(found, tuple):
        assert 1 < len(found) <= MOST_PLACES + 1
    else:
        assert isinstance(found, Position)


def test_a_text_that_is_too_long_is_none() -> None:
    assert since_of("a-1." * 300) == Position("", 0)
    many = tuple(Position(f"e{number}", number) for number in range(MOST_PLACES))
    assert since_of(together(many)) == many


def test_what_was_missed_is_still_to_come_when_a_client_has_joined() -> None:
    places = Places()
    places.joined(None, Recovery(False, 0, "a-5"))
    places.joined("b-2.a-1", Recovery(True, 3, "b-5"))
    assert places.id_of("c-9") == "a-5.b-2.c-9"
    assert places.id_of("b-3") == "a-5.c-9.b-3"

    places = Places()
    for since, recovered in (("all", True), ("x-1", False), (12.5, True)):
        places.joined(since, Recovery(recovered, 3, "b-5"))
        assert places.has("b-4"), "it is known whose position this is, but not where the client was"
        assert places.id_of("a-1") == "a-1"
    assert places.id_of("b-3") == "a-1.b-3"


def test_ids_of_applications_are_none_of_its_business() -> None:
    places = Places()
    places.joined(None, Recovery(False, 0, ""))
    assert len(places) == 0
    assert not any(places.has(id) for id in ("a-1", "17", 17, None))
    places.joined(None, Recovery(False, 0, "a-5"))
    assert [places.has(id) for id in ("a-6", "b-6", "a 6")] == [True, False, False]
    assert places.id_of("not a position") == "not a position"
