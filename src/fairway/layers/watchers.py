"""Who hears of the groups of a hub: of their first and last member, and of joining and leaving."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from fairway.logs import get_logger

logger = get_logger("fairway.layers")


class GroupWatcher(Protocol):
    """Hears of all groups of one hub: see `Hub.watch`.

    *Order.* A group is `opened`, then its first member has `joined`; its last member has `left`, then the group is
    `closed`, and may be opened again. For one channel and group `joined` and `left` take turns: a channel that joins
    again only renews its membership, and nobody is told. What was there before is told first, when the watching
    begins. All watchers hear of a change before the next one is made.

    *Threads.* The thread that changes a group makes these calls, before its own call returns and under the lock of
    the hub. So a watcher must not wait, for another thread least of all, and must not change groups of the hub. What
    takes time it does later, in its own event loop for example, by `call_soon_threadsafe`. What it raises is logged,
    and joining and leaving go on.

    Whoever changes `groups` by hand tells nobody. The next message to the group finds that out, and then it is told.
    """

    def opened(self, group: str) -> None:
        """The group is about to get its first member in this process."""

    def closed(self, group: str) -> None:
        """The last member of the group in this process has left."""

    def joined(self, group: str, member: str) -> None:
        """A channel, named `member`, is in the group."""

    def left(self, group: str, member: str) -> None:
        """The channel is no longer in the group: it was taken out, its consumer has ended, or it has expired."""


class Watchers:
    """Tells watchers what changes, each change once. It remembers what it has told, and is called under a lock."""

    __slots__ = ("_told", "_watchers")

    def __init__(self, *watchers: GroupWatcher) -> None:
        self._watchers = watchers
        self._told: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, watcher: GroupWatcher, groups: Mapping[str, Collection[str]]) -> None:
        """Tell one more from now on, beginning with who is in the groups."""
        for group in self._told.keys() | groups.keys():
            self.compare(group, groups.get(group, ()))
        newcomer = Watchers(watcher)
        for group, members in self._told.items():
            newcomer.compare(group, members)
        self._watchers = (*self._watchers, watcher)

    def remove(self, watcher: GroupWatcher) -> None:
        """Tell this one nothing more."""
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
        """A channel is not in a group, whether or not it was before."""
        told = self._told.get(group)
        if told is None or member not in told:
            return
        told.remove(member)
        _tell(self._watchers, lambda one: one.left(group, member))
        if not told:
            del self._told[group]
            _tell(self._watchers, lambda one: one.closed(group))

    def compare(self, group: str, members: Collection[str]) -> None:
        """Tell how a group differs from what was told of it."""
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
