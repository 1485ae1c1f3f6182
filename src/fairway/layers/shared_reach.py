"""Presence over all processes that share a backplane.

What happens in this process takes effect here at once. A `Registrar` then tells the store and the other processes, in
the event loop of the layer's session.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from fairway.layers.attendance import Attendance, Standing
from fairway.layers.audiences import shown
from fairway.layers.backplane import PRESENCE, Present
from fairway.layers.blocking import Sender
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.home import Home
from fairway.layers.presence import Reading
from fairway.layers.presence_codec import PresenceCodec, read_departed, read_difference, subject_of_presence
from fairway.layers.registrar import Registrar
from fairway.layers.session import Session


class SharedReach:
    """The reach of a layer over a backplane (`fairway.layers.attendance.Reach`), and what others say (`Receiver`).

    `lease` is in seconds.
    """

    is_local = False

    def __init__(self, attendance: Attendance, home: Home, codec: PresenceCodec, lease: float = 5.0) -> None:
        if not 0.01 <= lease <= 3600:
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS, CONFIG: lease is {lease!r}: use 0.01 to 3600 seconds")
        self._attendance = attendance
        self._home = home
        self._codec = codec
        self._lease = lease
        self.freeze = codec.freeze
        self.thaw = codec.thaw
        self.start_anew()

    def start_anew(self) -> None:
        self._registrar: Registrar | None = None
        self._superseded: list[Registrar] = []  # whose sessions have stopped, but have not closed yet

    # Telling others -------------------------------------------------------------------------------------------

    async def get_ready(self) -> None:
        await self._home.call(self._get_ready, receives=True)

    async def store(self, group: str) -> None:
        await self._home.call(lambda session: self._registrar_of(session).store(group), receives=True)

    def tell(self, groups: Sequence[str]) -> None:
        self._in_loop(lambda registrar: registrar.tell(groups))

    def watch(self, group: str) -> None:
        self._in_loop(lambda registrar: registrar.read(group))

    def unwatch(self, group: str) -> None:
        self._in_loop(lambda registrar: registrar.stop_reading(group))

    def loop(self) -> asyncio.AbstractEventLoop | None:
        registrar = self._registrar
        return None if registrar is None else registrar.session.loop

    def standing(self) -> Standing:
        registrar = self._registrar
        return Standing("", 0.0) if registrar is None else registrar.standing()

    async def _get_ready(self, session: Session) -> None:
        registrar = self._registrar
        if registrar is None or registrar.session is not session:
            if PRESENCE not in session.backplane.abilities:
                await session.backplane.presence.count("")  # raises, and says why
            self._registrar_of(session)

    def _registrar_of(self, session: Session) -> Registrar:
        session.check()
        with self._attendance.lock:
            registrar = self._registrar
            if registrar is None or registrar.session is not session:
                if registrar is not None:
                    self._superseded.append(registrar)
                own, lock = self._attendance.own, self._attendance.lock
                registrar = self._registrar = Registrar(
                    session, own, lock, self, self._codec, self._lease, self._attendance.must_tell
                )
                for group in self._attendance.audiences.groups:
                    registrar.read(group)
            return registrar

    def _in_loop(self, function: Callable[[Registrar], None]) -> None:
        registrar = self._registrar
        if registrar is not None:
            with contextlib.suppress(RuntimeError):  # its loop was closed: the next session tells everything
                registrar.session.loop.call_soon_threadsafe(function, registrar)

    # Reading --------------------------------------------------------------------------------------------------

    async def members(self, group: str) -> dict[str, list[Any]]:
        subject = subject_of_presence(group)
        return self._shown(subject, await self._home.call(lambda session: session.backplane.presence.present(subject)))

    async def count(self, group: str) -> int:
        subject = subject_of_presence(group)
        return await self._home.call(lambda session: session.backplane.presence.count(subject))

    def members_by(self, sender: Sender, group: str, deadline: float) -> dict[str, list[Any]]:
        """The same as `members`, without an event loop."""
        subject = subject_of_presence(group)
        return self._shown(subject, sender.present(subject, deadline))

    def count_by(self, sender: Sender, group: str, deadline: float) -> int:
        """The same as `count`, without an event loop."""
        return sender.count(subject_of_presence(group), deadline)

    def _shown(self, subject: str, present: Iterable[Present]) -> dict[str, list[Any]]:
        return shown(self._codec.people(subject, present), self._codec.thaw)

    # What the session and others say (`fairway.layers.receiver.PresenceKeeper`) -------------------------------

    def up(self, session: Session) -> None:
        registrar = self._registrar
        if registrar is not None and registrar.session is session:
            registrar.up()

    async def closing(self, session: Session) -> None:
        with self._attendance.lock:
            ended = [one for one in (*self._superseded, self._registrar) if one is not None and one.session is session]
            self._superseded = [one for one in self._superseded if one not in ended]
            if self._registrar in ended:
                self._registrar = None
        for registrar in ended:
            await registrar.close()

    def heard(self, session: Session, subject: str, body: Any) -> None:
        process, term, difference = read_difference(body)
        if process == session.backplane.presence.process:
            return
        group = subject[2:]
        with self._attendance.lock:
            has_gap = self._attendance.audiences.heard(group, process, term, difference)
            if has_gap and self._registrar is not None:
                self._registrar.read_again(group)
        self._attendance.arm()

    def flush(self) -> None:
        self._attendance.flush()
        if self._registrar is not None:
            self._registrar.up()

    def departed(self, body: Any) -> None:
        process, term = read_departed(body)
        with self._attendance.lock:
            self._attendance.audiences.departed(process, term)
        self._attendance.arm()

    # What has been read (`fairway.layers.registrar.Views`) ----------------------------------------------------

    def heard_groups(self) -> Collection[str]:
        with self._attendance.lock:
            return self._attendance.audiences.groups

    def begin_reading(self, group: str) -> None:
        with self._attendance.lock:
            self._attendance.audiences.begin_reading(group)

    def have_read(self, group: str, readings: Sequence[Reading], is_complete: bool) -> bool:
        with self._attendance.lock:
            again = self._attendance.audiences.have_read(group, readings, is_complete)
        self._attendance.arm()
        return again
