"""Bringing messages to all sockets of an audience, round and round.

A sweep stands at a place of the audience, and moves on by some in each pass of the event loop. A message comes aboard
where the sweep stands, and leaves it there when it has been all round. So each socket gets, in one write, what has
come aboard since it was visited last; and the next one gets the same bytes, which were joined once.

Between two visits the kernel uses the caches for itself, so that a visit costs what it touches: here nothing of a
member but its socket. Hence those that need a second look are looked up beforehand (`Audience.to_pass_by`).
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from socket import socket
from typing import TYPE_CHECKING

from fairway.delivery import Payload

if TYPE_CHECKING:
    from fairway.server.crowd import Audience


class Passenger:
    """A message that is brought round. `size`: its longest form; `left_out`: places where it is not, or no more, due;
    `to_go`: to so many places it still has to come.
    """

    __slots__ = ("left_out", "payload", "size", "to_go")

    def __init__(self, payload: Payload, size: int, left_out: set[int], to_go: int) -> None:
        self.payload = payload
        self.size = size
        self.left_out = left_out
        self.to_go = to_go


class Sweep:
    """`aboard`: the oldest message, which is the next to leave, first. `size`: of all of them, in bytes."""

    __slots__ = ("aboard", "at", "audience", "size")

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self.aboard: deque[Passenger] = deque()
        self.at = 0
        self.size = 0

    def board(self, payload: Payload, size: int, left_out: set[int]) -> None:
        """Take a payload aboard, all forms of which have been made."""
        self.aboard.append(Passenger(payload, size, left_out, len(self.audience)))
        self.size += size

    def settle(self, place: int) -> None:
        """Put into the outbox of a place what is aboard for it: nothing may overtake that."""
        distance = (place - self.at) % len(self.audience)
        due = [one for one in self.aboard if one.to_go > distance and place not in one.left_out]
        for one in due:
            one.left_out.add(place)
        connection = self.audience.connections[place]
        for one in due:
            connection.broadcast(one.payload)

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
            begin = place + 1
        self._write(begin, end, data)
        self.at = end % len(audience)
        for one in self.aboard:
            one.to_go -= count
        while self.aboard and not self.aboard[0].to_go:
            self.size -= self.aboard.popleft().size
        return count

    def _to_pass_by(self, begin: int, end: int) -> set[int]:
        audience = self.audience
        places = set(audience.to_pass_by(begin, end))
        for one in self.aboard:
            places.update(place for place in one.left_out if begin <= place < end)
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
