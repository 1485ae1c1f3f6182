"""The members of a group, looked up once for many messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from itertools import compress

from fairway.delivery import Connection, Crowd, Member, Payload, get_running_loop


class Roster:
    """Who was behind the names of a group when they were looked up: members, and names without one.

    `connections` are those of the first members, in their order, and of one `crowd`.
    """

    __slots__ = ("connections", "crowd", "joined", "members", "names")

    def __init__(self, joined: Collection[str], members: Collection[Member], names: Sequence[str]) -> None:
        self.joined = joined
        self.names = names
        self.crowd = next((crowd for crowd in map(_crowd_of, members) if crowd is not None), None)
        connections: list[Connection] = []
        together, others = [], []
        for member in members:
            connection = member.connection
            if connection is not None and self.crowd is not None and _crowd_of(member) is self.crowd:
                connections.append(connection)
                together.append(member)
            else:
                others.append(member)
        self.connections = tuple(connections)
        self.members = (*together, *others)

    def __len__(self) -> int:
        return len(self.members) + len(self.names)

    def without(self, members: Collection[object], names: Collection[str]) -> Roster:
        """The same without some. It costs less than to look up all others again."""
        rest = copy(self)
        staying = [one not in members for one in self.members]
        rest.connections = tuple(compress(self.connections, staying))
        rest.members = tuple(compress(self.members, staying))
        rest.names = [name for name in self.names if name not in names]
        return rest

    def broadcast(self, payload: Payload, begin: int, end: int) -> Sequence[Member]:
        """Have the payload written to those of these members that are ready for it; the others are returned."""
        if self.crowd is None or self.crowd.loop is not get_running_loop():
            return self.members[begin:end]
        members = self.members
        others = self.crowd.broadcast(self.connections[begin:end], payload)
        return [*[members[begin + place] for place in others], *members[max(begin, len(self.connections)) : end]]


def _crowd_of(member: Member) -> Crowd | None:
    connection = member.connection
    # Behind a middleware that wraps `receive` a consumer has an inbox of its own, which says whether it waits.
    return connection.crowd if connection is not None and connection.inbox is member.inbox else None
