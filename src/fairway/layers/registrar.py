"""Keeps the store, and the other processes, in step with the entries of this process. One for each session.

A `Registrar` lives in the event loop of its session. It renews the lease of this process, and sees to processes whose
lease has ended. It stores entries at once, and publishes the differences of each group at most ten times a second. If
the store may have lost something, because the connection was lost or the lease has ended, it enters everything again,
spread over some time. For views, it reads the store.

A process that could not renew its lease for as long as the lease lasts does not judge others by their leases for as
long again: they may have been cut off in the same way, and be on their way back.

Nobody waits for an outage to end. The truth is in the process, and the store is told afterwards.

*Rounds.* What is stored and told goes in rounds, one after the other: whatever has become due while one round was under
way is the next one, for all groups together. So a thousand people who come at once cost a few commands. When the store
gets a note of a number, it has all changes up to that number. A difference is published after its changes were stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

from fairway.layers.attendance import Standing
from fairway.layers.backplane import BackplaneError, Change, Departed, Unavailable
from fairway.layers.parts import parts
from fairway.layers.presence import Batch, OwnEntries, Reading
from fairway.layers.presence_codec import PresenceCodec, subject_of_presence
from fairway.layers.receiver import CONTROL
from fairway.layers.rounds import Rounds
from fairway.layers.session import Session
from fairway.logs import FaultLog, get_logger

logger = get_logger("fairway.layers")

SPREAD, PER_SECOND = 2.0, 1000.0
"""Entering or reading many groups again takes a second for so many, but at most `SPREAD` seconds for all."""

AT_ONCE = 100
"""How many groups are stored, told of or read at the same time."""

READ_AGAIN = 1.0
"""Seconds between two readings of one group."""

RENEWALS = 5
"""How often a lease is renewed while it lasts."""

LEAST_STANDING = 1.5
"""Seconds for which a renewed lease counts, however short `linger` is: it is renewed more often than that."""

FAREWELL = 0.3
"""Seconds that the service has to answer when a session ends."""


class Views(Protocol):
    """What the channels of this process see."""

    def heard_groups(self) -> Collection[str]:
        """The groups that have a view."""

    def begin_reading(self, group: str) -> None:
        """The store is about to be read."""

    def have_read(self, group: str, readings: Sequence[Reading], is_complete: bool) -> bool:
        """The store has been read. Returns whether it has to be read again."""


class Registrar:
    """Call everything in the session's event loop. `own` is used under the lock. `lease` and `linger` are in seconds.

    `tell_later` is called for a group that others do not know: it makes `tell` be called for it.
    """

    def __init__(
        self,
        session: Session,
        own: OwnEntries,
        lock: threading.RLock,
        views: Views,
        codec: PresenceCodec,
        lease: float,
        tell_later: Callable[[str], None],
    ) -> None:
        self.session = session
        self._own = own
        self._lock = lock
        self._views = views
        self._codec = codec
        self._tell_later = tell_later
        self._lease = _Lease(lease)
        self._room = asyncio.Semaphore(AT_ONCE)  # for readings
        self._rounds = Rounds(self._do, self._go_round)
        self._unsure: dict[str, None] = {}  # groups of which the store or others may not know everything
        self._was_away = False
        self._readings: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults = FaultLog(logger, per_second=1)
        self._do(self._keep())

    async def close(self) -> None:
        """The session ends. Its lease ends soon, but not at once: those who have left may come back elsewhere."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        if self._lease.term:
            with contextlib.suppress(BackplaneError, TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await self.session.backplane.presence.renew(max(self._own.linger, 0.001), judges=False)

    # The lease ------------------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """The lease, as it was when it was last renewed. It counts from the moment at which that was asked for.

        A service that loses the connection to this process may let the lease end earlier, `linger` seconds afterwards.
        """
        lease = self._lease
        if not lease.term:
            return Standing("", 0.0)
        seconds = min(lease.seconds, max(self._own.linger, LEAST_STANDING))
        return Standing(f"{self.session.backplane.presence.process} {lease.term}", lease.renewed_at + seconds)

    async def _keep(self) -> None:
        while True:
            try:
                await self._renew()
            except Unavailable:
                pass  # the log has said so
            except BackplaneError as error:
                self._complain(error)
            self._lease.was_tried.set()
            await self.session.backplane.time.sleep(self._lease.seconds / RENEWALS * random.uniform(0.8, 1.2))

    async def _renew(self) -> None:
        lease, now = self._lease, self.session.backplane.time.monotonic()
        judges = lease.judges(now)
        renewal = await self.session.backplane.presence.renew(lease.seconds, judges)
        goes_on = lease.renewed(renewal.term, now)
        if not goes_on:
            with self._lock:
                self._own.begin_term()
            self._do_again(is_untold=lambda group: True)
        elif self._was_away:
            with self._lock:
                self._own.store_again()
            self._do_again(is_untold=set(self._unsure).__contains__)
        self._was_away = False
        # If its own lease had ended, those of others may have ended for the same reason. They are named again.
        for departed in renewal.departed if goes_on else ():
            self._do(self._see_to(departed))

    async def _see_to(self, departed: Departed) -> None:
        """A process has died: tell everybody, and then remove what it has left."""
        message = self._codec.departed(CONTROL, departed.process, departed.term)
        with contextlib.suppress(BackplaneError):  # it will be named again, to this process or another
            await self.session.backplane.publish(CONTROL, message)
            await self.session.backplane.presence.sweep(departed)

    def up(self) -> None:
        """The connection is there again, or the store was emptied. What was stored, told or heard may have been lost.

        So may the lease: whoever is to be stored now waits until it was renewed.
        """
        if self._lease.term:
            self._was_away = True
            self._lease.was_tried = asyncio.Event()
            self._do(self._come_back())
            groups = self._views.heard_groups()
            for group in list(groups):
                self.read(group, random.uniform(0.0, _spread(len(groups))))

    async def _come_back(self) -> None:
        with contextlib.suppress(BackplaneError):  # `_keep` goes on trying
            await self._renew()
        self._lease.was_tried.set()

    def _do_again(self, is_untold: Callable[[str], bool]) -> None:
        """Store everything again, and tell others what they do not know."""
        with self._lock:
            groups = list(dict.fromkeys([*self._own.groups, *self._unsure]))
        self._unsure.clear()
        if groups:
            self._do(self._store_again(groups, is_untold))

    async def _store_again(self, groups: Sequence[str], is_untold: Callable[[str], bool]) -> None:
        pause = _spread(len(groups)) * AT_ONCE / len(groups)
        for part in parts(groups, AT_ONCE):
            await self.store(*part)
            for group in filter(is_untold, part):
                self._tell_later(group)
            if len(groups) > AT_ONCE:
                await self.session.backplane.time.sleep(pause * random.uniform(0.5, 1.5))

    # Own entries ----------------------------------------------------------------------------------------------

    async def store(self, *groups: str) -> None:
        """Store what has changed in these groups. In an outage, this returns soon, and it is stored afterwards."""
        await asyncio.wait([self._rounds.take(groups)])

    def tell(self, groups: Iterable[str]) -> None:
        """Store what has changed in these groups, and tell others, soon."""
        self._rounds.take(groups, is_told=True)

    async def _go_round(self, due: Mapping[str, bool]) -> None:
        await self._lease.was_tried.wait()
        is_away = not self._lease.term
        for groups in parts(due, AT_ONCE):
            try:
                if is_away:
                    self._unsure.update(dict.fromkeys(groups))
                else:
                    await self._store_and_tell({group: due[group] for group in groups})
            except BackplaneError as error:
                self._are_unsure(groups, error)
                is_away = isinstance(error, Unavailable)

    async def _store_and_tell(self, due: Mapping[str, bool]) -> None:
        term, backplane = self._lease.term, self.session.backplane
        with self._lock:
            own = self._own
            batches = {group: own.take(group) if is_told else own.store(group) for group, is_told in due.items()}
        try:
            failed = await self._store(term, batches)
        except BaseException:
            self._were_not_stored(batches)
            raise
        self._were_not_stored({group: batches[group] for group in failed})
        for group, error in failed.items():
            self._are_unsure([group], error)
        process = backplane.presence.process
        differences = [
            (subject, self._codec.difference(subject, process, term, difference))
            for group, batch in batches.items()
            if group not in failed and (subject := subject_of_presence(group))
            for difference in batch.differences
        ]
        if differences:
            await backplane.publish_all(differences)

    async def _store(self, term: int, batches: Mapping[str, Batch]) -> dict[str, BackplaneError]:
        """Returns the groups where that has failed, and why."""
        by_subject = {subject_of_presence(group): group for group in batches}
        changes = [_change(self._codec, subject, batches[group]) for subject, group in by_subject.items()]
        changes = [change for change in changes if change.left or change.entries]
        failed = await self.session.backplane.presence.update(changes, term) if changes else {}
        return {by_subject[subject]: error for subject, error in failed.items()}

    def _were_not_stored(self, batches: Mapping[str, Batch]) -> None:
        with self._lock:
            for group, batch in batches.items():
                self._own.was_not_stored(group, batch)

    def _are_unsure(self, groups: Iterable[str], error: BackplaneError) -> None:
        """The store may not know these. As after an outage, it is told with the next renewal that works."""
        self._unsure.update(dict.fromkeys(groups))
        if isinstance(error, Unavailable):
            self._was_away = True
        else:
            self._complain(error)

    # Views ----------------------------------------------------------------------------------------------------

    def read(self, group: str, delay: float = 0.0) -> None:
        """Read who is present in a group, for its view, after some seconds. There is one reading at a time."""
        if group not in self._readings:
            self._readings[group] = self._do(self._read(group, delay))

    def read_again(self, group: str) -> None:
        """Something is missing in a view."""
        self.read(group, READ_AGAIN)

    def stop_reading(self, group: str) -> None:
        """Nobody needs the view any more."""
        task = self._readings.pop(group, None)
        if task is not None:
            task.cancel()
        self.session.unwant(subject_of_presence(group))

    async def _read(self, group: str, delay: float) -> None:
        try:
            pause: float | None = delay
            while pause is not None:
                await self.session.backplane.time.sleep(pause)
                pause = await self._read_once(group)
        finally:
            if self._readings.get(group) is asyncio.current_task():
                del self._readings[group]

    async def _read_once(self, group: str) -> float | None:
        """Returns the seconds after which the store has to be read again, if it has to."""
        subject, presence = subject_of_presence(group), self.session.backplane.presence
        try:
            async with self._room:
                await self.session.stand(subject)
                self._views.begin_reading(group)
                present = await presence.present(subject)
        except Unavailable:
            return None  # `up` reads again
        except BackplaneError as error:
            self._complain(error)
            return None
        readings = [self._codec.reading(subject, one) for one in present if one.process != presence.process]
        patience = self._lease.judges_from - self.session.backplane.time.monotonic()
        if self._views.have_read(group, readings, is_complete=patience <= 0):
            return max(READ_AGAIN, patience)
        return None

    # Tasks ----------------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.session.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Presence has failed", exc_info=error)

    def _complain(self, error: BackplaneError) -> None:
        self._faults.report(time.monotonic(), "presence", "Who is present could not be told: %s", error)


class _Lease:
    """The lease of this process. `judges_from`: when it may judge others by theirs."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.term = 0
        self.judges_from = 0.0
        self.was_tried = asyncio.Event()
        self.renewed_at = 0.0

    def judges(self, now: float) -> bool:
        """Whether this process may judge others now, when it renews the lease."""
        if now - self.renewed_at > self.seconds:
            self.judges_from = now + self.seconds
        return now >= self.judges_from

    def renewed(self, term: int, now: float) -> bool:
        """The lease was renewed, as it was asked at this time. Returns whether the same term goes on."""
        self.renewed_at = now
        goes_on = term == self.term
        if not goes_on:
            self.term = term
            self.judges_from = now + self.seconds
        return goes_on


def _change(codec: PresenceCodec, subject: str, batch: Batch) -> Change:
    entries: Mapping[str, bytes] = {}
    if batch.number is not None and (batch.left or batch.entries):
        entries = codec.stored(subject, batch.entries, batch.number)
    return Change(subject, batch.left, entries)


def _spread(count: int) -> float:
    return min(SPREAD, count / PER_SECOND)
