"""One Redis that is kept connected: a link at a time, what is subscribed over it, and what happens while there is none.

A shard is *up* from the moment at which a new link has subscribed to everything until that link is lost. While it is
not, a task tries again, with pauses that grow and are spread by chance. Whoever needs the link waits for it
(`standing`), until `outage_wait` after the loss, or `answer_timeout` after the start; from then on it fails at once,
so that nobody queues up behind a Redis that is away. What Redis refuses, such as a wrong password, fails at once as
well, and is tried again all the same.

A link on which nothing comes for five seconds is asked, and cut if nothing has come after ten.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from fairway.layers.backplane import BackplaneError, BackplaneStatistics, Refused, Unavailable
from fairway.layers.redis.address import Address
from fairway.layers.redis.link import Link, Reply, ReplyError, judged
from fairway.layers.redis.scripts import run
from fairway.logs import FaultLog, get_logger

logger = get_logger("fairway.layers")

LOOK = 2.5
"""Seconds between two looks at a link: silent at the second in a row it is asked, at the fourth cut."""

ASK_AT, CUT_AT = 2, 4
NAMES_PER_COMMAND = 1000
MOST_WAITING = 10_000
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_QUIET = 10.0
# Errors that a server answers with which is not, or no longer, the one to talk to.
_WRONG_SERVER = frozenset({"READONLY", "MASTERDOWN", "LOADING"})

Take = Callable[[bytes], Awaitable[None] | None]


class Shard:
    """Keeps a link to one address. `take` is given what comes for a name, `told` hears of up and down."""

    def __init__(
        self,
        address: Address,
        statistics: BackplaneStatistics,
        *,
        answer_timeout: float,
        outage_wait: float,
        longest_reply: int = 64 * 1024 * 1024,
        told: Callable[[Exception | None], None],
    ) -> None:
        self.address = address
        self.statistics = statistics
        self.link: Link | None = None
        self.answer_timeout = answer_timeout
        self.longest_reply = longest_reply
        self._told = told
        self._takers: dict[bytes, Take] = {}
        self._loop = asyncio.get_running_loop()
        self._news = _News(str(address), outage_wait)
        self._gives_up_at = self._loop.time() + answer_timeout
        self._change: asyncio.Future[None] = self._loop.create_future()
        self._waiting = 0
        self._complaint: ReplyError | None = None
        self._problem: Exception = Unavailable("it has not been reached yet")
        self._keeping = self._loop.create_task(self._keep())

    # Using it -------------------------------------------------------------------------------------------------

    def post(self, name: bytes, data: bytes) -> Awaitable[None] | None:
        """Publish without awaiting the answer; what is returned, if anything, is to be awaited before the next."""
        link = self.link
        if link is None or self._complaint is not None:
            return self._post_later(name, data)
        self.statistics.published += 1
        return link.post(name, data)

    async def call(self, *command: bytes | str | int) -> Reply:
        """The answer to a command, within `answer_timeout`; what Redis refuses is raised."""
        return await self._answer(lambda link: link.call(*command))

    async def run(self, script: str, key: bytes, arguments: Sequence[bytes | int]) -> Reply:
        """The answer of a script over one key; as `call`."""
        return await self._answer(lambda link: run(link, script, key, arguments))

    async def _answer(self, asked: Callable[[Link], Awaitable[Reply]]) -> Reply:
        link = await self.standing()
        try:
            async with asyncio.timeout(self.answer_timeout):
                return await asked(link)
        except TimeoutError:
            raise self.silent() from None
        except ReplyError as error:
            raise self.refusal(error) from None

    async def subscribe(self, takers: Mapping[bytes, Take]) -> None:
        """Have what comes for these names taken, from now on and over every link; nothing is, if this raises."""
        link = await self.standing()
        self._takers.update(takers)
        try:
            async with asyncio.timeout(self.answer_timeout):
                try:
                    await _subscribe(link, list(takers))
                except Unavailable:
                    # The next link subscribes to everything.
                    await self.standing()
        except BaseException as error:
            for name in takers:
                self._takers.pop(name, None)
            if isinstance(error, ReplyError):
                raise self.refusal(error) from None
            if isinstance(error, TimeoutError):
                raise self.silent() from None
            raise

    async def unsubscribe(self, names: Sequence[bytes]) -> None:
        """Take nothing more that comes for these names."""
        for name in names:
            self._takers.pop(name, None)
        if self.link is not None:
            for part in _parts(names):
                await self.link.acknowledged(b"UNSUBSCRIBE", part)

    def forget(self, name: bytes) -> None:
        """`unsubscribe`, without waiting."""
        self._takers.pop(name, None)
        if self.link is not None:
            self.link.forget(name)

    def has_taker(self, name: bytes) -> bool:
        """Whether what comes for the name is taken."""
        return name in self._takers

    async def standing(self, patiently: bool = False) -> Link:
        """The link, as soon as there is one; `Unavailable` or `Refused` if there is none in time.

        With `patiently` it is waited for however long it takes.
        """
        while self.link is None:
            patience = None if patiently else self._gives_up_at - self._loop.time()
            if patience is not None and (
                patience <= 0 or self._waiting >= MOST_WAITING or isinstance(self._problem, Refused)
            ):
                self._give_up()
            self._waiting += 1
            try:
                await asyncio.wait([self._change], timeout=patience)
            finally:
                self._waiting -= 1
        return self.link

    def _give_up(self) -> None:
        self.statistics.unavailable += 1
        if isinstance(self._problem, Refused):
            raise Refused(str(self._problem))
        raise Unavailable(f"Redis at {self.address} is away: {_words(self._problem)}")

    def refusal(self, error: ReplyError) -> Refused | Unavailable:
        """What is to be raised for an error that Redis has answered with; a server that is the wrong one is left."""
        self.statistics.refused += 1
        if error.code in _WRONG_SERVER and self.link is not None:
            self.link.abort(ConnectionError(str(error)))
        return judged(error)

    def silent(self) -> Unavailable:
        """What is to be raised when Redis has not answered in time."""
        self.statistics.unavailable += 1
        return Unavailable(f"Redis at {self.address} has not answered in {self.answer_timeout:g} s")

    async def close(self, drain: float) -> None:
        """Disconnect when what was posted is confirmed, or after so many seconds."""
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        link, self.link = self.link, None
        self._problem = Unavailable("the layer has been closed")
        self._gives_up_at = 0.0
        self._wake()
        if link is not None:
            await link.close(drain)

    async def _post_later(self, name: bytes, data: bytes) -> None:
        if self._complaint is not None:
            complaint, self._complaint = self._complaint, None
            raise judged(complaint)
        link = await self.standing()
        self.statistics.published += 1
        waiting = link.post(name, data)
        if waiting is not None:
            await waiting

    # Keeping it -----------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        failures = 0
        while True:
            link: Link | None = None
            try:
                async with asyncio.timeout(self.answer_timeout):
                    link = await self.address.dial(self)
                    await self._subscribe_to_everything(link)
            except BaseException as error:
                if link is not None:
                    link.abort(ConnectionError("it could not be used"))
                if not isinstance(error, Exception):
                    raise
                failures += 1
                self._away(judged(error) if isinstance(error, ReplyError) else error)
            else:
                failures = 0
                self._stands(link)
                await self._look_after(link)
            longest = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2.0 ** min(failures, 20))
            await asyncio.sleep(random.uniform(0, longest))

    async def _subscribe_to_everything(self, link: Link) -> None:
        names = list(self._takers)
        await _subscribe(link, names)
        # What was given up meanwhile, or begun, is made up for.
        gone = [name for name in names if name not in self._takers]
        new = list(self._takers.keys() - set(names))
        for part in _parts(gone):
            await link.acknowledged(b"UNSUBSCRIBE", part)
        await _subscribe(link, new)

    def _stands(self, link: Link) -> None:
        if link.ended.done():
            return
        self.link = link
        self._complaint = None
        self._wake()
        self._news.up(self.statistics)
        self._told(None)

    async def _look_after(self, link: Link) -> None:
        """Return when the link is lost."""
        seen, silent = link.reads, 0
        while not link.ended.done():
            await asyncio.wait([link.ended], timeout=LOOK)
            if link.reads != seen or link.is_paused:
                seen, silent = link.reads, 0
                continue
            silent += 1
            if silent == ASK_AT:
                link.ask_whether_alive()
            elif silent >= CUT_AT:
                link.abort(ConnectionError(f"nothing has come for {LOOK * CUT_AT:g} s, although it was asked"))

    def _wake(self) -> None:
        """Let those who wait for the link look again."""
        change, self._change = self._change, self._loop.create_future()
        change.set_result(None)

    def _away(self, error: Exception) -> None:
        self._problem = error
        if isinstance(error, Refused):
            self._wake()
        self._news.down(error, self.statistics)

    # What the link tells (`Owner`) ----------------------------------------------------------------------------

    def pushed(self, name: bytes, data: bytes) -> Awaitable[None] | None:
        taker = self._takers.get(name)
        return None if taker is None else taker(data)

    def failed(self, error: ReplyError) -> None:
        self._complaint = error
        self._news.refused(self.refusal(error))

    def lost(self, link: Link, error: Exception) -> None:
        if link is self.link:
            self.link = None
            self._gives_up_at = self._loop.time() + self._news.outage_wait
            self._away(error)
            self._told(error)


async def _subscribe(link: Link, names: Sequence[bytes]) -> None:
    for part in _parts(names):
        await link.acknowledged(b"SUBSCRIBE", part)


def _parts(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (names[begin : begin + NAMES_PER_COMMAND] for begin in range(0, len(names), NAMES_PER_COMMAND))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


class _News:
    """The log lines of one shard: one when it goes, one when it is back; of one that flaps a pair in ten seconds."""

    def __init__(self, address: str, outage_wait: float) -> None:
        self._address = address
        self.outage_wait = outage_wait
        self._since: float | None = None
        self._is_said = False
        self._quiet_until = 0.0
        self._before = (0, 0)
        self._faults = FaultLog(logger, per_second=1)

    def down(self, error: Exception, statistics: BackplaneStatistics) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            # Those that the loss itself has made uncertain are counted already.
            self._before = (statistics.unavailable, statistics.uncertain)
            statistics.outages += 1
        if self._is_said or now < self._quiet_until:
            return
        self._is_said = True
        self._quiet_until = now + _QUIET
        unexpected = not isinstance(error, OSError | TimeoutError | BackplaneError)
        logger.error(
            "Redis at %s is away, and is tried again until it works: %s. What is sent waits for %g s, then fails",
            self._address, _words(error), self.outage_wait, exc_info=error if unexpected else None,
        )  # fmt: skip

    def up(self, statistics: BackplaneStatistics) -> None:
        since, self._since = self._since, None
        if self._is_said and since is not None:
            self._is_said = False
            logger.warning(
                "Redis at %s is back after %.1f s; %d calls have failed meanwhile",
                self._address,
                time.monotonic() - since,
                statistics.unavailable - self._before[0],
            )

    def refused(self, error: Exception) -> None:
        self._faults.report(time.monotonic(), "refused", "A message was lost: %s", error)
