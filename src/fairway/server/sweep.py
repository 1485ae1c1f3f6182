"""Bringing messages to all sockets of an audience, round and round.

A sweep stands at a place of the audience, and moves on by some in each pass of the event loop. A message comes aboard
where the sweep stands, and leaves it there when it has been all round. So each socket gets, in one write, what has
come aboard since it was visited last; and the next one gets the same bytes, which were joined once.

Between two visits the kernel uses the caches for itself, so that a visit costs what it touches: here nothing of a
member but its socket. Hence those that need a second look are looked up beforehand (`Audience.to_pass_by`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from itertools import repeat
from socket import socket
from typing import TYPE_CHECKING

from fairway.delivery import Payload

if TYPE_CHECKING:
    from fairway.server.crowd import Audience


class Passenger:
    """A message that is brought round. `number`: it was the so-manieth to come aboard; `weight`: so many bytes are kept
    for it, about; `left_out`: at these places it is not due; `to_go`: to so many it still has to come.
    """

    __slots__ = ("left_out", "number", "payload", "to_go", "weight")

    def __init__(self, number: int, payload: Payload, weight: int, left_out: Collection[int], to_go: int) -> None:
        self.number = number
        self.payload = payload
        self.weight = weight
        self.left_out = left_out
        self.to_go = to_go


class Sweep:
    """`aboard`: the oldest message, which is the next to leave, first. `weight`: of all of them."""

    __slots__ = ("_boarded", "_settled", "aboard", "at", "audience", "weight")

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self.aboard: deque[Passenger] = deque()
        self.at = 0
        self.weight = 0
        self._boarded = 0
        # Places whose outboxes have been given, since their last visit, all messages up to this number.
        self._settled: dict[int, int] = {}

    def board(self, payload: Payload, weight: int, left_out: Collection[int]) -> None:
        """Take a payload aboard, all forms of which have been made."""
        self._boarded += 1
        self.aboard.append(Passenger(self._boarded, payload, weight, left_out, len(self.audience)))
        self.weight += weight

    def settle(self, place: int) -> None:
        """Put into the outbox of a place what is aboard for it: nothing may overtake that."""
        distance = (place - self.at) % len(self.audience)
        last = self._settled.get(place, 0)
        due = [one for one in self.aboard if one.number > last and one.to_go > distance and place not in one.left_out]
        if not due:
            return
        self._settled[place] = self._boarded
        connection = self.audience.connections[place]
        for one in due:
            connection.outbox.append(one.payload.form(connection.encoder), is_broadcast=True)
        # Only when all are there: if the client is dropped now, all of them are counted.
        connection._check_bound()

    def run(self, count: int) -> int:
        """Visit so many places, or fewer if what is to be written changes before; how many were visited."""
        audience, begin = self.audience, self.at
        part_end, encoder = next(part for part in audience.parts if begin < part[0])
        end = min(part_end, begin + count, begin + self.aboard[0].to_go)
        count = end - begin
        data = b"".join([one.payload.form(encoder) for one in self.aboard])
        for place in sorted(self._to_pass_by(begin, end)):
            self._write(begin, place, data)
            self.settle(place)
            self._settled.pop(place, None)
            begin = place + 1
        self._write(begin, end, data)
        self.at = end % len(audience)
        for one in self.aboard:
            one.to_go -= count
        while self.aboard and not self.aboard[0].to_go:
            self.weight -= self.aboard.popleft().weight
        return count

    def _to_pass_by(self, begin: int, end: int) -> set[int]:
        places = set(self.audience.to_pass_by(begin, end))
        for some in (self._settled, *[one.left_out for one in self.aboard]):
            if len(some) > end - begin:
                places.update(place for place in range(begin, end) if place in some)
            elif some:
                places.update(place for place in some if begin <= place < end)
        return places

    def _write(self, begin: int, end: int, data: bytes) -> None:
        # The loop over the sockets is the iterator's own: in Python it would cost a twentieth of a delivery.
        taken: list[int] = []
        sends = map(socket.send, self.audience.endpoints[begin:end], repeat(data))
        while len(taken) < end - begin:
            try:
                taken.extend(sends)
            except OSError:
                taken.append(0)  # full, or broken: the transport sees to either
        size = len(data)
        if taken.count(size) < len(taken):
            for place, sent in enumerate(taken, begin):
                if sent < size:
                    self.audience.connections[place].outbox.write_rest(data, sent)
