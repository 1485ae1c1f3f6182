"""The members of a group, looked up once for many messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fairway.delivery import Audience, Connection, Crowd, Member, Payload, get_running_loop


class Roster:
    """Who was behind the names of a group when they were looked up: members, and names without one.

    Of the members those come first whose connections form an audience, in the order of their places.
    """

    __slots__ = ("_audience", "_crowd", "_standing", "joined", "members", "names")

    def __init__(self, joined: Collection[str], members: Collection[Member], names: Sequence[str]) -> None:
        self.joined = joined
        self.names = names
        self._crowd = crowd = next((crowd for crowd in map(_crowd_of, members) if crowd is not None), None)
        seated: dict[Connection, Member] = {}
        others: list[Member] = []
        self._standing: list[Connection] = []
        for member in members:
            connection = member.connection
            if connection is None or crowd is None or _crowd_of(member) is not crowd or connection in seated:
                others.append(member)
            elif connection.is_open:
                seated[connection] = member
            else:
                others.append(member)
                self._standing.append(connection)
        connections = sorted(seated, key=lambda one: id(one.encoder))
        self._audience = crowd.seat(connections) if crowd is not None and connections else None
        self.members = (*[seated[one] for one in connections], *others)

    def __len__(self) -> int:
        return len(self.members) + len(self.names)

    @property
    def is_current(self) -> bool:
        """False when connections that were not open yet have become so."""
        return not any(one.is_open for one in self._standing)

    def broadcast(self, payload: Payload, without: Collection[object] = ()) -> Sequence[Member]:
        """Have the payload written to those of the members that are ready for it, except to some; the others, who are
        to be given it one by one, are returned.
        """
        audience, crowd, members = self._audience, self._crowd, self.members
        others: Sequence[Member] = members
        if audience is not None and crowd is not None and crowd.loop is get_running_loop():
            places = {place for member in without if (place := self._place_of(member, audience)) is not None}
            others = [members[place] for place in audience.broadcast(payload, places)]
            others += members[len(audience) :]
        return [member for member in others if member not in without] if without else others

    def _place_of(self, member: object, audience: Audience) -> int | None:
        if isinstance(member, Member) and member.connection is not None and _crowd_of(member) is self._crowd:
            return audience.place_of(member.connection)
        return None


def _crowd_of(member: Member) -> Crowd | None:
    connection = member.connection
    # Behind a middleware that wraps `receive` a consumer has an inbox of its own, which says whether it waits.
    return connection.crowd if connection is not None and connection.inbox is member.inbox else None
