"""Which queues follow which groups, as far as one process knows. Pure; times are in seconds, of one monotonic clock.

A group's members are channels of consumers, and those live in processes. A queue, such as the channel of a worker,
lives in the service. So it is not a member of a group but *follows* it: a sender to the group also pushes to the
queue. The backplane keeps the list of followers. Every process hears of changes, and reads the whole list after it has
been away. Until it has read the list, it does not *know* the followers.

Changes that arrive during the reading are applied to the result, because they may be newer.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_FOLLOWERS = 10_000
"""In all groups together."""


class FollowerTable:
    """The queues that follow groups. `is_idle`: the list is known, and it is empty."""

    __slots__ = ("_changes", "_count", "_queues", "is_idle", "is_known")

    def __init__(self) -> None:
        self.is_known = self.is_idle = False
        self._queues: dict[str, dict[str, float]] = {}
        self._count = 0
        self._changes: list[tuple[str, str, float | None]] = []

    def forget(self) -> None:
        """Changes may have been missed: the list is no longer known."""
        self.is_known = self.is_idle = False

    def begin(self) -> None:
        """The list is being read. `replace` ends this."""
        self._changes = []

    def replace(self, rows: Iterable[tuple[str, str, float]]) -> None:
        """This is the whole list: group, queue, and the time until which it follows."""
        self._queues, self._count, changes = {}, 0, self._changes
        for group, queue, until in (*rows, *changes):
            self._change(group, queue, until)
        self.is_known = True
        self.is_idle = not self._count

    def add(self, group: str, queue: str, until: float) -> bool:
        """A queue follows a group from now on. False if there are too many followers already."""
        return self._note(group, queue, until)

    def remove(self, group: str, queue: str) -> None:
        """A queue no longer follows a group."""
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
