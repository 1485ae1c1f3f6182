"""What a member gets that joins a group with its last position: the result of joining, and what is asked for. Pure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fairway.delivery import Message
from fairway.layers.backplane import Position
from fairway.layers.tracks import NOWHERE, Sought

POSITION: Final = "layer.position"
"""The key under which an event of a group with a history carries its position, as text."""

ALL: Final = "all"
"""Instead of a position: everything that is kept."""

Moment: TypeAlias = datetime.datetime | float
"""A time: an aware `datetime`, or seconds since 1970."""

_BETWEEN: Final = "."

_LESS_THAN_A_TICK = 0.0007  # so that a message of the same millisecond counts as later

MOST_PLACES = 16
LONGEST = 1000
"""How many positions, of as many groups, one text has at most, and how many characters."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How joining a group ended.

    `recovered`: nothing is missing between the position that was asked for and now. False if no position was asked for.
    `count`: how many missed messages follow. If `recovered` is False, these are all that are kept. `position`: where
    the member is when it has got them, as text; empty if the group has no history.
    """

    recovered: bool
    count: int
    position: str


@dataclass(frozen=True, slots=True)
class History:
    """Messages that were sent to a group before, as events, the oldest first.

    `complete`: nothing is missing between `after` and the first of them. `position`: that of the last one, to go on
    from. `top`: the position of the newest message of the group, whether or not it is among them.
    """

    messages: Sequence[Message] = field(default_factory=list)
    complete: bool = True
    position: str = ""
    top: str = ""


def since_of(text: str | Moment) -> Sought:
    """What was asked for: a position as text, or several, "all", or a time. Another text is a position of no epoch."""
    if not isinstance(text, str):
        return seconds_of(text) - _LESS_THAN_A_TICK
    if text == ALL:
        return None
    parts = text.split(_BETWEEN, MOST_PLACES) if len(text) <= LONGEST else []
    found = tuple(place for place in map(Position.read, parts) if place is not None)
    return found if len(found) > 1 else found[0] if found else NOWHERE


def together(places: Iterable[Position]) -> str:
    """Positions in several groups as one text, which `since_of` reads."""
    return _BETWEEN.join(map(str, places))


def seconds_of(moment: Moment) -> float:
    """Seconds since 1970, in whole milliseconds: services have no finer times.

    Raises ValueError for a `datetime` without a time zone.
    """
    if isinstance(moment, datetime.datetime):
        if moment.tzinfo is None:
            raise ValueError("a time needs a time zone: use django.utils.timezone.now()")
        moment = moment.timestamp()
    return math.floor(moment * 1000) / 1000


class ObjectText(str):
    """The text of a JSON object. It is a text like any other, for whoever does not ask."""

    __slots__ = ()


def text_for(layer: object, content: object, text: str) -> str:
    """The text of `content` for a broadcast over a layer. If that keeps it, it adds the position to an object."""
    keeps = getattr(layer, "keeper", None) is not None
    return ObjectText(text) if keeps and isinstance(content, dict) and text.lstrip().startswith("{") else text


def spliced(text: str, position: str) -> str:
    """The text of a JSON object with its position as the first key."""
    rest = text.lstrip()[1:]
    comma = "" if rest.lstrip().startswith("}") else ", "
    return f'{{"{POSITION}": "{position}"{comma}{rest}'
