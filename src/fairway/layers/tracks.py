"""Where this process is in each history that it follows, and the recent messages of each. Pure.

A process has a *track* for each subject with a history that it is subscribed to. A track is in one of three states:

* *New*: its position is not known yet. `begin` sets it to the service's newest message at the time of subscribing, or
  the first message to arrive does.
* *Level*: every message up to its position was delivered. The next one is delivered if it follows that position. An
  earlier one is a double, and is dropped. Any other one shows that something is missing.
* *Behind*: messages are missing. What arrives is dropped, because it is kept by the service. The caller reads from the
  position on, and passes the pages to `page`, which returns what to deliver in order, until the track is level again.

So members get each message once and in order, however the messages arrive. If the service does not have all that is
missing, `page` reports a `Gap`, and the members continue with the rest.

After an outage, and after silence, the caller passes the service's newest position to `compare`. A lost message is then
noticed although no other message follows.

*Rings.* A track keeps its latest messages for members that come back (`missed`), so that a thousand clients that
reconnect together do not read from the service. A ring *reaches back* to an offset: it holds every message after it.
`fill` extends it to what the service holds. A ring has a bound, and so have all rings together; the rings that were not
used for the longest time are emptied first. An empty ring costs no messages, only a read when somebody comes back.

Messages are kept as they arrived. Decoded, a list of small numbers would take ten times as many bytes, which nobody
could tell without looking at each of them, and so the bounds would not be true.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fairway.layers.backplane import Kept, Page, Position
from fairway.layers.histories import is_complete_after

RING_BYTES = 256 * 1024
MOST_BYTES = 64 * 1024 * 1024
"""Bytes of memory that one ring takes, and all rings of a layer."""

OVERHEAD = 330
RING_OVERHEAD = 300
"""Bytes that a message in a ring takes in addition to its data, and a ring in addition to its messages: measured, see
`tests/fairway/layers/test_footprints.py`.
"""


class Step(enum.Enum):
    """What to do with a message that has arrived."""

    DELIVER = enum.auto()
    """It is the next one: pass it to `delivered`, and deliver it."""
    DROP = enum.auto()
    """It was delivered before."""
    READ = enum.auto()
    """Something is missing before it: drop it, and read from the position on."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that members have missed, and that the service does not have any more.

    `reason` is "trimmed" if they were too old or too many, and "epoch" if the history is another one, so that nobody
    knows what is missing.
    """

    reason: str
    begin: Position
    end: Position


@dataclass(frozen=True, slots=True)
class Progress:
    """What to do after a page was read: report the gap, if any, deliver the messages, and perhaps read again."""

    gap: Gap | None
    messages: Sequence[Kept[bytes]]
    is_level: bool


@dataclass(frozen=True, slots=True)
class Missed:
    """What a member has missed since a position. `is_complete`: these are all messages since then."""

    messages: Sequence[Kept[bytes]]
    is_complete: bool


Since: TypeAlias = Position | float | None
"""A position, a time of the service's clock, or None for everything that is kept."""

Sought: TypeAlias = Since | tuple[Position, ...]
"""What a client asks for. Of several positions, that one counts which is of the group's epoch."""

NOWHERE = Position("", 0)
"""A position of no epoch."""


def chosen(sought: Sought, epoch: str) -> Since:
    """What was asked for in a history of this epoch."""
    if isinstance(sought, tuple):
        return next((place for place in sought if place.epoch == epoch), NOWHERE)
    return sought


class _Track:
    __slots__ = ("end", "goal", "is_behind", "is_filled", "is_whole", "position", "reaches", "ring", "size")

    def __init__(self) -> None:
        self.position: Position | None = None
        self.is_behind = False
        self.goal: Position | None = None  # the newest message that has arrived while it was behind
        self.end: Position | None = None  # where a page ends after which nothing more is known to be missing
        self.ring: list[Kept[bytes]] = []  # for most groups a deque would take more than their messages
        self.size = 0
        self.reaches = 0  # the ring holds every message after this offset
        self.is_whole = False  # the service has nothing before the ring's first message
        self.is_filled = False  # the ring was filled, as far as its bound allows

    def advance(self, position: Position) -> None:
        """The message at this position was delivered."""
        self.position = position
        if self.is_behind and self.end == position:
            self.end = None
            self.is_behind = self.is_short_of_goal(position)

    def is_short_of_goal(self, position: Position) -> bool:
        goal = self.goal
        return goal is not None and goal.epoch == position.epoch and goal.offset > position.offset

    def empty(self) -> None:
        self.ring.clear()
        self.size = 0
        self.reaches = self.position.offset if self.position is not None else 0
        self.is_whole = self.is_filled = self.position is not None and not self.reaches


class Tracks:
    """The tracks of one process, and their rings."""

    def __init__(self, ring_bytes: int = RING_BYTES, max_bytes: int = MOST_BYTES) -> None:
        self.size = 0
        self._ring_bytes = ring_bytes
        self._max_bytes = max_bytes
        self._tracks: dict[str, _Track] = {}
        self._used: OrderedDict[str, None] = OrderedDict()  # subjects with a ring, the least recently used first

    def __len__(self) -> int:
        return len(self._tracks)

    def __contains__(self, subject: str) -> bool:
        return subject in self._tracks

    @property
    def subjects(self) -> list[str]:
        return list(self._tracks)

    def open(self, subject: str) -> bool:
        """Follow a subject. Returns False if it was followed before: then `compare` must find out what was missed."""
        if subject in self._tracks:
            return False
        self._tracks[subject] = _Track()
        return True

    def close(self, subject: str) -> None:
        """Stop following a subject. Does nothing if it is not followed."""
        track = self._tracks.pop(subject, None)
        if track is not None:
            self.size -= track.size
            self._used.pop(subject, None)

    def position(self, subject: str) -> Position | None:
        """The position of the last message that was delivered. None while it is not known."""
        track = self._tracks.get(subject)
        return None if track is None else track.position

    def is_level(self, subject: str) -> bool:
        """Whether the position is known and nothing is missing, as far as this process knows."""
        track = self._tracks.get(subject)
        return track is not None and track.position is not None and not track.is_behind

    # Keeping level --------------------------------------------------------------------------------------------

    def begin(self, subject: str, top: Position) -> None:
        """The service's newest position, asked for after subscribing. Counts only for a track that is new."""
        track = self._tracks.get(subject)
        if track is not None and track.position is None:
            track.position = top
            track.empty()

    def arrived(self, subject: str, position: Position, previous: int) -> Step:
        """Judge a message that has arrived."""
        track = self._tracks.get(subject)
        if track is None:
            return Step.DELIVER
        own = track.position
        if own is None:
            track.position = Position(position.epoch, previous)
            track.empty()
            return Step.DELIVER
        if position.epoch == own.epoch:
            if position.offset <= own.offset:
                return Step.DROP
            if previous <= own.offset and not track.is_behind:
                return Step.DELIVER
        if not track.is_behind:
            track.is_behind = True
            track.goal = track.end = None
        if track.goal is None or track.goal.epoch != position.epoch or track.goal.offset < position.offset:
            track.goal = position
        return Step.READ

    def delivered(self, subject: str, kept: Kept[bytes], most: int) -> None:
        """The next message has been delivered. `most` messages are worth keeping."""
        track = self._tracks.get(subject)
        if track is not None:
            track.advance(kept.position)
            self._add(subject, track, kept, most)

    def skipped(self, subject: str, position: Position) -> None:
        """The next message cannot be delivered, now or later."""
        track = self._tracks.get(subject)
        if track is not None:
            track.advance(position)
            if not track.ring:
                track.reaches = position.offset

    def give_up(self, subject: str) -> None:
        """The service does not let this process read what is missing: the track is new again."""
        if subject in self._tracks:
            self.close(subject)
            self.open(subject)

    def compare(self, subject: str, top: Position) -> bool:
        """The service's newest position. Returns whether messages are missing, so that the caller must read."""
        track = self._tracks.get(subject)
        if track is None:
            return False
        own = track.position
        if own is None:
            self.begin(subject, top)
        elif top.epoch != own.epoch or top.offset > own.offset:
            track.is_behind = True
        return track.is_behind

    def page(self, subject: str, page: Page[bytes]) -> Progress:
        """A page that was read after the track's position. The caller then delivers its messages one by one.

        The track is level again with the last one of them, unless more is missing. Until then, what arrives is dropped.
        """
        track = self._tracks.get(subject)
        if track is None or track.position is None:
            return Progress(None, (), True)
        own, top, messages = track.position, page.top, list(page.messages)
        gap = None
        if top.epoch != own.epoch:
            # What was kept in the earlier epoch has been delivered, as far as anybody knows.
            messages = [kept for kept in messages if kept.position.offset > page.began]
            gap = Gap("epoch", own, _before(messages, top))
        elif top.offset < own.offset:
            messages = []
            gap = Gap("epoch", own, top)
        elif not page.is_complete:
            messages = [kept for kept in messages if kept.position.offset > own.offset]
            gap = Gap("trimmed", own, _before(messages, top))
        is_last = not page.messages or page.messages[-1].position.offset >= top.offset
        if gap is not None:
            self._forget_ring(subject, track)
        end = top if is_last else page.messages[-1].position
        if gap is not None:
            track.position = gap.end if messages else end
            track.empty()
        elif not messages:
            track.position = end
        # If a page brings nothing, the service has no more, whatever has arrived. The next message will show it.
        is_level = is_last and not (messages and track.is_short_of_goal(top))
        track.end = top if is_level else None
        track.is_behind = bool(messages) or not is_level
        return Progress(gap, messages, is_level)

    # Coming back ----------------------------------------------------------------------------------------------

    def asked(self, subject: str, sought: Sought) -> Since:
        """What was asked for in the epoch of this track. A position beyond its own is one of no epoch."""
        own = self.position(subject)
        since = chosen(sought, "" if own is None else own.epoch)
        is_beyond = isinstance(since, Position) and own is not None and _is_beyond(since, own)
        return NOWHERE if is_beyond else since

    def may_be_behind(self, subject: str, sought: Sought) -> bool:
        """Whether what a client asks for may be further on than the track, which `compare` must find out."""
        own = self.position(subject)
        if own is None or not isinstance(sought, Position | tuple):
            return False
        if isinstance(sought, tuple) and all(place.epoch != own.epoch for place in sought):
            return True
        since = chosen(sought, own.epoch)
        return isinstance(since, Position) and _is_beyond(since, own)

    def missed(self, subject: str, since: Since) -> Missed | None:
        """What a member that joins now has missed. None if the ring does not reach back so far: then `fill` it.

        The track must be level, and not before the position that is asked for.
        """
        track = self._tracks.get(subject)
        own = None if track is None else track.position
        if track is None or own is None:
            return None
        self._touch(subject, track)
        held = list(track.ring)
        if isinstance(since, Position) and since.epoch == own.epoch and track.reaches <= since.offset <= own.offset:
            return Missed([kept for kept in held if kept.position.offset > since.offset], True)
        if isinstance(since, float):
            later = [kept for kept in held if kept.at > since]
            if len(later) < len(held):
                return Missed(later, True)
            if track.is_whole:
                return Missed(later, is_complete_after(since, held, own.offset))
        if not track.is_whole:
            return None
        return Missed(held, since is None)

    def is_filled(self, subject: str) -> bool:
        """Whether the ring holds as much as it can of what the service keeps."""
        track = self._tracks.get(subject)
        return track is not None and track.is_filled

    def has_ended(self, subject: str, top: Position) -> bool:
        """Whether the service's newest position shows that the track's epoch has ended. Then the caller must read."""
        track = self._tracks.get(subject)
        if track is None or track.position is None or track.position.epoch == top.epoch:
            return False
        track.is_behind = True
        return True

    def fill(self, subject: str, messages: Iterable[Kept[bytes]], top: Position) -> None:
        """Put messages into the ring that are older than it. They are all that the service keeps, oldest first.

        `top` is the service's newest position. If the track's epoch has ended, this only notices that.
        """
        track = self._tracks.get(subject)
        if track is None or track.position is None or self.has_ended(subject, top):
            return
        self._touch(subject, track)
        older = [one for one in messages if one.position.offset <= track.reaches]
        track.is_whole = track.is_filled = True
        first, before = len(older), track.size
        while first:
            size = _size(older[first - 1])
            if track.size + size > self._ring_bytes:
                track.is_whole = False
                break
            first -= 1
            track.size += size
            track.reaches = older[first].previous
        track.ring[:0] = older[first:]
        self.size += track.size - before
        self._make_room(subject)

    def _add(self, subject: str, track: _Track, kept: Kept[bytes], most: int) -> None:
        self._touch(subject, track)
        ring, before = track.ring, track.size
        ring.append(kept)
        track.size += _size(kept)
        gone = 0
        while gone < len(ring) and (len(ring) - gone > most or track.size > self._ring_bytes):
            track.size -= _size(ring[gone])
            gone += 1
        if gone:
            track.reaches = ring[gone - 1].position.offset
            del ring[:gone]
            # With a bound in bytes, the service may still have them.
            track.is_whole = track.is_whole and len(ring) >= most
        self.size += track.size - before
        self._make_room(subject)

    def _touch(self, subject: str, track: _Track) -> None:
        if subject in self._used:
            self._used.move_to_end(subject)
        else:
            self._used[subject] = None
            track.size += RING_OVERHEAD
            self.size += RING_OVERHEAD

    def _make_room(self, spared: str) -> None:
        while self.size > self._max_bytes:
            subject = next(iter(self._used))
            if subject == spared:
                break
            self._forget_ring(subject, self._tracks[subject])

    def _forget_ring(self, subject: str, track: _Track) -> None:
        self._used.pop(subject, None)
        self.size -= track.size
        track.empty()


def _size(kept: Kept[bytes]) -> int:
    return len(kept.data) + OVERHEAD


def _is_beyond(since: Position, own: Position) -> bool:
    return since.epoch == own.epoch and since.offset > own.offset


def _before(messages: Sequence[Kept[bytes]], top: Position) -> Position:
    """The position before the first of these messages, which are the next to be delivered."""
    return Position(top.epoch, messages[0].previous) if messages else top
