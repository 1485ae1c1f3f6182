"""Keeping a service connected: one link at a time, and what happens while there is none.

The service is *up* from the moment a new link is ready, subscriptions included, until that link is lost. While it is
down, a task keeps trying to connect, with pauses that grow and are randomised. Callers wait for the link in `standing`,
but no longer than `outage_wait` after the loss, or `answer_timeout` after the start. After that they fail at once, so
that calls do not pile up while the service is away. If the service refuses the connection (a wrong password, say),
callers fail at once too, but the task keeps trying.

What was asked over the link may take any time, as long as the service sends something: see `patience.py`. If a link has
been silent for five seconds, it sends a PING. If it is still silent after ten seconds, it is closed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from fairway.layers.backplane import BackplaneError, BackplaneStatistics, Refused, Unavailable
from fairway.layers.patience import Patience
from fairway.logs import get_logger

logger = get_logger("fairway.layers")

LOOK = 2.5
"""Seconds between two looks at a link. After `ASK_AT` silent looks in a row it is asked, after `CUT_AT` it is cut."""

ASK_AT, CUT_AT = 2, 4
MOST_WAITING = 10_000
_SHORTEST_PAUSE = 0.05
_QUIET = 10.0


class Link(Protocol):
    """A connection, until it has `ended`. `reads` counts how often something arrived."""

    ended: asyncio.Future[None]
    reads: int
    is_paused: bool

    def ask_whether_alive(self) -> None:
        """Make the service send something. Any bytes count as a sign of life."""

    def abort(self, error: Exception) -> None:
        """Cut the connection at once."""

    async def close(self, drain: float) -> None:
        """Close the connection once everything is answered, after `drain` seconds at the latest."""


L = TypeVar("L", bound=Link)
T = TypeVar("T")


class Kept(Generic[L]):
    """Keeps a link to one service, until `close`. Belongs to the event loop that made it.

    `dial` makes a link that is ready for use. `told` is called with None when the service is up, and with the error
    when it goes down. `name` is for people.
    """

    def __init__(
        self,
        name: str,
        statistics: BackplaneStatistics,
        *,
        answer_timeout: float,
        outage_wait: float,
        longest_pause: float,
        dial: Callable[[], Awaitable[L]],
        told: Callable[[Exception | None], None],
    ) -> None:
        self.link: L | None = None
        self.answer_timeout = answer_timeout
        self._statistics = statistics
        self._outage_wait = outage_wait
        self._longest_pause = longest_pause
        self._dial = dial
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._news = _News(name, outage_wait, statistics)
        self._gives_up_at = self._loop.time() + answer_timeout
        self._change: asyncio.Future[None] = self._loop.create_future()
        self._waiting = 0
        self._expected_by = 0.0  # after `retire`: until then, having no link is no outage
        self._problem: Exception = TimeoutError("it has not been reached yet")
        self._keeping = self._loop.create_task(self._keep())

    async def standing(self, patiently: bool = False) -> L:
        """The link, as soon as there is one. Raises `Unavailable` or `Refused` if there is none in time.

        With `patiently` the wait has no limit.
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

    async def answer(self, asked: Awaitable[T]) -> T:
        """The answer to what was asked over the link. Raises `Unavailable` if the service falls silent meanwhile."""
        try:
            async with Patience(self.answer_timeout, self._heard):
                return await asked
        except TimeoutError:
            raise self.silent() from None

    def problem(self) -> BackplaneError | None:
        """Why there is no link; None if there is one."""
        if self.link is not None:
            return None
        if isinstance(self._problem, Refused):
            return Refused(str(self._problem))
        error = Unavailable(f"{self._news.name} is away: {str(self._problem) or type(self._problem).__name__}")
        error.__cause__ = self._problem
        return error

    def silent(self) -> Unavailable:
        """The error to raise when the service has not answered, and has sent nothing else. It is counted."""
        self._statistics.unavailable += 1
        return Unavailable(f"{self._news.name} has not answered within {self.answer_timeout:g} s")

    async def close(self, drain: float) -> None:
        """Disconnect once everything posted is confirmed, after `drain` seconds at the latest."""
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        link, self.link = self.link, None
        self._problem = Unavailable("the layer has been closed")
        self._gives_up_at = 0.0
        self._wake()
        if link is not None:
            await link.close(drain)

    def lost(self, link: L, error: Exception) -> None:
        """The link has ended."""
        if link is self.link:
            self.link = None
            self._gives_up_at = self._loop.time() + self._outage_wait
            self._away(error)
            self._told(error)

    def retire(self, link: L) -> None:
        """Stop using this link: it ends soon, and another takes its place. That is no outage."""
        if link is self.link:
            self.link = None
            self._expected_by = self._gives_up_at = self._loop.time() + self.answer_timeout

    def _heard(self) -> object:
        link = self.link
        if link is None:
            return None
        # While it is paused, this process does not read what has arrived.
        return object() if link.is_paused else link.reads

    def _give_up(self) -> None:
        self._statistics.unavailable += 1
        problem = self.problem()
        assert problem is not None, "there is no link"
        raise problem

    async def _keep(self) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self.answer_timeout):
                    link = await self._dial()
            except Exception as error:
                failures += 1
                if self._loop.time() >= self._expected_by or isinstance(error, Refused):
                    self._away(error)
            else:
                failures = 0
                self._stands(link)
                await self._look_after(link)
            longest = min(self._longest_pause, _SHORTEST_PAUSE * 2.0 ** min(failures, 20))
            await asyncio.sleep(random.uniform(0, longest))

    def _stands(self, link: L) -> None:
        if link.ended.done():
            return
        self.link = link
        self._expected_by = 0.0
        self._wake()
        self._news.up()
        self._told(None)

    async def _look_after(self, link: L) -> None:
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
                link.abort(ConnectionError(f"it has sent nothing for {LOOK * CUT_AT:g} s, although it was asked"))

    def _wake(self) -> None:
        """Make everybody who waits for the link look again."""
        change, self._change = self._change, self._loop.create_future()
        change.set_result(None)

    def _away(self, error: Exception) -> None:
        self._problem = error
        if isinstance(error, Refused):
            self._wake()
        self._news.down(error)


class _News:
    """The log lines: one when the service goes away, one when it is back. At most one such pair in ten seconds."""

    def __init__(self, name: str, outage_wait: float, statistics: BackplaneStatistics) -> None:
        self.name = name
        self._outage_wait = outage_wait
        self._statistics = statistics
        self._since: float | None = None
        self._is_said = False
        self._quiet_until = 0.0
        self._failed_before = 0

    def down(self, error: Exception) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._failed_before = self._statistics.unavailable
            self._statistics.outages += 1
        if self._is_said or now < self._quiet_until:
            return
        self._is_said = True
        self._quiet_until = now + _QUIET
        unexpected = not isinstance(error, OSError | TimeoutError | BackplaneError)
        logger.error(
            "%s is away: %s. Trying again until it works; calls wait for up to %g s, then fail",
            self.name, str(error) or type(error).__name__, self._outage_wait, exc_info=error if unexpected else None,
        )  # fmt: skip

    def up(self) -> None:
        since, self._since = self._since, None
        if self._is_said and since is not None:
            self._is_said = False
            logger.warning(
                "%s is back after %.1f s; %d calls failed in between",
                self.name,
                time.monotonic() - since,
                self._statistics.unavailable - self._failed_before,
            )
