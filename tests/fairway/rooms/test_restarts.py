from __future__ import annotations

from fairway.rooms.restarts import CALM, FIRST_PAUSE, LONGEST_PAUSE, Restarts


def test_pauses_double_up_to_a_bound_and_are_short_again_after_a_calm() -> None:
    restarts = Restarts()
    pauses = [restarts.failed(float(now)) for now in range(9)]

    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert restarts.failed(8 + CALM) == FIRST_PAUSE


def test_a_room_begins_again_with_what_it_last_saved() -> None:
    restarts = Restarts()
    restarts.save("one")
    restarts.failed(0.0)

    assert restarts.saved == "one"


def test_a_room_that_fails_with_what_it_had_saved_begins_with_nothing() -> None:
    restarts = Restarts("one")
    restarts.failed(0.0)

    assert restarts.saved is None
