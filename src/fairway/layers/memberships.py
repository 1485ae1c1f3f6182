"""Which channels are in which group, and until when."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType

from fairway.delivery import Member, Record
from fairway.layers.channel_queue import Target, member_behind
from fairway.layers.expiry import ExpiryQueue
from fairway.layers.roster import Roster
from fairway.layers.watchers import GroupWatcher, Watchers
from fairway.logs import get_logger

logger = get_logger("fairway.layers")


class Memberships:
    """Which channels are in which group, and a roster of each group that messages are sent to.

    `groups` has the shape that applications' tests look into: group -> {channel -> time of joining}. A group without
    members does not exist. The member behind a channel lists its own groups (`Member.groups`), so that no search is
    needed when it ends.

    A roster is kept for the next message if every member lists the group among its own. Such a roster can only change
    in three ways: a channel joins, a channel leaves, or something else comes to stand behind a channel. Each of these
    discards it. A new member discards all rosters if some may hold names without a member (`has_unattended`).
    Applications' tests may also edit `groups` directly; the next message notices.

    Watchers hear of every change. Without watchers, joining and leaving pay for one comparison, and a message to a
    group whose roster is kept pays for nothing.

    `lock` guards all of this, and the hub's channels too. Every method may be called from any thread.
    """

    __slots__ = (
        "_channels",
        "_has_expired_members",
        "_rosters",
        "_watchers",
        "groups",
        "has_unattended",
        "joins",
        "lock",
    )

    def __init__(self, channels: Mapping[str, Target]) -> None:
        self.lock = threading.RLock()
        self.groups: dict[str, dict[str, float]] = {}
        self.joins: ExpiryQueue[tuple[float, str, str]] = ExpiryQueue(self._stands)
        self._channels = channels
        self._rosters: dict[str, Roster] = {}
        self.has_unattended = False
        self._watchers: Watchers | None = None
        self._has_expired_members = False

    def add(self, group: str, channel: str, now: float) -> None:
        """Add a channel to a group, or renew its time of joining."""
        with self.lock:
            self._rosters.pop(group, None)
            self.groups.setdefault(group, {})[channel] = now
            self.joins.add((now, group, channel))
            member = self._member(channel)
            if member is not None:
                member.joined(group)
            if self._watchers is not None:
                self._watchers.joined(group, channel)

    def discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group. Does nothing if the channel is not in it."""
        with self.lock:
            self._leave(group, channel)
            member = self._member(channel)
            if member is not None:
                member.left(group)

    def discard_from_all(self, channel: str) -> None:
        """Take a channel out of every group, even if no member stands behind it."""
        with self.lock:
            for group in [group for group, members in self.groups.items() if channel in members]:
                self.discard(group, channel)

    def end(self, member: Member) -> None:
        """Take a member's channel out of the groups that the member lists."""
        with self.lock:
            for group in member.groups or ():
                self._leave(group, member.name)
            member.groups = None

    def expire(self, now: float, lifetime: float) -> None:
        """End every membership that was last renewed more than `lifetime` seconds ago."""
        with self.lock:
            for joined, group, channel in self.joins.take_due(now, lifetime):
                if self._stands((joined, group, channel)):
                    self._warn_of_expiry(group, channel, lifetime)
                    self.discard(group, channel)

    def clear(self) -> None:
        """End all groups."""
        with self.lock:
            for target in list(self._channels.values()):
                member = member_behind(target)
                if member is not None:
                    member.groups = None
            self.groups.clear()
            self._rosters.clear()
            self.joins.clear()
            if self._watchers is not None:
                self._watchers.clear()

    def roster(self, group: str) -> Roster | None:
        """The receivers of a message that is sent to the group now. None if there are none."""
        joined = self.groups.get(group)
        if not joined:
            if self._watchers is not None:
                self._tell_of(group)
            return None
        roster = self._rosters.get(group)
        # Applications' tests reach into the groups.
        if roster is not None and roster.joined is joined and roster.size == len(joined) and roster.is_current:
            return roster
        with self.lock:
            targets = [(name, self._channels.get(name)) for name in joined]
            members = [target for _, target in targets if type(target) is Member]
            names = [name for name, target in targets if type(target) is not Member]
            roster = Roster(joined, members, names)
            if all(member.groups and group in member.groups for member in members):
                self._rosters[group] = roster
                self.has_unattended = self.has_unattended or bool(names)
            else:
                self._rosters.pop(group, None)
            if self._watchers is not None:
                self._tell_of(group)
        return roster

    def forget_rosters(self) -> None:
        """The object behind a channel has changed. The channel may be in any group, so drop all rosters."""
        self._rosters.clear()
        self.has_unattended = False

    def forget_connection(self, member: Member) -> None:
        """The member has lost its connection: rebuild the rosters it is in."""
        with self.lock:
            for group in member.groups or ():
                self._rosters.pop(group, None)

    def statistics(self) -> Record:
        """The numbers of groups, of memberships in them, and of rosters."""
        with self.lock:
            memberships = sum(map(len, self.groups.values()))
            numbers = {"groups": len(self.groups), "memberships": memberships, "rosters": len(self._rosters)}
        return MappingProxyType(numbers)

    def watch(self, watcher: GroupWatcher) -> None:
        """Tell the watcher who is in which group now, and every change from now on."""
        with self.lock:
            if self._watchers is None:
                self._watchers = Watchers()
            self._watchers.add(watcher, self.groups)

    def unwatch(self, watcher: GroupWatcher) -> None:
        """From now on, tell the watcher nothing. Does nothing if it does not watch."""
        with self.lock:
            if self._watchers is not None:
                self._watchers.remove(watcher)
                if not self._watchers:
                    self._watchers = None

    def _tell_of(self, group: str) -> None:
        """Tell the watchers of changes that code has made to `groups` directly."""
        with self.lock:
            if self._watchers is not None:
                self._watchers.compare(group, self.groups.get(group, {}))

    def _leave(self, group: str, channel: str) -> None:
        members = self.groups.get(group)
        if members is not None:
            self._rosters.pop(group, None)
            members.pop(channel, None)
            if not members:
                del self.groups[group]
        if self._watchers is not None:
            self._watchers.left(group, channel)

    def _member(self, channel: str) -> Member | None:
        return member_behind(self._channels.get(channel))

    def _stands(self, note: tuple[float, str, str]) -> bool:
        """Whether a channel is still in a group, and has not joined again since this note was made."""
        joined, group, channel = note
        return self.groups.get(group, {}).get(channel) == joined

    def _warn_of_expiry(self, group: str, channel: str, lifetime: float) -> None:
        member = self._member(channel)
        if member is not None and not member.closed and not self._has_expired_members:
            self._has_expired_members = True
            logger.warning(
                "A running consumer is no longer in group %s: its membership expired %g s after it joined "
                "(group_expiry). To stay, it has to join again before that. This is logged once",
                group,
                lifetime,
            )
