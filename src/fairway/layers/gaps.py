"""Consumers that want to know when messages to their groups may have been missed.

After an outage of what is between the processes each of them gets one event, `layer.gap`, with its groups: it may read
anew what it shows. Its class has a handler for it, `layer_gap`; nobody else gets anything. The events are spread over
some time, because what they lead to is often a query, and wait outside of the member's capacity: who is behind needs it
most. What is received by calling `receive` never has it.
"""

from __future__ import annotations

import random

from fairway.delivery import Member

EVENT = "layer.gap"
PER_SECOND = 1000.0
"""So many consumers are told in a second, on average, ..."""

LONGEST = 10.0
"""... but all of them after so many seconds."""


_ANY_CAPACITY = 2**31


class Gaps:
    """The consumers of one hub that hear of gaps. Any thread may call it."""

    __slots__ = ("_hearing", "_pending")

    def __init__(self) -> None:
        self._hearing: dict[Member, None] = {}
        self._pending: set[Member] = set()

    def __len__(self) -> int:
        return len(self._hearing)

    def add(self, member: Member) -> None:
        """Tell this one of gaps, until `discard`."""
        self._hearing[member] = None

    def discard(self, member: Member) -> None:
        """The member's consumer has ended."""
        self._hearing.pop(member, None)
        self._pending.discard(member)

    def tell(self, reason: str) -> None:
        """Messages may have been missed: every member that is in a group will hear of it, once."""
        members = [member for member in list(self._hearing) if member.groups and member not in self._pending]
        self._pending.update(members)
        spread = min(len(members) / PER_SECOND, LONGEST)
        for member in members:
            try:
                member.loop.call_soon_threadsafe(
                    member.loop.call_later, random.uniform(0.0, spread), self._deliver, member, reason
                )
            except RuntimeError:  # its event loop has been closed
                self.discard(member)

    def _deliver(self, member: Member, reason: str) -> None:
        self._pending.discard(member)
        if not member.closed and member.groups:
            member.inbox.put_layer({"type": EVENT, "groups": list(member.groups), "reason": reason}, _ANY_CAPACITY)
