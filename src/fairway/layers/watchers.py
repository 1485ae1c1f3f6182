"""Objects that hear of changes in a hub's groups: a first and last member, and each joining and leaving."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from fairway.logs import get_logger

logger = get_logger("fairway.layers")


class GroupWatcher(Protocol):
    """Hears of all groups of one hub: see `Hub.watch`.

    *Order.* A group is `opened` before its first member has `joined`, and `closed` after its last member has `left`;
    then it may be opened again. For one channel in one group, `joined` and `left` alternate: a channel that joins again
    renews its membership, which is not reported. A new watcher first hears of everything that exists. All watchers hear
    of a change before the next change is made.

    *Threads.* The thread that changes a group makes these calls, under the hub's lock, before its own call returns. So
    a watcher must never wait, least of all for another thread, and must not change groups of the hub. If it has more to
    do, it does it later in its own event loop, by way of `call_soon_threadsafe`. Exceptions are logged, and joining
    and leaving go on.

    No watcher hears of code that edits `groups` directly. The next message to the group reports the difference.
    """

    def opened(self, group: str) -> None:
        """The group is about to get its first member in this process."""

    def closed(self, group: str) -> None:
        """The last member of the group in this process has left."""

    def joined(self, group: str, member: str) -> None:
        """The channel `member` is in the group now."""

    def left(self, group: str, member: str) -> None:
        """The channel has left the group: it was taken out, its consumer ended, or its membership expired."""


class Watchers:
    """Reports each change to the watchers once. It remembers what it has reported. Call it under the hub's lock."""

    __slots__ = ("_told", "_watchers")

    def __init__(self, *watchers: GroupWatcher) -> None:
        self._watchers = watchers
        self._told: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, watcher: GroupWatcher, groups: Mapping[str, Collection[str]]) -> None:
        """Add a watcher, and tell it who is in which group."""
        for group in self._told.keys() | groups.keys():
            self.compare(group, groups.get(group, ()))
        newcomer = Watchers(watcher)
        for group, members in self._told.items():
            newcomer.compare(group, members)
        self._watchers = (*self._watchers, watcher)

    def remove(self, watcher: GroupWatcher) -> None:
        """Tell this watcher nothing more."""
        self._watchers = tuple(one for one in self._watchers if one is not watcher)

    def joined(self, group: str, member: str) -> None:
        """A channel has joined a group, or renewed its membership."""
        told = self._told.get(group)
        if told is None:
            told = self._told[group] = set()
            _tell(self._watchers, lambda one: one.opened(group))
        if member not in told:
            told.add(member)
            _tell(self._watchers, lambda one: one.joined(group, member))

    def left(self, group: str, member: str) -> None:
        """A channel is not in a group; perhaps it never was."""
        told = self._told.get(group)
        if told is None or member not in told:
            return
        told.remove(member)
        _tell(self._watchers, lambda one: one.left(group, member))
        if not told:
            del self._told[group]
            _tell(self._watchers, lambda one: one.closed(group))

    def compare(self, group: str, members: Collection[str]) -> None:
        """Report how a group's members differ from what was reported before."""
        for member in members:
            self.joined(group, member)
        for member in self._told.get(group, set()).difference(members):
            self.left(group, member)

    def clear(self) -> None:
        """All groups have ended."""
        for group in list(self._told):
            self.compare(group, ())


def _tell(watchers: Iterable[GroupWatcher], call: Callable[[GroupWatcher], None]) -> None:
    for watcher in watchers:
        try:
            call(watcher)
        except Exception:
            logger.exception("A watcher of groups failed: %s", watcher)
