"""Messages that are kept, gathered: what is appended in one pass of the event loop goes to Redis as one call.

A message costs Redis half as much then. It keeps its place among all that goes over the link: whatever is sent after it
makes the link send it first.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

from fairway.layers.backplane import Keep, Unavailable
from fairway.layers.redis.functions import APPEND, Arguments, Functions, is_unknown
from fairway.layers.redis.link import Link, Reply, ReplyError, send_first
from fairway.layers.redis.names import Names

MOST, MOST_BYTES = 100, 256 * 1024
"""Messages in one call, and bytes of their data: meanwhile, Redis does nothing else."""


class Message(NamedTuple):
    """One message, as the function wants it (`functions.py`): its keys, and its arguments."""

    keys: tuple[bytes, bytes]
    arguments: Arguments
    size: int


def message(names: Names, db: int, subject: str, data: bytes, keep: Keep, key: str) -> Message:
    """A message to a subject. Of several with the same key, the first counts."""
    kept = f"{keep.size} {max(1, round(keep.seconds * 1000))}"
    known = names.key(subject, key) if key else b""
    return Message(names.history(subject), (names.subject(db, subject), data, keep.size, kept, known), len(data))


class _Gathered:
    """Messages that are sent together, over one link."""

    def __init__(self, link: Link, changes: bytes) -> None:
        self.link = link
        self.keys: list[bytes] = [changes]
        self.arguments: list[bytes | str | int] = []
        self.count = 0
        self.size = 0
        self.sent: asyncio.Future[Reply] | None = None
        self.answered: asyncio.Task[Reply]

    @property
    def is_open(self) -> bool:
        return self.sent is None and self.count < MOST and self.size < MOST_BYTES

    def add(self, message: Message) -> int:
        """Returns the place among the answers."""
        self.keys += message.keys
        self.arguments += message.arguments
        self.size += message.size
        self.count += 1
        return self.count - 1


class Appending:
    """The messages to one shard."""

    def __init__(self, functions: Functions, changes: bytes) -> None:
        self._functions = functions
        self._changes = changes
        self._gathered: _Gathered | None = None

    async def append(self, link: Link, message: Message) -> Reply:
        """Append a message together with others. Returns its position. Raises what `Link.call` raises."""
        await self._functions.mark_of(link)
        gathered = self._gathered
        if gathered is None or gathered.link is not link or not gathered.is_open:
            gathered = self._gathered = self._gather(link)
        place = gathered.add(message)
        answer = (await asyncio.shield(gathered.answered))[place]
        if isinstance(answer, ReplyError):
            raise answer
        return answer

    def _gather(self, link: Link) -> _Gathered:
        gathered = _Gathered(link, self._changes)
        send_first(link)
        link.first = lambda: self._send(gathered)
        gathered.answered = asyncio.get_running_loop().create_task(self._answer(gathered))
        gathered.answered.add_done_callback(_seen)
        return gathered

    def _send(self, gathered: _Gathered) -> None:
        if self._gathered is gathered:
            self._gathered = None
        with suppress(Unavailable):  # `_answer` raises it
            gathered.sent = self._functions.begin(gathered.link, APPEND, gathered.keys, *gathered.arguments)

    async def _answer(self, gathered: _Gathered) -> Reply:
        """Runs in the next pass, when everything is gathered."""
        send_first(gathered.link)
        try:
            if gathered.sent is not None:
                return await gathered.sent
        except ReplyError as error:
            if not is_unknown(error):
                raise
        return await self._functions.call(gathered.link, APPEND, gathered.keys, *gathered.arguments)


def _seen(answered: asyncio.Task[Reply]) -> None:
    """Whoever waits has the error. Perhaps nobody waits any more."""
    if not answered.cancelled():
        answered.exception()
