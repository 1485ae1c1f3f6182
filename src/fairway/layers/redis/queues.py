"""Queues for workers. The messages are in Redis; the readers that wait for them are here.

Nobody blocks a connection. A push publishes a wake-up under the queue's name, and every process with waiting readers
then takes as many messages as it has readers. So an idle worker costs nothing, and a busy one is not woken. A process
subscribes to the wake-ups before it looks into the queue, so that it misses none, and looks again after an outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairway.layers.backplane import BackplaneError, Unavailable
from fairway.layers.drops import count_lost
from fairway.layers.redis.link import ReplyError
from fairway.layers.redis.scripts import POP, PUSH_BACK, STAMP, run
from fairway.layers.redis.shard import Shard

PUSHED_BACK_FOR = 60_000
"""Milliseconds that a queue lives at least after a message was put back. The item itself holds its own expiry."""


MOST_AT_ONCE = 32
"""Most messages that one command takes, because replies are bounded (`Shard.longest_reply`)."""


class Queue:
    """One queue, while this process has readers for it. `ended` is called when there have been none for `LINGER`."""

    def __init__(self, shard: Shard, key: bytes, wake_up: bytes, ended: Callable[[], None]) -> None:
        self._shard = shard
        self._key = key
        self._wake_up = wake_up
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._readers: dict[asyncio.Future[bytes], None] = {}
        self._has_news = True
        self._fetching: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._putting_back: set[asyncio.Task[None]] = set()

    async def pull(self) -> bytes:
        """Wait for a message. Cancelling loses nothing."""
        reader: asyncio.Future[bytes] = self._loop.create_future()
        self._readers[reader] = None
        self.look()
        try:
            return (await reader)[STAMP:]
        except asyncio.CancelledError:
            if reader.done() and not reader.cancelled() and reader.exception() is None:
                task = self._loop.create_task(self._put_back(reader.result()))
                self._putting_back.add(task)
                task.add_done_callback(self._putting_back.discard)
            raise
        finally:
            self._readers.pop(reader, None)

    def look(self) -> None:
        """There may be messages: fetch them if there are readers."""
        self._has_news = True
        if self._fetching is None and self._readers:
            if self._linger is not None:
                self._linger.cancel()
                self._linger = None
            self._fetching = self._loop.create_task(self._fetch())

    def taken(self, data: bytes) -> None:
        """A wake-up has arrived."""
        self.look()

    def close(self) -> None:
        """Stop. Readers that still wait get `Unavailable`."""
        if self._linger is not None:
            self._linger.cancel()
        if self._fetching is not None:
            self._fetching.cancel()
        for reader in self._readers:
            if not reader.done():
                reader.set_exception(Unavailable("the channel layer has been closed"))

    async def _fetch(self) -> None:
        try:
            while self._readers and self._has_news:
                try:
                    await self._fetch_once()
                except ConnectionError:
                    await self._shard.kept.standing(patiently=True)
                    self._has_news = True
        except Exception as error:  # the readers get it, and decide
            for reader in self._readers:
                if not reader.done():
                    reader.set_exception(error)
        finally:
            self._fetching = None
            if not self._readers and self._linger is None:
                self._linger = self._loop.call_later(LINGER, self._end)

    async def _fetch_once(self) -> None:
        link = await self._shard.kept.standing(patiently=True)
        if not self._shard.has_taker(self._wake_up):
            await self._shard.subscribe({self._wake_up: self.taken})
        self._has_news = False
        wanted = min(len(self._readers), MOST_AT_ONCE)
        try:
            items = await run(link, POP, self._key, [wanted])
        except ReplyError as error:
            raise self._shard.refusal(error) from None
        # If there were as many as asked for, there may be more.
        self._has_news = self._has_news or len(items) == wanted
        for item in items:
            reader = next((reader for reader in self._readers if not reader.done()), None)
            if reader is None:
                await self._put_back(item)
            else:
                reader.set_result(item)
                del self._readers[reader]

    async def _put_back(self, item: bytes) -> None:
        try:
            link = await self._shard.kept.standing(patiently=True)
            await run(link, PUSH_BACK, self._key, [self._wake_up, item, PUSHED_BACK_FOR])
        except (BackplaneError, ReplyError) as error:
            count_lost(self._shard.statistics, self._key.decode(), error)

    def _end(self) -> None:
        self._linger = None
        if not self._readers and self._fetching is None:
            self._ended()


LINGER = 5.0
"""Seconds for which a queue without readers is kept: a worker reads again once it has handled its message."""
