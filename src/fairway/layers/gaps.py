"""Consumers that want to know when messages to their groups may have been missed.

After an outage of the service between the processes, each of them gets one `layer.gap` event with its groups, so that
it can reload what it shows. Only consumers whose class has a handler `layer_gap` get the event. It never comes out
of `receive`.

The events are spread over some time, because a handler often makes a query. They do not count against a member's
capacity: a consumer that is behind needs the event most.

In a group with a history, every missing message is noticed, and most are read afterwards. So an outage alone is no gap
there. If messages are lost, the members hear of it at once, before the next message: `tell_of`.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

from fairway.delivery import Member, Message, running_loop_or_none

EVENT = "layer.gap"
PER_SECOND = 1000.0
"""How many consumers are told per second, on average."""

LONGEST = 10.0
"""Seconds in which all consumers are told, even if that takes more than `PER_SECOND`."""

_ANY_CAPACITY = 2**31


class Gaps:
    """The consumers of one hub that hear of gaps. Any thread may call these methods."""

    __slots__ = ("_has_history", "_hearing", "_pending")

    def __init__(self) -> None:
        self._has_history: Callable[[str], bool] = lambda group: False
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

    def tell(self, reason: str, has_history: Callable[[str], bool] = lambda group: False) -> None:
        """Messages may have been missed in groups without a history: tell every member that is in one, once."""
        self._has_history = has_history
        members = [member for member in list(self._hearing) if member not in self._pending and self._groups_of(member)]
        self._pending.update(members)
        spread = min(len(members) / PER_SECOND, LONGEST)
        for member in members:
            try:
                member.loop.call_soon_threadsafe(
                    member.loop.call_later, random.uniform(0.0, spread), self._deliver, member, reason
                )
            except RuntimeError:  # its event loop has been closed
                self.discard(member)

    def tell_of(self, group: str, reason: str, begin: str = "", end: str = "") -> None:
        """Messages of a group with a history are lost: tell its members now. They are missing after `begin`, up to
        and including `end`, if that is known.
        """
        for member in list(self._hearing):
            if member.groups is not None and group in member.groups and not member.closed:
                event = {"type": EVENT, "groups": [group], "reason": reason, "from": begin, "to": end}
                _put(member, event)

    def _deliver(self, member: Member, reason: str) -> None:
        self._pending.discard(member)
        groups = self._groups_of(member)
        if not member.closed and groups:
            member.inbox.put_layer({"type": EVENT, "groups": groups, "reason": reason}, _ANY_CAPACITY)

    def _groups_of(self, member: Member) -> list[str]:
        return [group for group in list(member.groups or ()) if not self._has_history(group)]


def _put(member: Member, event: Message) -> None:
    if member.loop is running_loop_or_none():
        member.inbox.put_layer(event, _ANY_CAPACITY)
        return
    with contextlib.suppress(RuntimeError):  # its event loop has been closed
        member.loop.call_soon_threadsafe(member.inbox.put_layer, event, _ANY_CAPACITY)
