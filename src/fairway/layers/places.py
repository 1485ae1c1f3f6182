"""Where one client is in the histories of several groups, as one text: the id of an event that a browser hands back.

The text has a position in each history, with points in between. It does not say to which group a position belongs:
an epoch is that of one history only, so whoever knows a group's epoch finds its position. Pure.
"""

from __future__ import annotations

from fairway.layers.backplane import Position
from fairway.layers.recovery import MOST_PLACES, Moment, Recovery, since_of, together
from fairway.layers.tracks import chosen


class Places:
    """The places of one client, at most `MOST_PLACES`: then the one that has not moved for longest is forgotten.

    When the client comes back, it is told that it may have missed something there.
    """

    __slots__ = ("_offsets",)

    def __init__(self) -> None:
        # By epoch, the last to have moved at the end. None: it is not known what the client has, until something moves.
        self._offsets: dict[str, int | None] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    def joined(self, since: str | Moment | None, recovery: Recovery) -> None:
        """The client has joined a group. What it has missed is still to come."""
        place = Position.read(recovery.position)
        if place is None:
            return
        if recovery.count:
            before = chosen(since_of(since), place.epoch) if recovery.recovered and isinstance(since, str) else None
            self._move(place.epoch, before.offset if isinstance(before, Position) else None)
        else:
            self._move(place.epoch, place.offset)

    def id_of(self, position: str) -> str:
        """The id of an event of a group with this position. The client is there when it has got the event."""
        place = Position.read(position)
        if place is None:
            return position
        self._move(place.epoch, place.offset)
        return together(Position(epoch, offset) for epoch, offset in self._offsets.items() if offset is not None)

    def has(self, id: object) -> bool:
        """Whether an id is a position in a history that the client follows, and not a number of the application's."""
        place = Position.read(id) if isinstance(id, str) else None
        return place is not None and place.epoch in self._offsets

    def _move(self, epoch: str, offset: int | None) -> None:
        self._offsets.pop(epoch, None)
        self._offsets[epoch] = offset
        if len(self._offsets) > MOST_PLACES:
            del self._offsets[next(iter(self._offsets))]
