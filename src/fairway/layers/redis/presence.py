"""Presence in Redis: a hash for the entries of each process under each subject, and a sorted set of leases.

A process in one of its terms is a *holder*. Entering somebody is one plain HSET. With the first entry under a subject,
the holder is also noted among those of the subject, and the subject among those of the holder. Leases are renewed and
judged by scripts, with the clock of Redis. With several shards, a process has a lease in each.

What exists for a minute expires after a day, in case that nobody is left to remove it. As long as its holder lives, it
is given another day in time. Whatever is younger is removed like all that a dead holder has left.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Protocol, cast

from fairway.layers.backplane import Departed, Presence, Present, Renewal
from fairway.layers.redis.link import Reply
from fairway.layers.redis.names import Names
from fairway.layers.redis.scripts import BEGIN, CLAIM, COUNT, DEPART, RENEW, STANDING, SWEEP
from fairway.layers.redis.shard import Shard

DAY = 86_400_000
"""Milliseconds for which names are kept."""

FIRST, THEN = 60.0, DAY / 4000
"""Seconds after which a process asks for another day: for the first time, and then again and again."""

MOST_CLAIMED = 10
SUBJECTS_AT_ONCE = 500
"""How many processes one call of `renew` names, and how many subjects one script sweeps."""

REFRESHED_AT_ONCE = 1000


class Asked(Protocol):
    """A Redis that answers: a shard, or a blocking connection."""

    async def call(self, *command: bytes | str | int) -> Reply: ...

    async def run(self, script: str, key: bytes, arguments: Sequence[bytes | int]) -> Reply: ...


class RedisPresence(Presence):
    """`shards` returns all shards, `shard_of` that of a subject: there are none before the backplane was started."""

    def __init__(self, shards: Callable[[], Sequence[Shard]], shard_of: Callable[[str], Shard], names: Names) -> None:
        self.process = os.urandom(6).hex()
        self._shards = shards
        self._shard_of = shard_of
        self._names = names
        self._term = 0
        # Subjects that Redis knows for this term, and when to ask for another day; and the same as a heap.
        self._noted: dict[str, float] = {}
        self._due: list[tuple[float, str]] = []

    async def enter(self, subject: str, entries: Mapping[str, bytes], term: int) -> None:
        if not entries:
            return
        shard, holder = self._shard_of(subject), _holder(self.process, term)
        key = self._names.entries(holder, subject)
        fields = [part for id_, data in entries.items() for part in (id_.encode(), data)]
        if term == self._term and subject in self._noted:
            await shard.call(b"HSET", key, *fields)
            return
        if term == self._term:
            self._note(subject, time.monotonic() + FIRST)
        try:
            await shard.call_all(
                [
                    (b"HSET", key, *fields),
                    (b"HSET", self._names.holders(subject), holder, b""),
                    (b"SADD", self._names.subjects(holder), subject),
                ]
            )
        except BaseException:
            self._noted.pop(subject, None)
            raise

    async def leave(self, subject: str, keys: Collection[str], term: int) -> None:
        if not keys:
            return
        names, holder = self._names, _holder(self.process, term)
        # If these were the last, the script forgets the subject. So whoever enters next notes it again.
        self._noted.pop(subject, None)
        arguments: list[bytes | int] = [
            names.holders(subject),
            holder.encode(),
            names.subjects(holder),
            subject.encode(),
        ]
        await self._shard_of(subject).run(
            DEPART, names.entries(holder, subject), [*arguments, *(key.encode() for key in keys)]
        )

    async def present(self, subject: str) -> Sequence[Present]:
        return await present(self._shard_of(subject), self._names, subject)

    async def count(self, subject: str) -> int:
        return await count(self._shard_of(subject), self._names, subject)

    async def renew(self, ttl: float, judges: bool = True) -> Renewal:
        shards, milliseconds = self._shards(), max(1, int(ttl * 1000))
        if not self._term or not all(await _all([self._renew(shard, milliseconds) for shard in shards])):
            self._term += 1
            self.forget()
            holder = _holder(self.process, self._term).encode()
            begin: list[bytes | int] = [holder, milliseconds, DAY]
            await _all([shard.run(BEGIN, self._names.leases, begin) for shard in shards])
        else:
            await self._refresh()
        term = self._term
        if not judges:
            return Renewal(term)
        claim: list[bytes | int] = [self._names.claim(""), max(1, int(self.swept_within * 1000)), MOST_CLAIMED]
        claimed = await _all([shard.run(CLAIM, self._names.leases, claim) for shard in shards])
        holders = dict.fromkeys(holder.decode() for found in claimed for holder in found)
        return Renewal(term, [Departed(*_parts(holder)) for holder in holders])

    async def sweep(self, departed: Departed) -> None:
        names, holder = self._names, _holder(departed.process, departed.term)
        of_holder = [names.claim(holder), names.holders_of, names.entries_of(holder)]
        arguments: list[bytes | int] = [holder.encode(), names.leases, *of_holder, SUBJECTS_AT_ONCE]
        for shard in self._shards():
            while await shard.run(SWEEP, names.subjects(holder), arguments):
                pass

    async def _renew(self, shard: Shard, milliseconds: int) -> Reply:
        holder = _holder(self.process, self._term)
        return await shard.run(RENEW, self._names.leases, [holder.encode(), milliseconds, self._names.claim(holder)])

    def _note(self, subject: str, due: float) -> None:
        self._noted[subject] = due
        heapq.heappush(self._due, (due, subject))

    async def _refresh(self) -> None:
        """Let the oldest names live for another day."""
        now = time.monotonic()
        subjects: list[str] = []
        while self._due and self._due[0][0] <= now and len(subjects) < REFRESHED_AT_ONCE:
            due, subject = heapq.heappop(self._due)
            if self._noted.get(subject) == due:  # else it was noted again since
                self._note(subject, now + THEN)
                subjects.append(subject)
        names, holder = self._names, _holder(self.process, self._term)
        keys: dict[Shard, list[bytes]] = {}
        for subject in subjects:
            of_shard = keys.setdefault(self._shard_of(subject), [names.leases, names.subjects(holder)])
            of_shard += (names.entries(holder, subject), names.holders(subject))
        for shard, found in keys.items():
            await shard.call_all([(b"PEXPIRE", key, DAY) for key in found])

    def forget(self) -> None:
        """Redis may have lost something: note every subject again."""
        self._noted.clear()
        self._due.clear()


async def present(redis: Asked, names: Names, subject: str) -> list[Present]:
    """The entries of each holder that has a lease."""
    holders = await redis.run(STANDING, names.leases, [names.holders(subject)])
    found = []
    for holder in map(bytes.decode, cast(list[bytes], holders)):
        entries = cast(dict[bytes, bytes], await redis.call(b"HGETALL", names.entries(holder, subject)))
        found.append(Present(*_parts(holder), {id_.decode("ascii", "replace"): data for id_, data in entries.items()}))
    return found


async def count(redis: Asked, names: Names, subject: str) -> int:
    """How many entries they have together."""
    arguments = [names.holders(subject), names.all_entries, subject.encode()]
    return cast(int, await redis.run(COUNT, names.leases, arguments))


def _holder(process: str, term: int) -> str:
    return f"{process}.{term}"


def _parts(holder: str) -> tuple[str, int]:
    process, _, term = holder.rpartition(".")
    return process, int(term) if term.isdecimal() else 0


async def _all(calls: Sequence[Coroutine[Any, Any, Reply]]) -> list[Reply]:
    """Send these together. Raises the first error when all are answered."""
    if len(calls) == 1:
        return [await calls[0]]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers
