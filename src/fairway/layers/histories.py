"""Histories in memory: the last messages of each subject, bounded in number, in seconds, and in bytes over all. Pure.

The in-memory layer and the engine keep their messages here. Other services do the same by their own means, and
are compared with this.

A history has an *epoch* and counts its messages from 1. Both are kept longer than the messages, so that a client that
comes back later can be told what it has missed, or that nobody knows any more. A history that is dropped altogether
ends its epoch: the next one for the same subject has another.

Times are in seconds. `now` is of any clock that never goes back, and decides what expires. `at` is the time of day.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain
from math import inf
from typing import Generic

from fairway.layers.backplane import D, Keep, Kept, Page, Position

OVERHEAD = 340
BARE = 420
"""Bytes that a message takes in addition to its data, and a history in addition to its messages: measured, see
`tests/fairway/layers/test_footprints.py`.
"""

MOST_BYTES = 64 * 1024 * 1024
SHARE = 4
"""All histories together hold at most `MOST_BYTES`, and one of them at most the `SHARE`th part of that."""

LIFE = 86400.0
"""Seconds for which an epoch is kept after the last message, or for twice the life of a message if that is longer."""

KEY_LIFE = 300.0
MOST_KEYS = 50_000
"""Seconds for which a key is remembered, and how many are: beyond that, the oldest is forgotten."""

PAGE_BYTES = 1024 * 1024
PAGES_AT_ONCE = 16
"""Bytes of a page, and how many pages one process asks a service for at a time. The others wait for their turn: a
service holds all answers that the process has not taken yet, and cuts off a process that lets too much wait.
"""

_SWEPT_AT_ONCE = 1000


class _History(Generic[D]):
    __slots__ = ("ends_at", "epoch", "messages", "size", "top")

    def __init__(self, epoch: str, ends_at: float) -> None:
        self.epoch = epoch
        self.top = 0
        self.size = BARE
        self.ends_at = ends_at
        # When each expires, and its bytes. For most histories a deque would take more than their messages.
        self.messages: list[tuple[float, int, Kept[D]]] = []

    def trim(self, size: float, max_bytes: float, now: float) -> None:
        messages, gone, count = self.messages, 0, len(self.messages)
        while gone < count and (count - gone > size or self.size > max_bytes or messages[gone][0] <= now):
            self.size -= messages[gone][1]
            gone += 1
        del messages[:gone]


class Histories(Generic[D]):
    """The histories of one prefix. `start` is a text of digits and letters that no earlier service has had."""

    def __init__(self, start: str, max_bytes: int = MOST_BYTES) -> None:
        self.changes = 0  # grows with each message
        self.size = 0  # bytes of all histories
        self._start = start
        self._max_bytes = max_bytes
        self._histories: OrderedDict[str, _History[D]] = OrderedDict()  # the least recently used first
        # Those without messages, which begin when somebody asks: perhaps a client that makes up names.
        self._bare: OrderedDict[str, None] = OrderedDict()
        self._count = 0
        self._keys: OrderedDict[tuple[str, str], tuple[float, Position]] = OrderedDict()
        self._sweep: Iterator[str] = iter(())

    def __len__(self) -> int:
        return len(self._histories)

    def append(
        self, subject: str, data: D, size: int, keep: Keep, now: float, at: float, key: str = ""
    ) -> tuple[Position, Kept[D] | None]:
        """Keep a message of this number of bytes. Returns its position, and the message as it is kept.

        If the key was given before, that is the position of the first message with it, and None.
        """
        self._expire_keys(now)
        known = self._keys.get((subject, key)) if key else None
        if known is not None:
            return known[1], None
        history = self._history(subject, now)
        before = history.size
        position = Position(history.epoch, history.top + 1)
        kept = Kept(data, position, at, history.top)
        history.top += 1
        history.ends_at = now + max(LIFE, 2 * keep.seconds)
        history.messages.append((now + keep.seconds, size + OVERHEAD, kept))
        history.size += size + OVERHEAD
        history.trim(keep.size, self._max_bytes // SHARE, now)
        self.size += history.size - before
        self.changes += 1
        if key:
            self._keys[subject, key] = now + KEY_LIFE, position
        self._bare.pop(subject, None)
        self._make_room(subject)
        return position, kept

    def read(self, subject: str, after: Position | float | None, limit: int, now: float) -> Page[D]:
        """A page of the history after a position, or a time of day; from the oldest message with None."""
        history = self._history(subject, now)
        self._trim(subject, history, now)
        messages = [kept for _, _, kept in history.messages]
        top = Position(history.epoch, history.top)
        if after is None:
            is_complete = True
        elif isinstance(after, Position):
            oldest = messages[0].previous if messages else history.top
            is_complete = after.epoch == history.epoch and oldest <= after.offset <= history.top
            if is_complete:
                messages = [kept for kept in messages if kept.position.offset > after.offset]
        else:
            is_complete = is_complete_after(after, messages, history.top)
            messages = [kept for kept in messages if kept.at > after]
        return Page(list(self._page(history, messages, limit)), top, is_complete)

    def top(self, subject: str, now: float) -> Position:
        """The position of the newest message. The offset is 0 if there has been none."""
        history = self._history(subject, now)
        return Position(history.epoch, history.top)

    def expire(self, now: float) -> None:
        """Drop what has expired. A call looks at a part of the histories; the next one goes on from there."""
        self._expire_keys(now)
        for _ in range(min(_SWEPT_AT_ONCE, len(self._histories))):
            subject = next(self._sweep, None)
            if subject is None:
                self._sweep = iter(list(self._histories))
                continue
            history = self._histories.get(subject)
            if history is not None:
                self._trim(subject, history, now)
                if history.ends_at <= now:
                    self._drop(subject)

    def clear(self) -> None:
        """Forget everything. The epochs end."""
        self._histories.clear()
        self._bare.clear()
        self._keys.clear()
        self.size = 0
        self.changes += 1

    # Handing over to another store --------------------------------------------------------------------------------

    def epochs(self) -> Iterator[tuple[str, Position, float]]:
        """Each subject with its newest position, and when its epoch ends. The least recently used come first."""
        for subject, history in self._histories.items():
            yield subject, Position(history.epoch, history.top), history.ends_at

    def messages(self) -> Iterator[tuple[str, float, Kept[D]]]:
        """All messages, in the order of each history: the subject, when it expires, the message."""
        for subject, history in self._histories.items():
            for expires_at, _, kept in history.messages:
                yield subject, expires_at, kept

    def remembered(self) -> Iterator[tuple[str, str, float, Position]]:
        """All keys that are remembered: the subject, the key, when it is forgotten, the position."""
        for (subject, key), (until, position) in self._keys.items():
            yield subject, key, until, position

    def restore_epoch(self, subject: str, top: Position, ends_at: float) -> None:
        """Continue another store's history: its messages follow."""
        history = self._histories[subject] = _History(top.epoch, ends_at)
        history.top = top.offset
        self._bare[subject] = None
        self.size += history.size

    def restore_message(self, subject: str, expires_at: float, kept: Kept[D], size: int) -> None:
        """Add the next message of a history that is continued."""
        history = self._histories.get(subject)
        if history is not None:
            history.messages.append((expires_at, size + OVERHEAD, kept))
            history.size += size + OVERHEAD
            self.size += size + OVERHEAD
            self._bare.pop(subject, None)
            self._make_room(subject)

    def restore_key(self, subject: str, key: str, until: float, position: Position) -> None:
        """Remember another store's key."""
        self._keys[subject, key] = until, position

    # Inside -------------------------------------------------------------------------------------------------------

    def _history(self, subject: str, now: float) -> _History[D]:
        history = self._histories.get(subject)
        if history is not None and history.ends_at <= now:
            self._drop(subject)
            history = None
        if history is None:
            self._count += 1
            history = self._histories[subject] = _History(f"{self._start}{self._count:x}", now + LIFE)
            self.size += history.size
            self._bare[subject] = None
            self._make_room(subject)
        self._histories.move_to_end(subject)
        if subject in self._bare:
            self._bare.move_to_end(subject)
        return history

    def _make_room(self, subject: str) -> None:
        """Drop others than this one until they fit: first those without messages, which are missed least."""
        while self.size > self._max_bytes and len(self._histories) > 1:
            self._drop(next(one for one in chain(self._bare, self._histories) if one != subject))

    def _trim(self, subject: str, history: _History[D], now: float) -> None:
        before = history.size
        history.trim(inf, inf, now)
        self.size += history.size - before
        if not history.messages:
            self._bare[subject] = None

    def _drop(self, subject: str) -> None:
        self._bare.pop(subject, None)
        self.size -= self._histories.pop(subject).size

    def _expire_keys(self, now: float) -> None:
        keys = self._keys
        while keys:
            first = next(iter(keys))
            if keys[first][0] > now and len(keys) <= MOST_KEYS:
                break
            del keys[first]

    def _page(self, history: _History[D], messages: Iterable[Kept[D]], limit: int) -> Iterator[Kept[D]]:
        sizes = {kept.position.offset: size for _, size, kept in history.messages}
        taken = 0
        for number, kept in enumerate(messages):
            taken += sizes[kept.position.offset]
            if number and (number >= limit or taken > PAGE_BYTES):
                break
            yield kept


def is_complete_after(time: float, messages: list[Kept[D]], top: int) -> bool:
    """Whether these messages, all that are kept, include every message after a time of day."""
    return not top or (bool(messages) and (messages[0].at <= time or not messages[0].previous))
