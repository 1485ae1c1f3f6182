"""Presence over the local broker, which has the leases of all processes (`../leases.py`)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from fairway.layers.backplane import Departed, Presence, Present, Refused, Renewal
from fairway.layers.local import presence_frames, protocol
from fairway.layers.local.link import Frame
from fairway.layers.local.protocol import Ask


class LocalPresence(Presence):
    """`call` sends a frame to the broker and returns the answer.

    If the connection ends, the broker lets the lease end after `linger` seconds: the process has most likely died.
    """

    def __init__(self, call: Callable[[bytes], Awaitable[Frame]], linger: float) -> None:
        self.process = os.urandom(6).hex()
        self._call = call
        self._linger = linger
        self._term = 0

    async def enter(self, subject: str, entries: Mapping[str, bytes], term: int) -> None:
        try:
            frame = presence_frames.enter(subject, term, entries)
        except ValueError as error:
            raise Refused(str(error)) from None
        await self._call(frame)

    async def leave(self, subject: str, keys: Collection[str], term: int) -> None:
        await self._call(presence_frames.depart(subject, term, keys))

    async def present(self, subject: str) -> Sequence[Present]:
        _, _, body = await self._call(protocol.frame(Ask.PRESENT, subject))
        return presence_frames.read_listed(body)

    async def count(self, subject: str) -> int:
        _, _, body = await self._call(protocol.frame(Ask.COUNT, subject))
        return protocol.number(body)

    async def renew(self, ttl: float, judges: bool = True) -> Renewal:
        stood, departed = False, list[Departed]()
        if self._term:
            stood, departed = await self._renew(ttl, judges, begins=False)
        if not stood:
            self._term += 1
            _, departed = await self._renew(ttl, judges, begins=True)
        return Renewal(self._term, departed)

    async def sweep(self, departed: Departed) -> None:
        await self._call(presence_frames.sweep(departed.process, departed.term))

    async def _renew(self, ttl: float, judges: bool, begins: bool) -> tuple[bool, list[Departed]]:
        frame = presence_frames.renew(self.process, self._term, ttl, self._linger, self.swept_within, begins, judges)
        _, _, body = await self._call(frame)
        return presence_frames.read_renewed(body)
