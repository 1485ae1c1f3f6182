"""What a member gets that joins a group with its last position: the result of joining, and what is asked for. Pure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fairway.delivery import Message
from fairway.layers.backplane import Position
from fairway.layers.tracks import Since

POSITION: Final = "layer.position"
"""The key under which an event of a group with a history carries its position, as text."""

ALL: Final = "all"
"""Instead of a position: everything that is kept."""

Moment: TypeAlias = datetime.datetime | float
"""A time: an aware `datetime`, or seconds since 1970."""

_LESS_THAN_A_TICK = 0.0007  # so that a message of the same millisecond counts as later

_NOWHERE = Position("", 0)  # a position of no epoch


@dataclass(frozen=True, slots=True)
class Recovery:
    """How joining a group ended.

    `recovered`: nothing is missing between the position that was asked for and now. False if no position was asked for.
    `count`: how many missed messages follow. If `recovered` is False, these are all that are kept. `position`: where
    the member is now, as text; empty if the group has no history.
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


def since_of(text: str | Moment) -> Since:
    """What was asked for: a position as text, "all", or a time. A text that is no position is one of no epoch."""
    if isinstance(text, str):
        return None if text == ALL else Position.read(text) or _NOWHERE
    return seconds_of(text) - _LESS_THAN_A_TICK


def seconds_of(moment: Moment) -> float:
    """Seconds since 1970, in whole milliseconds: services have no finer times.

    Raises ValueError for a `datetime` without a time zone.
    """
    if isinstance(moment, datetime.datetime):
        if moment.tzinfo is None:
            raise ValueError("a time needs a time zone: use django.utils.timezone.now()")
        moment = moment.timestamp()
    return math.floor(moment * 1000) / 1000


def spliced(text: str, position: str) -> str:
    """The text of a JSON object with its position as the first key."""
    rest = text.lstrip()[1:]
    comma = "" if rest.lstrip().startswith("}") else ", "
    return f'{{"{POSITION}": "{position}"{comma}{rest}'
