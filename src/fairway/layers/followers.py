"""Which queues follow which groups, as one process knows it. Pure; times are seconds of one clock that does not jump.

A group's members are channels of consumers, which live in processes. A queue, such as the channel of a worker, lives in
the service; so it is no member, but *follows* the group: whoever sends to the group pushes to the queue as well. The
backplane keeps who follows, every process is told of changes, and reads all of it when it has been away. Until then it
does not *know*.

What changes while it reads is applied to what was read: it may be newer.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_FOLLOWERS = 10_000
"""Of all groups together."""


class FollowerTable:
    """The queues that follow groups. `is_idle`: it is known that there are none."""

    __slots__ = ("_changes", "_count", "_queues", "is_idle", "is_known")

    def __init__(self) -> None:
        self.is_known = self.is_idle = False
        self._queues: dict[str, dict[str, float]] = {}
        self._count = 0
        self._changes: list[tuple[str, str, float | None]] = []

    def forget(self) -> None:
        """Changes may have been missed."""
        self.is_known = self.is_idle = False

    def begin(self) -> None:
        """It is read now, which `replace` ends."""
        self._changes = []

    def replace(self, rows: Iterable[tuple[str, str, float]]) -> None:
        """These are all, with the times until which they follow."""
        self._queues, self._count, changes = {}, 0, self._changes
        for group, queue, until in (*rows, *changes):
            self._change(group, queue, until)
        self.is_known = True
        self.is_idle = not self._count

    def add(self, group: str, queue: str, until: float) -> bool:
        """From now on a queue follows a group; False if too many do."""
        return self._note(group, queue, until)

    def remove(self, group: str, queue: str) -> None:
        """It does no longer."""
        self._note(group, queue, None)

    def of(self, group: str, now: float) -> list[str]:
        """The queues that follow a group."""
        return [queue for queue, until in list(self._queues.get(group, {}).items()) if until > now]

    def _note(self, group: str, queue: str, until: float | None) -> bool:
        if not self.is_known:
            if len(self._changes) >= MOST_FOLLOWERS:
                return False
            self._changes.append((group, queue, until))
        done = self._change(group, queue, until)
        self.is_idle = self.is_known and not self._count
        return done

    def _change(self, group: str, queue: str, until: float | None) -> bool:
        queues = self._queues.get(group, {})
        if until is None:
            if queues.pop(queue, None) is not None:
                self._count -= 1
            if not queues:
                self._queues.pop(group, None)
            return True
        if queue not in queues:
            if self._count >= MOST_FOLLOWERS:
                return False
            self._count += 1
        queues[queue] = until
        self._queues[group] = queues
        return True
