"""The members of a group, looked up once and used for many messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fairway.delivery import Connection, Fanout, Member, Payload, Recipients, running_loop_or_none


class Roster:
    """What stood behind the names of a group when they were looked up: members, and names without a member.

    `members` begins with those that one call can reach, in the order of their indices in `recipients`.
    """

    __slots__ = ("_direct", "_fanout", "_not_open_yet", "joined", "members", "names", "recipients", "size")

    def __init__(self, joined: Collection[str], members: Collection[Member], names: Sequence[str]) -> None:
        self.joined = joined
        self.names = names
        self._fanout = fanout = next((fanout for fanout in map(_fanout_of, members) if fanout is not None), None)
        direct: dict[Connection, Member] = {}
        others: list[Member] = []
        self._not_open_yet: list[Connection] = []
        for member in members:
            connection = member.connection
            if connection is None or fanout is None or _fanout_of(member) is not fanout or connection in direct:
                others.append(member)
            elif connection.is_open:
                direct[connection] = member
            else:
                others.append(member)
                self._not_open_yet.append(connection)
        connections = fanout.in_order(direct) if fanout is not None else ()
        self._direct = len(connections)
        self.recipients = fanout.recipients_of(connections) if fanout is not None and connections else None
        self.members = (*[direct[one] for one in connections], *others)
        self.size = len(self.members) + len(names)

    @property
    def is_current(self) -> bool:
        """False once a connection has opened that was not open when the roster was made. Then make a new roster."""
        return not self._not_open_yet or not any(one.is_open for one in self._not_open_yet)

    def broadcast(self, payload: Payload, without: Collection[object] = ()) -> Sequence[Member]:
        """Write the payload to every member that is ready for it, except those in `without`.

        Returns the members to which the caller must deliver it one by one.
        """
        recipients, fanout, members = self.recipients, self._fanout, self.members
        others: Sequence[Member] = members
        if recipients is not None and fanout is not None and fanout.loop is running_loop_or_none():
            indices = {index for member in without if (index := self._index_of(member, recipients)) is not None}
            not_ready = fanout.broadcast(recipients, payload, indices)
            others = members[self._direct :]
            if not_ready:
                others = (*[members[index] for index in not_ready], *others)
        return [member for member in others if member not in without] if without else others

    def _index_of(self, member: object, recipients: Recipients) -> int | None:
        if isinstance(member, Member) and member.connection is not None and _fanout_of(member) is self._fanout:
            return recipients.index_of(member.connection)
        return None


def _fanout_of(member: Member) -> Fanout | None:
    connection = member.connection
    # If a middleware wraps `receive`, the consumer has an inbox of its own, and only that inbox tells whether the
    # consumer waits. So the connection must not be written to directly.
    return connection.fanout if connection is not None and connection.inbox is member.inbox else None
