"""Histories of groups at work in one process: its tracks, the reads that keep them level, and members that come back.

The pure part is `tracks.py`. This shell hands arriving messages to it, delivers through the `Receiver`, and reads from
the backplane. Each subject has at most one read in progress, and one filling of its ring; whoever needs the result
waits for the same task. Everything runs in the session's event loop.

If a read fails because the service is away, the track stays behind, and the next `up` begins again. If the service
refuses it, members are told of a gap, and go on with what arrives.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from fairway.delivery import Message, Payload
from fairway.layers.backplane import BackplaneError, Keep, Kept, Page, Position
from fairway.layers.codec import Kind
from fairway.layers.hub import Hub
from fairway.layers.interests import subject_of
from fairway.layers.parts import parts
from fairway.layers.recovery import History, Recovery
from fairway.layers.session import Session
from fairway.layers.tracks import Missed, Since, Sought, Step, Tracks, chosen

PER_READ = 1000
TOPS_AT_ONCE = 1000
READS_AT_ONCE = 100
"""Messages in one read, subjects whose positions are compared in one call, and reads in progress after an outage."""

IDLE = 30.0
"""Seconds between two looks whether something was missed without an outage. They are spread by a fifth."""

ASK_AGAIN = 300.0
"""Seconds after which all positions are compared, although nothing has changed: a service may forget histories without
messages that nobody asks for (`fairway.layers.redis.functions.BARE_LIFE`).
"""

Decoded: TypeAlias = tuple[Kind, Any]

_NOTHING_ASKED = Missed((), False)
_NOTHING_MISSED = Missed((), True)


class Deliverer(Protocol):
    """What reads and delivers messages: the receiver."""

    def decoded(self, subject: str, data: bytes) -> Decoded | None:
        """The kind and body of a message, which belong to the caller. None if it cannot be read; that is counted and
        logged.
        """

    def deliver_kept(
        self, subject: str, kind: Kind, body: Any, position: Position, was_missed: bool
    ) -> Awaitable[None] | None:
        """Deliver to the group's members. Await the result, if there is one, before the next message.

        `was_missed`: many may come at once. They do not use up the members' capacity for what comes afterwards.
        """

    def item(self, subject: str, kind: Kind, body: Any, position: Position) -> Message | Payload:
        """The message as one member gets it. The body is used up."""


class _Asking:
    """The subjects whose newest position is being asked for, or is about to be."""

    def __init__(self) -> None:
        self._futures: dict[str, asyncio.Future[None]] = {}

    def of(self, subject: str) -> asyncio.Future[None] | None:
        """Is done when this subject's position has been asked for. None if it is not one of them."""
        return self._futures.get(subject)

    def begin(self, session: Session, subjects: Sequence[str]) -> asyncio.Future[None]:
        asking: asyncio.Future[None] = session.loop.create_future()
        self._futures.update(dict.fromkeys(subjects, asking))
        return asking

    def end(self, subjects: Sequence[str], asking: asyncio.Future[None]) -> None:
        """Whether they were asked for or not. Does nothing if it has ended."""
        if not asking.done():
            asking.set_result(None)
            for name in subjects:
                if self._futures.get(name) is asking:
                    del self._futures[name]


class Streaming:
    """The histories of one layer's groups. `keep_of` returns what a group's history holds."""

    def __init__(self, hub: Hub, deliverer: Deliverer, keep_of: Callable[[str], Keep | None]) -> None:
        self.tracks = Tracks()
        self._hub = hub
        self._deliverer = deliverer
        self._keep_of = keep_of
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._filling: dict[str, asyncio.Task[None]] = {}
        self._comparing: set[asyncio.Task[None]] = set()
        self._asking = _Asking()
        self._changes = ""
        self._compared_at = 0.0
        self._joining: Counter[str] = Counter()  # groups that channels are about to join

    def start(self, session: Session) -> None:
        """A new session has begun. What an earlier one was doing does not count any more."""
        self._reading, self._filling, self._comparing, self._asking = {}, {}, set(), _Asking()
        self._joining = Counter()
        self._changes = ""
        self._look_later(session)

    # Messages -------------------------------------------------------------------------------------------------

    def arrived(self, session: Session, subject: str, kept: Kept[bytes]) -> Awaitable[None] | None:
        """A kept message has arrived. Await the result, if there is one, before the next."""
        step = self.tracks.arrived(subject, kept.position, kept.previous)
        if step is Step.DELIVER:
            return self._deliver(subject, kept)
        if step is Step.READ:
            self._read(session, subject)
        return None

    def _deliver(self, subject: str, kept: Kept[bytes], was_missed: bool = False) -> Awaitable[None] | None:
        found = self._deliverer.decoded(subject, kept.data)
        if found is None:
            self.tracks.skipped(subject, kept.position)
            return None
        keep = self._keep_of(subject[2:])
        self.tracks.delivered(subject, kept, keep.size if keep is not None else 0)
        return self._deliverer.deliver_kept(subject, *found, kept.position, was_missed)

    def subscribed(self, session: Session, subjects: Sequence[str]) -> None:
        """These subjects are subscribed to now."""
        names = [subject for subject in subjects if subject.startswith("g.") and self._keep_of(subject[2:]) is not None]
        for subject in names:
            self.tracks.open(subject)
        if names:
            self._start_comparing(session, names)

    def unsubscribed(self, subjects: Sequence[str]) -> None:
        for subject in subjects:
            self.tracks.close(subject)

    def up(self, session: Session) -> None:
        """The service is back: find out what was missed."""
        subjects = self.tracks.subjects
        unknown = [subject for subject in subjects if self.tracks.position(subject) is None]
        for subject in unknown:
            self._hub.gaps.tell_of(subject[2:], "outage")
        if subjects:
            self._start_comparing(session, subjects)

    def has_history(self, group: str) -> bool:
        """Whether gaps in this group are noticed message by message."""
        return subject_of(group) in self.tracks

    # Staying level --------------------------------------------------------------------------------------------

    def _start_comparing(self, session: Session, subjects: Sequence[str]) -> asyncio.Task[None]:
        task = session.loop.create_task(self._compare(session, subjects))
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)
        task.add_done_callback(_seen)
        return task

    async def _compare(self, session: Session, subjects: Sequence[str]) -> None:
        # All are announced before the first is asked for, so that nobody asks for one that waits for its turn.
        announced = [(names, self._asking.begin(session, names)) for names in parts(subjects, TOPS_AT_ONCE)]
        try:
            for names, asking in announced:
                behind = await self._ask(session, names, asking)
                for some in parts(behind, READS_AT_ONCE):
                    await asyncio.wait([self._read(session, name) for name in some])
        finally:
            for names, asking in announced:
                self._asking.end(names, asking)

    async def _ask(self, session: Session, subjects: Sequence[str], asking: asyncio.Future[None]) -> list[str]:
        """Ask for the newest positions, and let the tracks know. Returns the subjects that are behind."""
        try:
            tops = await session.backplane.streams.tops(subjects)
            session.check()
            return [name for name, top in zip(subjects, tops, strict=True) if self.tracks.compare(name, top)]
        finally:
            self._asking.end(subjects, asking)

    def _read(self, session: Session, subject: str) -> asyncio.Task[None]:
        """Read until the subject's track is level. There is one such task for each subject."""
        return _shared(session, self._reading, subject, lambda: self._catch_up(session, subject))

    async def _catch_up(self, session: Session, subject: str) -> None:
        tracks = self.tracks
        while subject in tracks and not tracks.is_level(subject):
            position = tracks.position(subject)
            if position is None:
                asking = self._asking.of(subject)
                if asking is not None:
                    await asyncio.wait([asking])
                else:
                    await self._ask(session, [subject], self._asking.begin(session, [subject]))
                continue
            try:
                page = await session.backplane.streams.read(subject, position, PER_READ)
            except ConnectionError:
                raise
            except BackplaneError:
                tracks.give_up(subject)
                self._hub.gaps.tell_of(subject[2:], "unreadable", str(position))
                raise
            session.check()
            if tracks.position(subject) != position:
                continue
            progress = tracks.page(subject, page)
            if (gap := progress.gap) is not None:
                self._hub.gaps.tell_of(subject[2:], gap.reason, str(gap.begin), str(gap.end))
            for kept in progress.messages:
                waiting = self._deliver(subject, kept, was_missed=True)
                if waiting is not None:
                    await waiting
                    session.check()

    async def _level(self, session: Session, subject: str) -> Position:
        """Wait until the subject's track is level. Returns its position."""
        while not self.tracks.is_level(subject):
            self.tracks.open(subject)
            await asyncio.shield(self._read(session, subject))
        position = self.tracks.position(subject)
        assert position is not None, "it is level"
        return position

    def _look_later(self, session: Session) -> None:
        session.loop.call_later(IDLE * random.uniform(0.8, 1.2), self._look, session)

    def _look(self, session: Session) -> None:
        """Find out whether something was missed although the connection stood. It ends with the session."""
        if session.is_closed:
            return
        if self.tracks and session.backplane.is_up and not self._comparing:
            task = session.loop.create_task(self._look_for_changes(session))
            self._comparing.add(task)
            task.add_done_callback(self._comparing.discard)
            task.add_done_callback(_seen)
        self._look_later(session)

    async def _look_for_changes(self, session: Session) -> None:
        changes, now = await session.backplane.streams.changes(), session.loop.time()
        session.check()
        if changes != self._changes or now - self._compared_at > ASK_AGAIN:
            await self._compare(session, self.tracks.subjects)
            self._changes, self._compared_at = changes, now

    # Joining and reading --------------------------------------------------------------------------------------

    async def join(
        self, session: Session, group: str, channel: str, since: Sought, not_before: float, asks: bool
    ) -> Recovery:
        """Add a channel of this process to a group, and deliver what it has missed, if it `asks` for that.

        What is sent after this has returned reaches it, and nothing comes twice. If it raises, the channel is not in
        the group, unless it was in it before.
        """
        subject = subject_of(group)
        joining = self._joining
        joining[group] += 1
        try:
            missed, position = await self._missed_by(session, subject, since, asks)
        except BaseException:
            if joining[group] == 1 and not self._hub.groups.get(group):
                session.unwant(subject)
            raise
        finally:
            joining[group] -= 1
            if not joining[group]:
                del joining[group]
        # From here to the end, there is no other pass of the event loop: what comes later comes live.
        messages = [kept for kept in missed.messages if kept.at >= not_before]
        items = _items(self._deliverer, subject, messages)
        self._hub.group_add(group, channel, items)
        return Recovery(asks and missed.is_complete, len(items), str(position))

    async def _missed_by(self, session: Session, subject: str, since: Sought, asks: bool) -> tuple[Missed, Position]:
        while True:
            await session.stand(subject)
            await self._level(session, subject)
            missed: Missed | None = _NOTHING_ASKED
            if asks:
                missed = await self._missed(session, subject, since)
            position = self.tracks.position(subject)
            if missed is not None and position is not None and session.is_standing(subject):
                return missed, position

    async def _missed(self, session: Session, subject: str, sought: Sought) -> Missed | None:
        """What was missed, up to the track's position when this returns. None if the track has moved: try again."""
        tracks = self.tracks
        if tracks.may_be_behind(subject, sought):
            # The client has seen a message that is still on its way to this process, or one that is lost.
            await self._compare(session, [subject])
            await self._level(session, subject)
        since = tracks.asked(subject, sought)
        missed = tracks.missed(subject, since)
        if missed is None and not tracks.is_filled(subject):
            await asyncio.shield(_shared(session, self._filling, subject, lambda: self._fill(session, subject)))
            missed = tracks.missed(subject, since) if tracks.is_level(subject) else None
            if missed is None and not tracks.is_filled(subject):
                return None
        return missed or await self._missed_from_service(session, subject, since)

    async def _fill(self, session: Session, subject: str) -> None:
        messages, top, _ = await self._read_all(session, subject, None)
        readable = [kept for kept in messages if self._deliverer.decoded(subject, kept.data) is not None]
        self.tracks.fill(subject, readable, top)

    async def _missed_from_service(self, session: Session, subject: str, since: Since) -> Missed | None:
        messages, top, is_complete = await self._read_all(session, subject, since)
        tracks, own = self.tracks, self.tracks.position(subject)
        if own is None or tracks.has_ended(subject, top) or not tracks.is_level(subject):
            return None
        # What came live meanwhile was not delivered to this member. What comes after this does.
        live = tracks.missed(subject, top) if top.offset < own.offset else _NOTHING_MISSED
        if live is None:
            return None
        before = [kept for kept in messages if kept.position.offset <= own.offset]
        return Missed([*before, *live.messages], is_complete)

    async def _read_all(self, session: Session, subject: str, after: Since) -> tuple[list[Kept[bytes]], Position, bool]:
        """The history after a position, page by page; the newest position; and whether nothing is missing.

        If its epoch ends meanwhile, that is all there is in the next one.
        """
        messages: list[Kept[bytes]] = []
        is_complete = True
        while True:
            page = await session.backplane.streams.read(subject, after, PER_READ)
            session.check()
            is_complete = is_complete and page.is_complete
            if messages and messages[-1].position.epoch != page.top.epoch:
                messages = []
            messages += page.messages
            if not page.messages or page.messages[-1].position.offset >= page.top.offset:
                return messages, page.top, is_complete
            after = page.messages[-1].position

    async def history(self, session: Session, group: str, after: Sought, limit: int) -> History:
        """The messages after a position, at most `limit`."""
        subject = subject_of(group)
        if isinstance(after, tuple):
            (top,) = await session.backplane.streams.tops([subject])
            after = chosen(after, top.epoch)
        return history_of(self._deliverer, subject, await session.backplane.streams.read(subject, after, limit))


def history_of(deliverer: Deliverer, subject: str, page: Page[bytes]) -> History:
    """What a page says to an application."""
    items = _items(deliverer, subject, page.messages)
    events = [item.as_message() if isinstance(item, Payload) else item for item in items]
    last = page.messages[-1].position if page.messages else page.top
    return History(events, page.is_complete, str(last), str(page.top))


def _items(deliverer: Deliverer, subject: str, messages: Iterable[Kept[bytes]]) -> list[Message | Payload]:
    """The messages as one member gets them, without those that cannot be read."""
    decoded = ((kept, deliverer.decoded(subject, kept.data)) for kept in messages)
    return [deliverer.item(subject, *found, kept.position) for kept, found in decoded if found is not None]


def _shared(
    session: Session,
    tasks: dict[str, asyncio.Task[None]],
    subject: str,
    begin: Callable[[], Coroutine[Any, Any, None]],
) -> asyncio.Task[None]:
    """The task that works for a subject, begun if there is none."""
    session.check()
    task = tasks.get(subject)
    if task is None:
        task = tasks[subject] = session.loop.create_task(begin())

        def done(task: asyncio.Task[None]) -> None:
            if tasks.get(subject) is task:
                del tasks[subject]
            _seen(task)

        task.add_done_callback(done)
    return task


def _seen(task: asyncio.Task[None]) -> None:
    """Mark the error as retrieved: whoever waits has it, and the next attempt shows it again."""
    if not task.cancelled():
        task.exception()
