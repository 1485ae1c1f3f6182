"""Decides which one of several processes runs a room. Pure.

Each process with visitors is a *candidate*. All candidates have an entry in one store, which all of them read: who is
present in a group (`fairway.layers.presence`). It lists only processes that are alive. The one that has been there for
the longest time runs the room, until it leaves or is not listed any more. Clocks of different machines are not
compared. Candidates draw numbers instead, as in Lamport's bakery:

1. A candidate enters itself as *drawing*, and then reads the store.
2. It enters a number above all that it has read.
3. It reads the store again. It begins if its number is the lowest and nobody is drawing. Of two candidates with the
   same number, the one with the lower name counts as lower.

Whoever begins in this way has been seen by everybody who draws later. So nobody gets a lower number, and nobody else
begins as long as the first one is listed. A candidate that may not have been listed for a while has to draw again,
since others may have begun: `lost`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

Numbers = Mapping[str, "int | None"]
"""The candidates that are listed, by name, each with its number. None: it is drawing."""


class Next(Enum):
    """What a candidate has to do."""

    ENTER = auto()
    """Enter `Candidacy.number` into the store, and read it again."""
    WAIT = auto()
    RUN = auto()


class Candidacy:
    """One candidate. `name` must be one that nobody else has ever had."""

    __slots__ = ("_is_running", "name", "number")

    def __init__(self, name: str) -> None:
        self.name = name
        self.number: int | None = None
        self._is_running = False

    def read(self, listed: Numbers) -> Next:
        """The store has been read, while this process was sure to be listed. Says what follows from it."""
        if self.name not in listed:
            self.lost()
            return Next.ENTER
        if listed[self.name] != self.number:
            return Next.ENTER  # an entry from before `lost`, or one that did not reach the store
        drawn = [number for number in listed.values() if number is not None]
        if self.number is None:
            self.number = max(drawn, default=0) + 1
            return Next.ENTER
        is_first = first_of(listed) == self.name
        # Whoever runs the room goes on while others draw: they get higher numbers.
        self._is_running = is_first and (self._is_running or len(drawn) == len(listed))
        return Next.RUN if self._is_running else Next.WAIT

    def lost(self) -> None:
        """This candidate may not have been listed for a while: it does not run the room, and draws again."""
        self.number = None
        self._is_running = False


def first_of(listed: Numbers) -> str | None:
    """The candidate with the lowest number: the one that runs the room, or is about to. None if nobody has drawn."""
    drawn = [(number, name) for name, number in listed.items() if number is not None]
    return min(drawn)[1] if drawn else None
