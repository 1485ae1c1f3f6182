"""Writing broadcasts to the sockets of a group, round and round: a circular elevator scan.

A sweep stands at an index of its recipients and moves on by a number of them in each pass of the event loop. A
broadcast joins the sweep wherever it stands, and leaves it when it has been brought all the way round. So each socket
gets, in one write, every broadcast that has joined since its last visit; and the next socket gets the same bytes, which
were joined once.

Between two visits the kernel uses the caches for itself, so a visit costs as much as the memory that it touches. That
is why it touches nothing of a connection but its socket. Connections that need a second look are therefore looked up
beforehand (`_indirect_in`): first those whose outboxes are in use, then those that this sweep itself treats apart.

A sweep begins with a broadcast for a large group, and is over when nothing is under way. Until then its recipients stay
as they are. One that closes keeps its index: it is indirect until its socket has gone, and then takes nothing. A
broadcast to other recipients goes through the outboxes meanwhile.

For each broadcast the sweep keeps how many recipients `remaining` counts. For each recipient it keeps nothing, except
where an outbox has asked for its share early (`bring_forward`): then it remembers up to which broadcast.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from fairway.delivery import Payload
from fairway.server.output.outbox import Outbox
from fairway.server.output.recipients import Part, Recipients

# A visit that goes through an outbox takes as long as so many that go to a socket straight.
INDIRECT_COST = 8


class Broadcast:
    """A message that is under way. `number` counts the broadcasts of a sweep from 1; `weight` is about how many bytes
    are kept for it; `left_out` are the indices that are not to get it; `remaining` is how many recipients are still to
    be visited.
    """

    __slots__ = ("forms", "left_out", "number", "remaining", "weight")

    def __init__(self, number: int, payload: Payload, weight: int, left_out: Collection[int], remaining: int) -> None:
        self.number = number
        self.forms = payload.forms
        self.weight = weight
        self.left_out = left_out
        self.remaining = remaining


class Sweep:
    """`under_way` are the broadcasts, oldest first: the first will be complete next. `weight` is the sum of theirs.

    `indirect` and `dirty` belong to the fanout, which changes them: the outboxes that nothing may bypass even when they
    are empty, and those that other broadcasts have put something into.
    """

    __slots__ = (
        "_added",
        "_brought_forward",
        "_count",
        "_dirty",
        "_indirect",
        "at",
        "recipients",
        "under_way",
        "weight",
    )

    def __init__(self, recipients: Recipients, indirect: Collection[Outbox], dirty: Collection[object]) -> None:
        self.recipients = recipients
        self.under_way: deque[Broadcast] = deque()
        self.at = 0
        self.weight = 0
        self._count = len(recipients.connections)
        self._indirect = indirect
        self._dirty = dirty
        self._added = 0
        # Index -> the number of the last broadcast that its outbox has been given ahead of the next visit.
        self._brought_forward: dict[int, int] = {}

    def add(self, payload: Payload, weight: int, left_out: Collection[int]) -> None:
        """Add a broadcast of a payload whose forms for all recipients have been made."""
        self._added += 1
        self.under_way.append(Broadcast(self._added, payload, weight, left_out, self._count))
        self.weight += weight

    def bring_forward(self, index: int) -> None:
        """Put into an outbox what is under way for it, so that nothing overtakes that."""
        # A broadcast is due for it if its round has not passed this index (`remaining` reaches beyond the distance), if
        # it came after what was brought forward last, and if it is for this recipient at all.
        distance = (index - self.at) % self._count
        last = self._brought_forward.get(index, 0)
        due = [
            one
            for one in self.under_way
            if one.number > last and one.remaining > distance and index not in one.left_out
        ]
        if not due:
            return
        self._brought_forward[index] = self._added
        connection = self.recipients.connections[index]
        for one in due:
            connection.outbox.append(one.forms[connection.encoder], is_broadcast=True)
        # Only when all are there: if the client is dropped now, all of them are counted.
        connection.check_bound()

    def run(self, count: int) -> int:
        """Visit up to `count` recipients, fewer where the bytes to be written change or where many are indirect, each
        of which counts as `INDIRECT_COST`. Return for how many they counted: at most about twice as many.
        """
        # The bytes change where the encoder or the lane does, where a broadcast has been all the way round, and at the
        # end of the circle. Up to there all get the same ones.
        begin = self.at
        part = next(part for part in self.recipients.parts if begin < part.end)
        end = min(part.end, begin + count, begin + self.under_way[0].remaining)
        indirect = sorted(self._indirect_in(begin, end))
        most = max(1, count // INDIRECT_COST)
        if len(indirect) > most:
            end = indirect[most]
            del indirect[most:]
        count = end - begin
        data = b"".join([one.forms[part.encoder] for one in self.under_way])
        # Runs of sockets between the indirect ones are written straight; each of those goes through its outbox, which
        # knows what it has had already. That its visit has been is then forgotten: the next round is a new one.
        for index in indirect:
            self._write(part, begin, index, data)
            self.bring_forward(index)
            self._brought_forward.pop(index, None)
            begin = index + 1
        self._write(part, begin, end, data)
        self.at = end % self._count
        for one in self.under_way:
            one.remaining -= count
        while self.under_way and not self.under_way[0].remaining:
            self.weight -= self.under_way.popleft().weight
        return count + (INDIRECT_COST - 1) * len(indirect)

    def _indirect_in(self, begin: int, end: int) -> set[int]:
        """The indices in this range whose sockets may only be written to through their outboxes."""
        indices = set(self._in_use(begin, end))
        for some in (self._brought_forward, *[one.left_out for one in self.under_way]):
            # Whichever of the two, collection and range, is shorter is gone through.
            if len(some) > end - begin:
                indices.update(index for index in range(begin, end) if index in some)
            elif some:
                indices.update(index for index in some if begin <= index < end)
        return indices

    def _in_use(self, begin: int, end: int) -> Iterable[int]:
        # Looking at every outbox of the range is what a sweep avoids. It is done only when outboxes are dirty that the
        # sweep does not know of, or when so many are indirect that looking them up would take longer.
        indirect = self._indirect
        if self._dirty or len(indirect) > end - begin:
            outboxes = [one.outbox for one in self.recipients.connections[begin:end]]
            return [index for index, one in enumerate(outboxes, begin) if one.size or one in indirect]
        if not indirect:
            return ()
        indices = map(self.recipients.indices.get, indirect)
        return [index for index in indices if index is not None and begin <= index < end]

    def _write(self, part: Part, begin: int, end: int, data: bytes) -> None:
        if part.lane is None:
            taken = [0] * (end - begin)
        else:
            taken = part.lane.write(self.recipients.endpoints[begin:end], data)
        # Nearly always every socket takes all of it, and one count shows that. What one does not take goes to its
        # transport, which reports that the socket is full; from then on its outbox is among the indirect ones.
        size = len(data)
        if taken.count(size) < len(taken):
            for index, sent in enumerate(taken, begin):
                if sent < size:
                    self.recipients.connections[index].outbox.write_rest(data, sent)
