"""Messages for members in other event loops: one call for each loop, however many members it has."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from fairway.delivery import Member

Parcel = list[tuple[Member, Any]]
"""Members of one event loop, and what each of them gets."""


class Parcels:
    """What one message brings to members of event loops other than the sender's.

    Every loop gets its parcel by one `call_soon_threadsafe`. That keeps the order of what one thread sends, because a
    loop runs such calls in the order in which they were made. With `was_missed`, the message leaves later ones their
    room.
    """

    __slots__ = ("_parcels", "_put")

    def __init__(self, was_missed: bool) -> None:
        self._put = Member.put_missed_here if was_missed else Member.put_here
        self._parcels: dict[AbstractEventLoop, Parcel] = {}

    def add(self, member: Member, item: Any) -> None:
        parcel = self._parcels.get(member.loop)
        if parcel is None:
            parcel = self._parcels[member.loop] = []
        parcel.append((member, item))

    def post(self, unreachable: Callable[[Member], object]) -> None:
        """Hand the parcels over. `unreachable` is called with each member whose loop is closed."""
        for loop, parcel in self._parcels.items():
            try:
                loop.call_soon_threadsafe(_unpack, parcel, self._put)
            except RuntimeError:  # the loop is closed
                for member, _ in parcel:
                    unreachable(member)


def _unpack(parcel: Parcel, put: Callable[[Member, Any], bool]) -> None:
    for member, item in parcel:
        put(member, item)
