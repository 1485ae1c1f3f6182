"""The readers of this process that wait for messages of queues."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fairway.layers.backplane import BackplaneError, BackplaneStatistics, Unavailable
from fairway.layers.drops import count_lost
from fairway.layers.local import protocol
from fairway.layers.local.link import Link
from fairway.layers.local.protocol import Ask


class Readers:
    """The readers of each queue, in order of arrival. Every link asks the broker for one message for each of them.

    `link` returns the current link, `standing` waits for one. `statistics` returns those of the backplane.
    """

    def __init__(
        self,
        statistics: Callable[[], BackplaneStatistics],
        link: Callable[[], Link | None],
        standing: Callable[[], Awaitable[Link]],
    ) -> None:
        self._statistics = statistics
        self._link = link
        self._standing = standing
        self._waiting: dict[str, dict[asyncio.Future[bytes], None]] = {}
        self._putting_back: set[asyncio.Task[None]] = set()

    async def pull(self, queue: str) -> bytes:
        """Wait for a message. Cancelling loses nothing."""
        reader: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        readers = self._waiting.setdefault(queue, {})
        readers[reader] = None
        self._say(protocol.frame(Ask.PULL, queue))
        try:
            return await reader
        except asyncio.CancelledError:
            if reader in readers:
                self._say(protocol.frame(Ask.STOP, queue))
            elif not reader.cancelled() and reader.exception() is None:
                self._put_back(queue, reader.result())
            raise
        finally:
            readers.pop(reader, None)
            if not readers and self._waiting.get(queue) is readers:
                del self._waiting[queue]

    def item(self, queue: str, data: bytes) -> None:
        """Give a message to the reader that has waited longest."""
        readers = self._waiting.get(queue, {})
        reader = next((reader for reader in readers if not reader.done()), None)
        if reader is None:
            self._put_back(queue, data)
        else:
            del readers[reader]
            reader.set_result(data)

    def ask_again(self, link: Link) -> None:
        """There is a new link: ask for every reader's message again."""
        for queue, readers in self._waiting.items():
            for _ in readers:
                link.write(protocol.frame(Ask.PULL, queue))

    async def close(self, drain: float) -> None:
        """Stop. Readers that still wait get `Unavailable`."""
        for readers in self._waiting.values():
            for reader in readers:
                if not reader.done():
                    reader.set_exception(Unavailable("the channel layer has been closed"))
        if self._putting_back:
            await asyncio.wait(self._putting_back, timeout=drain)

    def _say(self, frame: bytes) -> None:
        link = self._link()
        if link is not None:
            link.write(frame)

    def _put_back(self, queue: str, data: bytes) -> None:
        link = self._link()
        if link is not None:
            link.write(protocol.frame(Ask.PUT_BACK, queue, data))
        else:
            task = asyncio.get_running_loop().create_task(self._put_back_later(queue, data))
            self._putting_back.add(task)
            task.add_done_callback(self._putting_back.discard)

    async def _put_back_later(self, queue: str, data: bytes) -> None:
        try:
            (await self._standing()).write(protocol.frame(Ask.PUT_BACK, queue, data))
        except BackplaneError as error:
            count_lost(self._statistics(), queue, error)
