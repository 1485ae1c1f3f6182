"""One Redis that is kept connected (`fairway.layers.kept`), and the subscriptions over its links.

A link is used only once it has subscribed to everything. If Redis refuses a posted message, that is logged, and raised
by the next call that posts.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from fairway.layers.backplane import BackplaneStatistics, Refused, Unavailable
from fairway.layers.kept import Kept
from fairway.layers.parts import parts
from fairway.layers.redis.address import Address
from fairway.layers.redis.link import Link, Reply, ReplyError, judged
from fairway.layers.redis.scripts import run
from fairway.logs import FaultLog, get_logger

logger = get_logger("fairway.layers")

NAMES_PER_COMMAND = 1000
_LONGEST_PAUSE = 5.0
# Replies of a server that is not, or no longer, the one to talk to, or that does not know this connection's user.
_TO_LEAVE = frozenset({"READONLY", "MASTERDOWN", "LOADING", "NOAUTH"})

Take = Callable[[bytes], Awaitable[None] | None]


class Shard:
    """One address, with the link that is `kept` to it. Each name's messages go to its taker.

    `told` is called with None when the shard is up, and with the error when it goes down.
    """

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
        self.longest_reply = longest_reply
        self._takers: dict[bytes, Take] = {}
        self._complaint: ReplyError | None = None
        self._faults = FaultLog(logger, per_second=1)
        self.kept: Kept[Link] = Kept(
            f"Redis at {address}",
            statistics,
            answer_timeout=answer_timeout,
            outage_wait=outage_wait,
            longest_pause=_LONGEST_PAUSE,
            dial=self._connect,
            told=told,
        )

    # Using it -------------------------------------------------------------------------------------------------

    def post(self, name: bytes, data: bytes) -> Awaitable[None] | None:
        """Publish without waiting for the reply. Await the result, if there is one, before posting more."""
        link = self.kept.link
        if link is None or self._complaint is not None:
            return self._post_later(name, data)
        self.statistics.published += 1
        return link.post(name, data)

    async def call(self, *command: bytes | str | int) -> Reply:
        """Send a command and return the reply. Raises `Refused`, and `Unavailable` if Redis falls silent."""
        return await self.ask(lambda link: link.call(*command))

    async def call_all(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[Reply]:
        """Send commands together and return their replies. Otherwise like `call`."""
        replies: list[Reply] = await self.ask(lambda link: link.call_all(commands))
        return replies

    async def run(self, script: str, key: bytes, arguments: Sequence[bytes | int]) -> Reply:
        """Run a script over one key. Otherwise like `call`."""
        return await self.ask(lambda link: run(link, script, key, arguments))

    async def ask(self, asked: Callable[[Link], Awaitable[Reply]]) -> Reply:
        """The reply to a command that `asked` sends. Otherwise like `call`."""
        link = await self.kept.standing()
        try:
            return await self.kept.answer(asked(link))
        except ReplyError as error:
            raise self.refusal(error) from None

    async def subscribe(self, takers: Mapping[bytes, Take]) -> None:
        """Give messages for these names to their takers from now on, over every link. If this raises, none are."""
        link = await self.kept.standing()
        self._takers.update(takers)
        try:
            await self.kept.answer(self._subscribe(link, list(takers)))
        except BaseException as error:
            for name in takers:
                self._takers.pop(name, None)
            if isinstance(error, ReplyError):
                raise self.refusal(error) from None
            raise

    async def _subscribe(self, link: Link, names: Sequence[bytes]) -> None:
        try:
            await _subscribe(link, names)
        except Unavailable:
            # The next link subscribes to everything.
            await self.kept.standing()

    async def unsubscribe(self, names: Sequence[bytes]) -> None:
        """Stop giving messages for these names to their takers."""
        for name in names:
            self._takers.pop(name, None)
        link = self.kept.link
        if link is not None:
            try:
                for part in parts(names, NAMES_PER_COMMAND):
                    await link.acknowledged(b"UNSUBSCRIBE", part)
            except ReplyError as error:
                raise self.refusal(error) from None

    def forget(self, name: bytes) -> None:
        """`unsubscribe` from one name, without waiting."""
        self._takers.pop(name, None)
        if self.kept.link is not None:
            self.kept.link.forget(name)

    def has_taker(self, name: bytes) -> bool:
        """Whether messages for this name are taken."""
        return name in self._takers

    def refusal(self, error: ReplyError) -> Refused | Unavailable:
        """The exception to raise for an error from Redis. If only a new link can help, this one is cut."""
        self.statistics.refused += 1
        if error.code in _TO_LEAVE and self.kept.link is not None:
            self.kept.link.abort(ConnectionError(str(error)))
        return judged(error)

    async def _post_later(self, name: bytes, data: bytes) -> None:
        if self._complaint is not None:
            complaint, self._complaint = self._complaint, None
            raise judged(complaint)
        link = await self.kept.standing()
        self.statistics.published += 1
        waiting = link.post(name, data)
        if waiting is not None:
            await waiting

    # Keeping it -----------------------------------------------------------------------------------------------

    async def _connect(self) -> Link:
        link: Link | None = None
        try:
            link = await self.address.dial(self)
            await self._subscribe_to_everything(link)
        except BaseException as error:
            if link is not None:
                link.abort(ConnectionError("it could not be used"))
            if isinstance(error, ReplyError):
                raise judged(error) from None
            raise
        self._complaint = None
        return link

    async def _subscribe_to_everything(self, link: Link) -> None:
        names = list(self._takers)
        await _subscribe(link, names)
        # Catch up with names that were dropped or added meanwhile.
        gone = [name for name in names if name not in self._takers]
        new = list(self._takers.keys() - set(names))
        for part in parts(gone, NAMES_PER_COMMAND):
            await link.acknowledged(b"UNSUBSCRIBE", part)
        await _subscribe(link, new)

    # What the link reports (`Owner`) --------------------------------------------------------------------------

    def pushed(self, name: bytes, data: bytes) -> Awaitable[None] | None:
        taker = self._takers.get(name)
        return None if taker is None else taker(data)

    def lost(self, link: Link, error: Exception) -> None:
        self.kept.lost(link, error)

    def failed(self, error: ReplyError) -> None:
        self._complaint = error
        self._faults.report(time.monotonic(), "refused", "A message was lost: %s", self.refusal(error))


async def _subscribe(link: Link, names: Sequence[bytes]) -> None:
    for part in parts(names, NAMES_PER_COMMAND):
        await link.acknowledged(b"SUBSCRIBE", part)
