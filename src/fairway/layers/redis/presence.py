"""Presence in Redis: entries (`entries.py`), and a sorted set of leases.

A process in one of its terms is a *holder*. Leases are renewed and judged by scripts, with the clock of Redis. With
several shards, a process has a lease in each. Whoever wants to know who is present asks the hash of each holder that
has a lease: there is no list of the holders under a subject that would have to be kept.

Everything expires after a day, in case that nobody is left to remove it. As long as its holder renews its lease, it is
given another day in time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Protocol, cast

from fairway.layers.backplane import BackplaneError, Change, Departed, Presence, Present, Renewal
from fairway.layers.redis.entries import DAY, Entries, Parcel, entries_in
from fairway.layers.redis.link import Reply
from fairway.layers.redis.names import Names
from fairway.layers.redis.scripts import BEGIN, CLAIM, COUNT, RENEW, STANDING, SWEEP
from fairway.layers.redis.shard import Shard

MOST_CLAIMED = 10
SUBJECTS_AT_ONCE = 500
"""How many processes one call of `renew` names, and how many subjects one script sweeps."""


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
        self._entries: dict[Shard, Entries] = {}  # of this term

    async def enter(self, subject: str, entries: Mapping[str, bytes], term: int) -> None:
        if entries and self._is_now(term):
            await asyncio.shield(self._entries_for(subject).enter(subject, entries).sending)

    async def leave(self, subject: str, keys: Collection[str], term: int) -> None:
        if keys and self._is_now(term):
            await asyncio.shield(self._entries_for(subject).leave(subject, keys).sending)

    async def update(self, changes: Sequence[Change], term: int) -> Mapping[str, BackplaneError]:
        if not self._is_now(term):
            return {}
        parcels: dict[Parcel, list[str]] = {}
        for change in changes:
            entries = self._entries_for(change.subject)
            if change.left:
                parcels.setdefault(entries.leave(change.subject, change.left), []).append(change.subject)
            if change.entries:
                parcels.setdefault(entries.enter(change.subject, change.entries), []).append(change.subject)
        failed = {}
        for parcel, subjects in parcels.items():
            try:
                await asyncio.shield(parcel.sending)
            except BackplaneError as error:
                failed.update(dict.fromkeys(subjects, error))
        return failed

    async def present(self, subject: str) -> Sequence[Present]:
        return await present(self._shard_of(subject), self._names, subject)

    async def count(self, subject: str) -> int:
        return await count(self._shard_of(subject), self._names, subject)

    async def renew(self, ttl: float, judges: bool = True) -> Renewal:
        shards, milliseconds = self._shards(), max(1, int(ttl * 1000))
        if not self._term or not all(await _all([self._renew(shard, milliseconds) for shard in shards])):
            self._term += 1
            self._entries.clear()
            holder = _holder(self.process, self._term).encode()
            begin: list[bytes | int] = [holder, milliseconds, DAY]
            await _all([shard.run(BEGIN, self._names.leases, begin) for shard in shards])
        else:
            await _all([entries.refresh() for entries in self._entries.values()])
        term = self._term
        if not judges:
            return Renewal(term)
        claim: list[bytes | int] = [self._names.claim(""), max(1, int(self.swept_within * 1000)), MOST_CLAIMED]
        claimed = await _all([shard.run(CLAIM, self._names.leases, claim) for shard in shards])
        holders = dict.fromkeys(holder.decode() for found in claimed for holder in found)
        return Renewal(term, [Departed(*_parts(holder)) for holder in holders])

    async def sweep(self, departed: Departed) -> None:
        names, holder = self._names, _holder(departed.process, departed.term)
        of_holder = [names.claim(holder), names.entries(holder)]
        arguments: list[bytes | int] = [holder.encode(), names.leases, *of_holder, SUBJECTS_AT_ONCE]
        for shard in self._shards():
            while await shard.run(SWEEP, names.subjects(holder), arguments):
                pass

    def forget(self) -> None:
        """Redis may have lost something. What is entered again will be there as before."""
        for entries in self._entries.values():
            entries.doubt()

    def _is_now(self, term: int) -> bool:
        """Whether this is the present term. What is said in another one is never listed."""
        return 0 < term == self._term

    def _entries_for(self, subject: str) -> Entries:
        shard = self._shard_of(subject)
        entries = self._entries.get(shard)
        if entries is None:
            entries = self._entries[shard] = Entries(shard, self._names, _holder(self.process, self._term))
        return entries

    async def _renew(self, shard: Shard, milliseconds: int) -> Reply:
        holder = _holder(self.process, self._term)
        entries = self._entries.get(shard)
        keys = entries.keys if entries is not None else []
        arguments: list[bytes | int] = [holder.encode(), milliseconds, self._names.claim(holder), DAY, *keys]
        return await shard.run(RENEW, self._names.leases, arguments)


async def present(redis: Asked, names: Names, subject: str) -> list[Present]:
    """The entries of each holder that has a lease."""
    standing = await redis.run(STANDING, names.leases, [names.entries_of_all, subject.encode()])
    found = []
    for name, text in zip(standing[::2], standing[1::2], strict=True):
        holder = name.decode()
        entries = entries_in(text) if text else await _many(redis, names.many_entries(holder, subject))
        if entries:
            found.append(Present(*_parts(holder), entries))
    return found


async def _many(redis: Asked, key: bytes) -> dict[str, bytes]:
    entries = cast(dict[bytes, bytes], await redis.call(b"HGETALL", key))
    return {id_.decode("ascii", "replace"): data for id_, data in entries.items()}


async def count(redis: Asked, names: Names, subject: str) -> int:
    """How many entries they have together."""
    return cast(int, await redis.run(COUNT, names.leases, [names.entries_of_all, subject.encode()]))


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
