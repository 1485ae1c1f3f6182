"""The members of a group, looked up once for many messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy

from fairway.delivery import Connection, Crowd, Member, Payload, get_running_loop


class Roster:
    """Who was behind the names of a group when they were looked up: members, and names without one.

    `connections` are those of the first members, of one `crowd`: whose consumers read what the connection received.
    """

    __slots__ = ("_owners", "connections", "crowd", "joined", "members", "names")

    def __init__(self, joined: Collection[str], members: Collection[Member], names: Sequence[str]) -> None:
        self.joined = joined
        self.names = names
        self.crowd: Crowd | None = None
        self._owners: dict[Connection, Member] = {}
        others = []
        for member in members:
            connection, crowd = member.connection, _crowd_of(member)
            if self.crowd is None:
                self.crowd = crowd
            if connection is not None and crowd is not None and crowd is self.crowd:
                self._owners[connection] = member
            else:
                others.append(member)
        self.connections: tuple[Connection, ...] = tuple(self._owners)
        self.members: tuple[Member, ...] = (*self._owners.values(), *others)

    def __len__(self) -> int:
        return len(self.members) + len(self.names)

    def without(self, members: Collection[object], names: Collection[str]) -> Roster:
        """The same without some. It costs less than to look up all others again."""
        rest = copy(self)
        rest.connections = tuple([one for one in self.connections if self._owners[one] not in members])
        rest.members = tuple([one for one in self.members if one not in members])
        rest.names = [name for name in self.names if name not in names]
        return rest

    def broadcast(self, payload: Payload, begin: int, end: int) -> Sequence[Member]:
        """Have the payload written to those of these members that are ready for it; the others are returned."""
        if self.crowd is None or self.crowd.loop is not get_running_loop():
            return self.members[begin:end]
        others = self.crowd.broadcast(self.connections[begin:end], payload)
        return [*map(self._owners.__getitem__, others), *self.members[max(begin, len(self.connections)) : end]]


def _crowd_of(member: Member) -> Crowd | None:
    connection = member.connection
    # Behind a middleware that wraps `receive` a consumer has an inbox of its own, which says whether it waits.
    return connection.crowd if connection is not None and connection.inbox is member.inbox else None
