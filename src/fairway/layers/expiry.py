"""Notes of what expires, in order of time, so that finding the expired ones takes no scan. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, Generic, TypeVar

Note = TypeVar("Note", bound=tuple[float, *tuple[Any, ...]])

SHORTEST = 1000
"""Up to this number of notes, outdated ones are not removed."""


class ExpiryQueue(Generic[Note]):
    """Notes of what expires, oldest first. A note is a tuple whose first item is a time.

    Most things are gone long before they expire. Their notes stay behind, because removing one would take a search.
    `stands` says whether a note still means something. Whenever the number of notes has doubled, those that mean
    nothing are dropped, so that adding a note takes constant time on average.

    Callers add notes in order of time, and let only one thread call at a time. `oldest` is the time of the first note,
    or infinity; any thread may read it.
    """

    __slots__ = ("_limit", "_notes", "_stands", "oldest")

    def __init__(self, stands: Callable[[Note], bool]) -> None:
        self.oldest = inf
        self._stands = stands
        self._notes: deque[Note] = deque()
        self._limit = SHORTEST

    def __len__(self) -> int:
        return len(self._notes)

    def add(self, note: Note) -> None:
        """Note that something expires."""
        if not self._notes:
            self.oldest = note[0]
        self._notes.append(note)
        if len(self._notes) > self._limit:
            self._notes = deque(filter(self._stands, self._notes))
            self._limit = max(SHORTEST, 2 * len(self._notes))
            self._look_for_oldest()

    def take_due(self, now: float, lifetime: float = 0.0) -> Iterator[Note]:
        """Take out, one by one, the notes whose time lies more than `lifetime` before `now`."""
        while self._notes and self._notes[0][0] + lifetime < now:
            yield self._notes.popleft()
        self._look_for_oldest()

    def clear(self) -> None:
        """Forget all notes."""
        self._notes.clear()
        self.oldest = inf

    def _look_for_oldest(self) -> None:
        self.oldest = self._notes[0][0] if self._notes else inf
