"""The contest for who runs a room: `election.py` over the presence of a channel layer.

The candidates of a room are present in the group of its *clock*. The layer says which of them are alive, and for how
long others are sure to see this process there (`fairway.layers.attendance.Standing`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fairway.layers.audiences import DIFF
from fairway.layers.hub_layer import HubLayer
from fairway.rooms.election import Candidacy, Next, Numbers, first_of
from fairway.timing.source import monotonic

MOST_ROUNDS = 8
"""How often the list is read in a row, to enter, draw and begin."""


class Contest:
    """This process as a candidate for one room. `channel` is its name, and where it hears of others."""

    def __init__(self, layer: HubLayer, room: str) -> None:
        self.clock = f"{room}.clock"
        self.channel = ""
        self.first: str | None = None
        """The candidate that runs the room, as far as one knows."""
        self.others: Collection[str] = ()
        """The other candidates."""
        self._layer = layer
        self._candidacy = Candidacy("")
        self._term = ""

    async def open(self) -> None:
        """Get a channel, and hear what candidates say to each other. Call it often: it renews the membership."""
        if not self.channel:
            self.channel = await self._layer.new_channel()
            self._candidacy = Candidacy(self.channel)
        await self._layer.group_add(self.clock, self.channel)

    async def look(self) -> bool:
        """Read the list of candidates, and enter it if need be. Returns whether to run the room from now on.

        Raises what the layer raises while its service is away.
        """
        candidacy = self._candidacy
        for _ in range(MOST_ROUNDS):
            term = self._layer.presence.standing().term
            if term != self._term:
                self._term = term
                candidacy.lost()
            listed = _numbers(await self._layer.presence.members(self.clock))
            if not self.is_sure():
                candidacy.lost()
            elif (step := candidacy.read(listed)) is not Next.ENTER:
                self.others = listed.keys() - {self.channel}
                self.first = first_of(listed)
                return step is Next.RUN
            await self._layer.presence.track(
                self.clock, self.channel, {"number": candidacy.number}, key=self.channel, hears=[DIFF]
            )
        return False

    def meet(self, other: str) -> bool:
        """This candidate has written. Returns whether it is new, compared with the list as it was last read."""
        is_new = other not in self.others
        if is_new:
            self.others = {*self.others, other}
        return is_new

    def is_sure(self) -> bool:
        """Whether others are sure to see that this process is there, and have seen it since it drew its number."""
        standing = self._layer.presence.standing()
        return standing.term == self._term and monotonic() < standing.until

    async def withdraw(self) -> None:
        """Leave the list."""
        self._candidacy.lost()
        if self.channel:
            await self._layer.presence.untrack(self.clock, self.channel)
            await self._layer.group_discard(self.clock, self.channel)


def _numbers(members: Mapping[str, list[Any]]) -> Numbers:
    """The candidates' numbers. Whoever says something else counts as drawing."""
    found: dict[str, int | None] = {}
    for name, data in members.items():
        match data:
            case [{"number": int() as number}]:
                found[name] = number
            case _:
                found[name] = None
    return found
