"""The backplane over Redis: subjects are Pub/Sub channels, queues are lists (`names.py`).

Several hosts are shards. When a shard is away its groups are away too; they do not move to another one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import cast

from fairway.layers.backplane import Backplane, BackplaneError, BackplaneStatistics, Events, QueueFull
from fairway.layers.redis.address import Address
from fairway.layers.redis.followers import RedisFollowers
from fairway.layers.redis.names import Names
from fairway.layers.redis.presence import RedisPresence
from fairway.layers.redis.queues import MOST_AT_ONCE, Queue
from fairway.layers.redis.scripts import PUSH
from fairway.layers.redis.shard import Shard, Take
from fairway.layers.redis.streams import RedisStreams

# How many messages of the largest size must fit into one reply: as many as are taken from a queue at once, and spare.
_PER_REPLY = 2 * MOST_AT_ONCE


class RedisBackplane(Backplane):
    """`prefix` separates sites that share a Redis. Times are in seconds. With `trust_failover`, a server that takes
    over is taken to have all messages: histories continue as if nothing had happened.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        prefix: str,
        answer_timeout: float = 5.0,
        outage_wait: float = 2.0,
        max_message_size: int = 1024 * 1024,
        trust_failover: bool = False,
    ) -> None:
        self.statistics = BackplaneStatistics()
        self._addresses = addresses
        self._names = Names([str(address) for address in addresses], prefix)
        self._answer_timeout = answer_timeout
        self._outage_wait = outage_wait
        self._longest_reply = _PER_REPLY * (max_message_size + 1024)
        self._shards: list[Shard] = []
        self._queues: dict[str, Queue] = {}
        self._events: Events
        self.followers = RedisFollowers(self._followers_shard, self._names.followers)
        self.presence = self._presence = RedisPresence(lambda: self._shards, self._shard, self._names)
        self.streams: RedisStreams = RedisStreams(self._names, lambda: self._shards, trust_failover)

    @property
    def is_up(self) -> bool:
        return bool(self._shards) and all(shard.kept.link is not None for shard in self._shards)

    def problem(self) -> BackplaneError | None:
        return next(filter(None, (shard.kept.problem() for shard in self._shards)), None)

    def start(self, events: Events) -> None:
        self._events = events
        self._shards = [
            Shard(
                address,
                self.statistics,
                answer_timeout=self._answer_timeout,
                outage_wait=self._outage_wait,
                longest_reply=self._longest_reply,
                told=self._told,
            )
            for address in self._addresses
        ]

    async def close(self, drain: float = 1.0) -> None:
        for queue in self._queues.values():
            queue.close()
        self._queues.clear()
        await self.streams.close()
        await asyncio.gather(*(shard.kept.close(drain) for shard in self._shards))

    def _told(self, error: Exception | None) -> None:
        if error is not None:
            self._events.down(error)
            return
        self._presence.forget()
        if self.is_up:
            self._events.up()  # only when the last shard is up, with all its subscriptions
        for queue in self._queues.values():
            queue.look()

    # Subjects -------------------------------------------------------------------------------------------------

    def post(self, subject: str, data: bytes) -> Awaitable[None] | None:
        shard = self._shard(subject)
        return shard.post(self._name(shard, subject), data)

    async def publish(self, subject: str, data: bytes) -> int | None:
        shard = self._shard(subject)
        heard = cast(int, await shard.call(b"PUBLISH", self._name(shard, subject), data))
        self.statistics.published += 1
        return heard

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        by_shard: dict[Shard, list[Sequence[bytes]]] = defaultdict(list)
        for subject, data in messages:
            shard = self._shard(subject)
            by_shard[shard].append((b"PUBLISH", self._name(shard, subject), data))
        await _all([shard.call_all(commands) for shard, commands in by_shard.items()])
        self.statistics.published += len(messages)

    async def subscribe(self, subjects: Sequence[str]) -> None:
        by_shard: dict[Shard, dict[bytes, Take]] = defaultdict(dict)
        for subject in subjects:
            shard = self._shard(subject)
            by_shard[shard][self._name(shard, subject)] = partial(self._take, subject)
        await _all([shard.subscribe(takers) for shard, takers in by_shard.items()])

    async def unsubscribe(self, subjects: Sequence[str]) -> None:
        by_shard: dict[Shard, list[bytes]] = defaultdict(list)
        for subject in subjects:
            shard = self._shard(subject)
            by_shard[shard].append(self._name(shard, subject))
        await _all([shard.unsubscribe(names) for shard, names in by_shard.items()])

    def _take(self, subject: str, data: bytes) -> Awaitable[None] | None:
        self.statistics.received += 1
        return self._events.message(subject, data)

    # Queues ---------------------------------------------------------------------------------------------------

    async def push(self, queue: str, data: bytes, capacity: int, expiry: float) -> None:
        shard = self._shard(queue)
        arguments: list[bytes | int] = [self._wake_up(shard, queue), data, capacity, max(1, int(expiry * 1000))]
        if not await shard.run(PUSH, self._names.queue(queue), arguments):
            raise QueueFull(f"the queue {queue} holds {capacity} messages")

    async def pull(self, queue: str) -> bytes:
        known = self._queues.get(queue)
        if known is None:
            shard = self._shard(queue)
            wake_up = self._wake_up(shard, queue)
            known = self._queues[queue] = Queue(
                shard, self._names.queue(queue), wake_up, partial(self._end, queue, shard, wake_up)
            )
        return await known.pull()

    def _end(self, queue: str, shard: Shard, wake_up: bytes) -> None:
        del self._queues[queue]
        shard.forget(wake_up)

    async def flush(self) -> None:
        for shard in self._shards:
            cursor: bytes | int = 0
            while True:
                cursor, keys = cast(
                    tuple[bytes, list[bytes]],
                    await shard.call("SCAN", cursor, "MATCH", self._names.pattern_to_flush, "COUNT", 1000),
                )
                own = [key for key in keys if self._names.is_to_flush(key)]
                if own:
                    await shard.call("UNLINK", *own)
                if int(cursor) == 0:
                    break
        self._presence.forget()
        await self._followers_shard().call("UNLINK", self._names.followers)

    def _followers_shard(self) -> Shard:
        return self._shard(Names.FOLLOWERS)

    # Names ----------------------------------------------------------------------------------------------------

    def _shard(self, name: str) -> Shard:
        return self._shards[self._names.index_of(name)]

    def _name(self, shard: Shard, subject: str) -> bytes:
        return self._names.subject(shard.address.db, subject)

    def _wake_up(self, shard: Shard, queue: str) -> bytes:
        return self._names.wake_up(shard.address.db, queue)


async def _all(calls: Sequence[Awaitable[object]]) -> None:
    """Await all calls, and then raise the first error."""
    if len(calls) == 1:
        await calls[0]
        return
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
