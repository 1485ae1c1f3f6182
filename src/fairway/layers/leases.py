"""Who is present, in memory: entries of processes under subjects, which are listed while a process has a lease. Pure.

A lease belongs to one *term* of a process. It ends when its time has passed, and then never comes back: a process that
renews too late begins another term, without entries. Meanwhile, the ended term is named to one caller of `departed`,
who tells others and calls `sweep`. If it does not sweep in time, the term is named to the next caller.

Times are in seconds of any clock, as long as it is always the same one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TypeAlias

from fairway.layers.backplane import NOTE, Departed, Present

OVERHEAD = 110
BARE = 300
"""Bytes that an entry takes in addition to its own, and the entries of one process under a subject in addition to that:
measured, see `tests/fairway/layers/test_footprints.py`.
"""

MOST_NAMED = 10
"""How many processes one caller is told of at once."""


class TooMuch(Exception):
    """The entries of all processes together take as many bytes as they may."""


_Who: TypeAlias = tuple[str, int]
"""A process in one of its terms."""


class _Lease:
    """One term of a process: until when it lasts, its entries by subject, and when it may be named (again)."""

    __slots__ = ("entries", "named_until", "until", "who")

    def __init__(self, who: _Who, until: float) -> None:
        self.who = who
        self.until = until
        self.named_until = -math.inf
        self.entries: dict[str, dict[str, bytes]] = {}


class Leases:
    """The processes of one prefix. All their entries together have at most `max_bytes`."""

    __slots__ = ("_leases", "_max_bytes", "_subjects", "size")

    def __init__(self, max_bytes: float = math.inf) -> None:
        self.size = 0
        self._max_bytes = max_bytes
        self._leases: dict[_Who, _Lease] = {}
        self._subjects: dict[str, tuple[_Who, ...]] = {}  # which have entries there; few, and a dict would take more

    def __len__(self) -> int:
        return len(self._leases)

    def renew(self, process: str, term: int, until: float, now: float) -> bool:
        """Renew the lease of this term. False if the term has ended, or never began: then nothing has changed."""
        lease = self._leases.get((process, term))
        if lease is None or lease.until <= now:
            return False
        lease.until = until
        return True

    def begin(self, process: str, term: int, until: float) -> None:
        """Begin a term that the process has not had before."""
        who = process, term
        self._leases[who] = _Lease(who, until)

    def shorten(self, process: str, term: int, until: float) -> None:
        """The process is gone, as far as one can see: its lease ends no later than this."""
        lease = self._leases.get((process, term))
        if lease is not None:
            lease.until = min(lease.until, until)

    def enter(self, process: str, term: int, subject: str, entries: Mapping[str, bytes]) -> None:
        """Add or change entries. Does nothing if the term is not known. Raises `TooMuch` if there is no room."""
        lease = self._leases.get((process, term))
        if lease is None or not entries:
            return
        own = lease.entries.get(subject)
        growth = sum(_size(key, data) for key, data in entries.items())
        if own is None:
            growth += _bare_size(subject)
        else:
            growth -= sum(_size(key, own[key]) for key in entries if key in own)
        if self.size + growth > self._max_bytes:
            raise TooMuch(f"all entries together have {self.size} bytes")
        self.size += growth
        if own is None:
            lease.entries[subject] = dict(entries)
            self._subjects[subject] = (*self._subjects.get(subject, ()), lease.who)
        else:
            own.update(entries)

    def leave(self, process: str, term: int, subject: str, keys: Collection[str]) -> None:
        """Remove entries, and the note of a process that has no others there. Others' keys are ignored."""
        lease = self._leases.get((process, term))
        own = lease.entries.get(subject) if lease is not None else None
        if lease is None or own is None:
            return
        for key in keys:
            if key in own:
                self.size -= _size(key, own.pop(key))
        if len(own) == (NOTE in own):
            self._forget(subject, lease)

    def present(self, subject: str, now: float) -> list[Present]:
        """The entries of each process with a lease."""
        return [
            Present(process, term, dict(self._leases[process, term].entries[subject]))
            for process, term in self._subjects.get(subject, ())
            if self._leases[process, term].until > now
        ]

    def count(self, subject: str, now: float) -> int:
        """How many entries these processes have together, without their notes."""
        there = [self._leases[who] for who in self._subjects.get(subject, ())]
        found = [lease.entries[subject] for lease in there if lease.until > now]
        return sum(len(entries) - (NOTE in entries) for entries in found)

    def departed(self, now: float, swept_within: float) -> list[Departed]:
        """Ended terms that the caller has to see to. Nobody else is told of them for this number of seconds."""
        found = []
        for (process, term), lease in self._leases.items():
            if lease.until <= now and lease.named_until <= now:
                lease.named_until = now + swept_within
                found.append(Departed(process, term))
                if len(found) == MOST_NAMED:
                    break
        return found

    def sweep(self, process: str, term: int, now: float) -> None:
        """Remove what is left of a term. Does nothing to one that has not ended."""
        lease = self._leases.get((process, term))
        if lease is not None and lease.until <= now:
            for subject in list(lease.entries):
                self._forget(subject, lease)
            del self._leases[process, term]

    def expire(self, now: float, after: float) -> None:
        """Remove terms that ended this number of seconds ago: there is nobody who could be told of them."""
        for process, term in [who for who, lease in self._leases.items() if lease.until + after <= now]:
            self.sweep(process, term, now)

    def clear(self) -> None:
        """Forget everything. All terms end, and nobody is told of them."""
        self.size = 0
        self._leases.clear()
        self._subjects.clear()

    def _forget(self, subject: str, lease: _Lease) -> None:
        self.size -= _bare_size(subject) + sum(_size(key, data) for key, data in lease.entries.pop(subject).items())
        others = tuple(who for who in self._subjects[subject] if who != lease.who)
        if others:
            self._subjects[subject] = others
        else:
            del self._subjects[subject]


def _bare_size(subject: str) -> int:
    return len(subject) + BARE


def _size(key: str, data: bytes) -> int:
    return len(key) + len(data) + OVERHEAD
