"""Consumers that want to know when messages to their groups may have been missed.

After an outage of the service between the processes, each of them gets one `layer.gap` event with its groups, so that
it can reload what it shows. Only consumers whose class has a handler `layer_gap` get the event. It never comes out
of `receive`.

The events are spread over some time, because a handler often makes a query. They do not count against a member's
capacity: a consumer that is behind needs the event most.
"""

from __future__ import annotations

import random

from fairway.delivery import Member

EVENT = "layer.gap"
PER_SECOND = 1000.0
"""How many consumers are told per second, on average."""

LONGEST = 10.0
"""Seconds in which all consumers are told, even if that takes more than `PER_SECOND`."""

_ANY_CAPACITY = 2**31


class Gaps:
    """The consumers of one hub that hear of gaps. Any thread may call these methods."""

    __slots__ = ("_hearing", "_pending")

    def __init__(self) -> None:
        self._hearing: dict[Member, None] = {}
        self._pending: set[Member] = set()

    def __len__(self) -> int:
        return len(self._hearing)

    def add(self, member: Member) -> None:
        """Tell this member of gaps, until `discard`."""
        self._hearing[member] = None

    def discard(self, member: Member) -> None:
        """Tell this member nothing more: its consumer has ended."""
        self._hearing.pop(member, None)
        self._pending.discard(member)

    def tell(self, reason: str) -> None:
        """Messages may have been missed: tell every member that is in a group, once."""
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
