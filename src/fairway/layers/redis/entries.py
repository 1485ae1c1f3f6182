"""The entries of this process in its present term, as one Redis is told of them.

All entries of a *holder*, which is a process in one of its terms, are in one hash with a field for each subject. So
somebody who is alone in a group costs a field, and no key. The field is a text that has all entries of the holder under
the subject. If it would become long, the entries get a hash of their own, and the text is empty, until they have left.

Nobody else writes there while the holder has a lease. So this process knows what is there, and changes a text by
writing another one. Changes are gathered for a pass of the event loop, and sent together.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, takewhile
from typing import TypeAlias

from fairway.layers.backplane import NOTE
from fairway.layers.parts import parts
from fairway.layers.redis.names import Names
from fairway.layers.redis.scripts import DEPART
from fairway.layers.redis.shard import Shard

DAY = 86_400_000
"""Milliseconds for which everything is kept, in case that nobody is left to remove it."""

AGAIN = DAY / 4000
"""Seconds after which a hash is given another day."""

LONGEST = 512
"""Bytes of the longest text."""

AT_ONCE = 1000
"""Fields in one command, and hashes that are given another day together."""

Command: TypeAlias = Sequence[bytes | str | int]

_SIZES = re.compile(rb" ([0-9]{1,5}) ([0-9]{1,9}) ")


def written(entries: Mapping[str, bytes]) -> bytes:
    """Entries as a text: how many there are besides the note, and each with the lengths of its key and its data."""
    parts = [b" %d %d %b%b" % (len(id_), len(data), id_.encode(), data) for id_, data in entries.items()]
    return b"%d%b" % (len(entries) - (NOTE in entries), b"".join(parts))


def entries_in(text: bytes) -> dict[str, bytes]:
    """The entries in a text. It may come from anybody: what cannot be read is left out, with what follows."""
    entries: dict[str, bytes] = {}
    end = max(text.find(b" "), 0)
    while found := _SIZES.match(text, end):
        begin, size = found.end(), int(found[1])
        end = begin + size + int(found[2])
        if end > len(text):
            break
        entries[text[begin : begin + size].decode("ascii", "replace")] = text[begin + size : end]
    return entries


class Parcel:
    """What goes out at the end of a pass: commands, and then the texts of subjects. None removes a field.

    `departing` are subjects that may have no entries after the command at this place.
    """

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.texts: dict[str, bytes | None] = {}
        self.departing: list[tuple[int, str]] = []
        self.sending: asyncio.Task[None]


class Entries:
    """The entries of one holder in one shard. The parcels are sent by themselves."""

    def __init__(self, shard: Shard, names: Names, holder: str) -> None:
        self._shard = shard
        self._names = names
        self._holder = holder
        self._key = names.entries(holder)
        self._subjects = names.subjects(holder)
        self._texts: dict[str, bytes] = {}
        self._many: dict[str, float] = {}  # subjects with a hash; in the order of when that is given another day
        self._unsure: set[str] = set()  # those of them that Redis may not know as such
        self._is_new = True
        self._parcel: Parcel | None = None

    @property
    def keys(self) -> list[bytes]:
        """Those that are there for all subjects."""
        return [self._key, self._subjects]

    def enter(self, subject: str, entries: Mapping[str, bytes]) -> Parcel:
        """Add or change entries."""
        parcel = self._gather()
        if subject not in self._many:
            entries = {**entries_in(self._texts.get(subject, b"")), **entries}
            text = written(entries)
            if len(text) <= LONGEST:
                self._texts[subject] = parcel.texts[subject] = text
                return parcel
            self._texts.pop(subject, None)
            parcel.texts.pop(subject, None)
            self._many[subject] = time.monotonic() + AGAIN
            self._unsure.add(subject)
            parcel.commands.append((b"UNLINK", self._names.many_entries(self._holder, subject)))
        self._enter_many(parcel, subject, entries)
        return parcel

    def leave(self, subject: str, ids: Collection[str]) -> Parcel:
        """Remove entries, and the note if there are no others."""
        parcel = self._gather()
        if subject in self._many:
            # If these are the last, Redis forgets the subject. So whoever enters from now on notes it again.
            self._unsure.add(subject)
            parcel.departing.append((len(parcel.commands), subject))
            key = self._names.many_entries(self._holder, subject)
            parcel.commands.append((b"EVAL", DEPART, 1, key, *self.keys, subject, *ids))
            return parcel
        entries = entries_in(self._texts.pop(subject, b""))
        rest = {id_: data for id_, data in entries.items() if id_ not in ids}
        if rest.keys() - {NOTE}:
            self._texts[subject] = parcel.texts[subject] = written(rest)
        else:
            parcel.texts[subject] = None
        return parcel

    async def refresh(self) -> None:
        """Give another day to hashes that were last given one long ago."""
        now = time.monotonic()
        due = [subject for subject, at in takewhile(lambda item: item[1] <= now, self._many.items())][:AT_ONCE]
        for subject in due:
            del self._many[subject]
            self._many[subject] = now + AGAIN
        if due:
            keys = [self._names.many_entries(self._holder, subject) for subject in due]
            await self._shard.call_all([(b"PEXPIRE", key, DAY) for key in keys])

    def doubt(self) -> None:
        """Redis may have lost something. What is entered again will be there as before."""
        self._is_new = True
        self._unsure.update(self._many)

    def _enter_many(self, parcel: Parcel, subject: str, entries: Mapping[str, bytes]) -> None:
        key = self._names.many_entries(self._holder, subject)
        fields = [(id_.encode(), data) for id_, data in entries.items()]
        parcel.commands += [(b"HSET", key, *chain.from_iterable(some)) for some in parts(fields, AT_ONCE)]
        if subject in self._unsure:
            self._unsure.discard(subject)
            parcel.commands += [
                (b"PEXPIRE", key, DAY),
                (b"SADD", self._subjects, subject),
                (b"PEXPIRE", self._subjects, DAY),
                (b"HSET", self._key, subject, b""),
            ]

    def _gather(self) -> Parcel:
        """What goes out at the end of this pass."""
        parcel = self._parcel
        if parcel is None:
            parcel = self._parcel = Parcel()
            parcel.sending = asyncio.get_running_loop().create_task(self._send(parcel))
            parcel.sending.add_done_callback(_seen)
        return parcel

    async def _send(self, parcel: Parcel) -> None:
        self._parcel = None
        commands = parcel.commands
        texts = [(subject.encode(), text) for subject, text in parcel.texts.items() if text is not None]
        commands += [(b"HSET", self._key, *chain.from_iterable(some)) for some in parts(texts, AT_ONCE)]
        gone = [subject.encode() for subject, text in parcel.texts.items() if text is None]
        commands += [(b"HDEL", self._key, *some) for some in parts(gone, AT_ONCE)]
        if self._is_new:
            self._is_new = False
            commands.append((b"PEXPIRE", self._key, DAY))
        try:
            replies = await self._shard.call_all(commands)
        except BaseException:
            self.doubt()
            raise
        for place, subject in parcel.departing:
            if replies[place] and subject in self._unsure:
                self._unsure.discard(subject)
                self._many.pop(subject, None)


def _seen(sending: asyncio.Task[None]) -> None:
    """Whoever waits has the error. Perhaps nobody waits any more."""
    if not sending.cancelled():
        sending.exception()
