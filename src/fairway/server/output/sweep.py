"""Writing broadcasts to the sockets of a group, round and round: a circular elevator scan.

Theory of operation. The recipients of a sweep form a circle. The sweep stands at one index, `at`, and visits the next
recipients in each pass of the event loop. A broadcast joins wherever the sweep stands, and leaves after one full round,
when `remaining` is 0. So a visit writes, in one write, every broadcast that has joined since the previous visit. The
next recipient gets the same bytes, which are joined only once.

* *Direct and indirect visits.* The kernel displaces the processor's caches between two visits, so a visit costs as much
  as the memory that it touches. A direct visit touches only the socket. An indirect visit goes through the outbox. It
  is needed where the outbox holds something, where the socket is full or closing, where a broadcast leaves the
  recipient out, and where an outbox was served early. `_indirect_in` finds these recipients before the visits.
* *Bringing forward.* Before something else is appended to an outbox, the broadcasts that the sweep still owes it must
  be there, or they would be overtaken. `bring_forward` puts them in, and notes the number of the latest one. The next
  visit is then indirect, and forgets the note.
* *Begin and end.* The fanout makes a sweep for the first broadcast to a large group, calls `run` in each pass, and
  drops the sweep when no broadcast is under way. The recipients do not change in between. A connection that closes
  keeps its index: it is indirect until it has no socket, and then takes nothing. Meanwhile, broadcasts to other
  recipients go through the outboxes.

Except for these notes, a sweep keeps nothing for each recipient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from fairway.delivery import Payload
from fairway.server.output.lanes import STREAMS
from fairway.server.output.outbox import Outbox
from fairway.server.output.recipients import Part, Recipients

# An indirect visit takes as long as this many direct ones.
INDIRECT_COST = 8

# So many more bytes take as long as one more write: 4 µs to copy them and to hand them on.
BYTES_PER_WRITE = 1 << 14


class Broadcast:
    """A message under way.

    `number` counts the broadcasts of a sweep from 1. `weight` is roughly how many bytes are kept for the message.
    `left_out` are the indices of recipients that must not get it. `remaining` recipients have not been visited yet.
    """

    __slots__ = ("forms", "left_out", "number", "remaining", "weight")

    def __init__(self, number: int, payload: Payload, weight: int, left_out: Collection[int], remaining: int) -> None:
        self.number = number
        self.forms = payload.forms
        self.weight = weight
        self.left_out = left_out
        self.remaining = remaining


class Sweep:
    """`under_way` are the broadcasts, oldest first, which is also the order in which they complete. `weight` is the sum
    of their weights. `written` counts the bytes that were written past the outboxes, until the fanout takes them over.

    `indirect` and `dirty` belong to the fanout, which changes them: outboxes that nothing may bypass even when they are
    empty, and outboxes into which other broadcasts have put something.
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
        "written",
    )

    def __init__(self, recipients: Recipients, indirect: Collection[Outbox], dirty: Collection[object]) -> None:
        self.recipients = recipients
        self.under_way: deque[Broadcast] = deque()
        self.at = 0
        self.weight = self.written = 0
        self._count = len(recipients.connections)
        self._indirect = indirect
        self._dirty = dirty
        self._added = 0
        # Index -> the number of the latest broadcast when the outbox was served early, before its next visit.
        self._brought_forward: dict[int, int] = {}

    def add(self, payload: Payload, weight: int, left_out: Collection[int]) -> None:
        """Add a broadcast. The payload must already have its forms for the encoders of all recipients."""
        self._added += 1
        self.under_way.append(Broadcast(self._added, payload, weight, left_out, self._count))
        self.weight += weight

    def bring_forward(self, index: int) -> None:
        """Put the broadcasts that this recipient has not had into its outbox, so that nothing overtakes them.

        A recipient whose outbox then holds too much is dropped.
        """
        # A broadcast is due here if its round has not passed this index (`remaining` reaches beyond the distance), if
        # it joined after the previous `bring_forward`, and if it does not leave this recipient out.
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
        # Not before all are there: if the client is dropped now, all of them count as dropped.
        connection.check_bound()

    def run(self, count: int) -> int:
        """Visit up to `count` recipients, and return the cost. At least one broadcast must be under way.

        A direct visit costs 1, or more if there are many bytes to write, and an indirect one `INDIRECT_COST`. There are
        fewer visits if they cost more, or if the next recipient needs other bytes. The cost is at most about twice
        `count`.
        """
        # All recipients up to `end` get the same bytes: they have the same encoder and lane, and no broadcast completes
        # its round before.
        begin = self.at
        part = next(part for part in self.recipients.parts if begin < part.end)
        data = b"".join([one.forms[part.encoder] for one in self.under_way])
        each = 1 + len(data) // BYTES_PER_WRITE
        end = min(part.end, begin + max(1, count // each), begin + self.under_way[0].remaining)
        indirect = sorted(self._indirect_in(begin, end))
        most = max(1, count // INDIRECT_COST)
        if len(indirect) > most:
            end = indirect[most]
            del indirect[most:]
        count = end - begin
        # Runs of recipients between indirect ones are written directly. At an indirect one, `bring_forward` appends
        # what the outbox has not had yet. Its note is then obsolete, because the sweep has passed the index.
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
        return each * (count - len(indirect)) + INDIRECT_COST * len(indirect)

    def _indirect_in(self, begin: int, end: int) -> set[int]:
        """The indices in this range that need an indirect visit."""
        indices = set(self._in_use(begin, end))
        for some in (self._brought_forward, *[one.left_out for one in self.under_way]):
            # Iterate over the shorter one of the collection and the range.
            if len(some) > end - begin:
                indices.update(index for index in range(begin, end) if index in some)
            elif some:
                indices.update(index for index in some if begin <= index < end)
        return indices

    def _in_use(self, begin: int, end: int) -> Iterable[int]:
        # A sweep avoids looking at every outbox of the range. It does so only while other broadcasts have filled
        # outboxes, or when the set of indirect outboxes is larger than the range.
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
        # Nearly always every socket takes all bytes, and one count shows that. What a socket does not take goes to its
        # transport. The transport reports that the socket is full, which makes the outbox indirect.
        size = len(data)
        if part.lane is not STREAMS:  # it counts what it writes to connections
            self.written += size * len(taken)
        if taken.count(size) < len(taken):
            for index, sent in enumerate(taken, begin):
                if sent < size:
                    self.recipients.connections[index].outbox.write_rest(data, sent)
