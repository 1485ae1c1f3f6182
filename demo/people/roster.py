"""Who is where, in this process: one entry per person, however many tabs they have open.

It is not shared between processes and forgets everything on a restart, which is right for people: connections do not
survive a restart either.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable


class Roster:
    """May be used from the event loop and from the threads of sync consumers at the same time."""

    def __init__(self) -> None:
        self._tabs: dict[Hashable, Counter[int]] = {}
        self._names: dict[tuple[Hashable, int], str] = {}
        self._lock = threading.Lock()

    def join(self, place: Hashable, person_id: int, name: str) -> bool:
        """Count one more tab. True if the others should hear of it: a first tab, or a new name."""
        with self._lock:
            tabs = self._tabs.setdefault(place, Counter())
            news = self._names.get((place, person_id)) != name
            tabs[person_id] += 1
            self._names[place, person_id] = name
            return news

    def leave(self, place: Hashable, person_id: int) -> bool:
        """Count one tab less. True if it was the last one."""
        with self._lock:
            tabs = self._tabs[place]
            tabs[person_id] -= 1
            if tabs[person_id]:
                return False
            del tabs[person_id], self._names[place, person_id]
            if not tabs:
                del self._tabs[place]
            return True

    def people(self, place: Hashable) -> list[dict[str, object]]:
        """Everybody in a place as ``{"id", "name"}``, in the order in which they came."""
        with self._lock:
            return [{"id": pk, "name": self._names[place, pk]} for pk in self._tabs.get(place, ())]
