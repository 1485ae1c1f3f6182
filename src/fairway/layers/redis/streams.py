"""Histories in Redis: appending over the shard's link, and reading over a connection of its own.

Redis closes the connection of a subscriber that takes too little. Pages of a history over that connection would count,
so a process that has much to catch up on would be cut off again and again. The reading connection is made when it is
first needed, and belongs to one link: when the shard has another link, the next read makes another connection.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from fairway.layers.backplane import (
    Appended,
    BackplaneStatistics,
    Keep,
    Kept,
    Page,
    Position,
    Streams,
    Unavailable,
)
from fairway.layers.histories import PAGE_BYTES, PAGES_AT_ONCE
from fairway.layers.patience import Patience
from fairway.layers.redis.appending import Appending, message
from fairway.layers.redis.functions import READ, TOPS, Arguments, Functions
from fairway.layers.redis.link import Link, Reply, ReplyError
from fairway.layers.redis.names import Names
from fairway.layers.redis.scripts import STAMP
from fairway.layers.redis.shard import Shard


class Reading:
    """The reading connection to one shard. It reports to itself what a link reports. (`link.Owner`)"""

    def __init__(self, shard: Shard, functions: Functions) -> None:
        self.statistics = BackplaneStatistics()  # nothing is posted here
        self.longest_reply = shard.longest_reply
        self._shard = shard
        self._functions = functions
        self._lock = asyncio.Lock()
        self._turns = asyncio.Semaphore(PAGES_AT_ONCE)
        self._link: Link | None = None
        self._beside: Link | None = None

    async def ask(self, asked: Callable[[Link], Awaitable[Reply]]) -> Reply:
        """The reply to a command that `asked` sends. Raises `Unavailable` and `Refused`."""
        kept = self._shard.kept
        try:
            async with Patience(kept.answer_timeout, self._heard), self._turns:
                link = await self._standing()
                return await asked(link)
        except TimeoutError:
            if self._link is not None:
                self._link.abort(ConnectionError("it has fallen silent"))
            raise kept.silent() from None
        except ReplyError as error:
            raise self._shard.refusal(error) from None
        except Unavailable:
            raise
        except OSError as error:
            raise Unavailable(f"Redis at {self._shard.address} is away: {error or type(error).__name__}") from error

    async def _standing(self) -> Link:
        async with self._lock:
            beside = await self._shard.kept.standing()
            if self._link is None or self._beside is not beside:
                if self._link is not None:
                    self._link.abort(ConnectionError("another link has taken its place"))
                link = await self._shard.address.dial(self)
                # Between the two connections, another server may have taken over.
                if await self._functions.mark_of(link) != await self._functions.mark_of(beside):
                    link.abort(ConnectionError("it is another server"))
                    raise Unavailable("Redis is failing over")
                self._link, self._beside = link, beside
            return self._link

    def _heard(self) -> object:
        return None if self._link is None else self._link.reads

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close(0.1)

    def pushed(self, name: bytes, data: bytes) -> Awaitable[None] | None:
        return None

    def failed(self, error: ReplyError) -> None:
        """Nothing is posted over this connection."""

    def lost(self, link: Link, error: Exception) -> None:
        if link is self._link:
            self._link = None


class RedisStreams(Streams):
    """`shard_of` returns the shard that has a subject. Everything else is like in `RedisBackplane`."""

    def __init__(
        self,
        names: Names,
        shards: Callable[[], Sequence[Shard]],
        trust_failover: bool,
    ) -> None:
        self._names = names
        self._shards = shards
        self._functions = Functions(trust_failover, names.reign)
        self._appending: dict[Shard, Appending] = {}
        self._readings: dict[Shard, Reading] = {}

    async def append_once(self, subject: str, data: bytes, keep: Keep, key: str) -> Appended:
        shard = self._shard(subject)
        kept = message(self._names, shard.address.db, subject, data, keep, key)
        shard.statistics.published += 1
        appending = self._appending.get(shard)
        if appending is None:
            appending = self._appending[shard] = Appending(self._functions, self._names.changes)
        return appended(await shard.ask(lambda link: appending.append(link, kept)))

    async def read(self, subject: str, after: Position | float | None, limit: int) -> Page[bytes]:
        keys, arguments = read_arguments(self._names, subject, after, limit)
        answer = await self._ask(self._shard(subject), READ, keys, arguments)
        return page_of(answer)

    async def tops(self, subjects: Sequence[str]) -> Sequence[Position]:
        by_shard: dict[Shard, list[str]] = defaultdict(list)
        for subject in subjects:
            by_shard[self._shard(subject)].append(subject)
        found: dict[str, Position] = {}
        for shard, some in by_shard.items():
            keys = [key for subject in some for key in self._names.history(subject)]
            answer = await self._ask(shard, TOPS, keys, ())
            tops = zip(answer[::2], answer[1::2], strict=True)
            found.update(
                (subject, Position(epoch.decode(), int(offset)))
                for subject, (epoch, offset) in zip(some, tops, strict=True)
            )
        return [found[subject] for subject in subjects]

    async def changes(self) -> str:
        counts = [await shard.call(b"GET", self._names.changes) for shard in self._shards()]
        return " ".join((count or b"-").decode() for count in counts)

    async def close(self) -> None:
        """Close the reading connections."""
        readings, self._readings = self._readings, {}
        await asyncio.gather(*(reading.close() for reading in readings.values()))

    def _shard(self, subject: str) -> Shard:
        return self._shards()[self._names.index_of(subject)]

    async def _ask(self, shard: Shard, name: str, keys: Sequence[bytes], arguments: Arguments) -> Reply:
        reading = self._readings.get(shard)
        if reading is None:
            reading = self._readings[shard] = Reading(shard, self._functions)
        return await reading.ask(lambda link: self._functions.call(link, name, keys, *arguments))


def read_arguments(
    names: Names, subject: str, after: Position | float | None, limit: int
) -> tuple[Sequence[bytes], Arguments]:
    """Keys and arguments to read a page."""
    if after is None:
        place: Arguments = ("all", "", 0)
    elif isinstance(after, Position):
        place = ("position", after.epoch, after.offset)
    else:
        place = ("time", "", round(after * 1000))
    return names.history(subject), (*place, limit, PAGE_BYTES)


def appended(answer: Reply) -> Appended:
    """What appending returned."""
    text = cast(bytes, answer).decode()
    position = Position.read(text.removeprefix("="))
    assert position is not None, "that is what the function returns"
    return Appended(position, not text.startswith("="))


def page_of(answer: Reply) -> Page[bytes]:
    """The page that reading returned."""
    epoch, top, began, is_complete, *rest = answer
    name = epoch.decode()
    messages = [
        Kept(item[STAMP:], Position(name, int(offset)), int(item[:STAMP]) / 1000, int(offset) - 1)
        for offset, item in zip(rest[::2], rest[1::2], strict=True)
    ]
    return Page(messages, Position(name, top), is_complete == 1, began)
