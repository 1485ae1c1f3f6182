"""What a class of rooms is told about itself, as soon as it is written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from fairway.rooms import Room


def quick(self: Any, *arguments: Any) -> None: ...


async def slow(self: Any, *arguments: Any) -> None: ...


def noting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def noted(*arguments: Any) -> Any:
        return method(*arguments)

    return noted


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"step": None}, "Pong.step is None: use the seconds between two ticks, a number above 0"),
        ({"step": 0}, "Pong.step is 0: "),
        ({"tick": quick}, "Pong.tick is awaited: write `async def tick`"),
        ({"begin": quick}, "Pong.begin is awaited"),
        ({"receive": noting(quick)}, "Pong.receive is awaited"),
        ({"save": slow}, "Pong.save is not awaited: write `def save`"),
        ({"__init__": lambda self: None}, "Pong is made with a name and a layer: .* set up its state in `begin`"),
    ],
)
def test_what_would_fail_in_each_room_is_said_at_once(content: dict[str, Any], what: str) -> None:
    with pytest.raises(TypeError, match=what):
        type("Pong", (Room,), content)


def test_what_works_is_left_alone() -> None:
    class Initialised(Room):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)

    type("Pong", (Initialised,), {"step": 2, "tick": noting(slow), "receive": slow, "save": quick, "end": slow})


async def test_what_is_for_one_person_does_not_go_to_all_because_there_is_nobody() -> None:
    room, nobody = Room("cards"), None
    for telling in (room.broadcast_json({"hand": 7}, to=nobody), room.send({"type": "hand"}, to=nobody)):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="leave it out to tell all visitors"):
            await telling
