"""The backplane over a local broker: this process's subscriptions, its readers of queues, and one link."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fairway.layers.backplane import (
    Backplane,
    BackplaneError,
    BackplaneStatistics,
    Events,
    Followers,
    QueueFull,
    Refused,
    Unavailable,
)
from fairway.layers.kept import Kept
from fairway.layers.local import protocol
from fairway.layers.local.connecting import connect
from fairway.layers.local.link import Frame, Link
from fairway.layers.local.place import Place
from fairway.layers.local.presence import LocalPresence
from fairway.layers.local.protocol import Answer, Ask
from fairway.layers.local.readers import Readers
from fairway.layers.local.streams import LocalStreams

LONGEST_PAUSE = 1.0
"""Most seconds between two attempts to reach the broker, which is on this machine and starts in a moment."""


class LocalBackplane(Backplane):
    """If no broker listens, `start_broker` is called, unless it is None. Times are in seconds."""

    def __init__(
        self,
        place: Place,
        prefix: str,
        start_broker: Callable[[], Awaitable[None]] | None = None,
        answer_timeout: float = 5.0,
        outage_wait: float = 2.0,
        linger: float = 3.0,
    ) -> None:
        self.statistics = BackplaneStatistics()
        self.followers = _Followers(self)
        self.presence = LocalPresence(self.call, linger)
        self.streams = LocalStreams(self.ask, lambda: self.statistics)
        self._place = place
        self._prefix = prefix
        self._start_broker = start_broker
        self._answer_timeout = answer_timeout
        self._outage_wait = outage_wait
        self._subjects: dict[str, None] = {}
        self._readers = Readers(lambda: self.statistics, lambda: self._link, lambda: self._keeper.standing())
        self._events: Events
        self._kept: Kept[Link] | None = None

    @property
    def is_up(self) -> bool:
        return self._kept is not None and self._kept.link is not None

    def problem(self) -> BackplaneError | None:
        return None if self._kept is None else self._kept.problem()

    def start(self, events: Events) -> None:
        self._events = events
        self._kept = Kept(
            f"The broker at {self._place.path}",
            self.statistics,
            answer_timeout=self._answer_timeout,
            outage_wait=self._outage_wait,
            longest_pause=LONGEST_PAUSE,
            dial=self._dial,
            told=self._told,
        )

    async def close(self, drain: float = 1.0) -> None:
        await self._readers.close(drain)
        if self._kept is not None:
            await self._kept.close(drain)

    # Subjects -------------------------------------------------------------------------------------------------

    def post(self, subject: str, data: bytes) -> Awaitable[None] | None:
        link = self._link
        if link is None:
            return self._post_later(subject, data)
        self.statistics.published += 1
        return link.post(subject, data)

    async def publish(self, subject: str, data: bytes) -> int | None:
        _, _, body = await self.call(protocol.publish(subject, data))
        heard = protocol.number(body)
        self.statistics.published += 1
        self.statistics.unheard += not heard
        return heard

    async def subscribe(self, subjects: Sequence[str]) -> None:
        link = await self._keeper.standing()
        new = [subject for subject in subjects if subject not in self._subjects]
        self._subjects.update(dict.fromkeys(subjects))
        try:
            await self._keeper.answer(_subscribe(link, subjects, self._keeper))
        except BaseException:
            for subject in new:
                self._subjects.pop(subject, None)
            raise

    async def unsubscribe(self, subjects: Sequence[str]) -> None:
        for subject in subjects:
            self._subjects.pop(subject, None)
        link = self._link
        if link is not None:
            await link.call_all(list(protocol.names(Ask.UNSUBSCRIBE, subjects)))

    # Queues ---------------------------------------------------------------------------------------------------

    async def push(self, queue: str, data: bytes, capacity: int, expiry: float) -> None:
        op, _, _ = await self.call(protocol.push(queue, data, capacity, expiry))
        if op is Answer.FULL:
            raise QueueFull(f"the queue {queue} holds {capacity} messages")

    async def pull(self, queue: str) -> bytes:
        return await self._readers.pull(queue)

    async def flush(self) -> None:
        await self.call(protocol.frame(Ask.FLUSH))

    # The link -------------------------------------------------------------------------------------------------

    @property
    def _link(self) -> Link | None:
        return None if self._kept is None else self._kept.link

    async def call(self, frame: bytes) -> Frame:
        """Send a frame and return the broker's answer. Raises `Unavailable` if it falls silent."""
        return await self.ask(lambda link: link.call(frame))

    async def ask(self, asked: Callable[[Link], Awaitable[Frame]]) -> Frame:
        """The answer to a frame that `asked` sends. Otherwise like `call`."""
        link = await self._keeper.standing()
        try:
            return await self._keeper.answer(asked(link))
        except Refused:
            self.statistics.refused += 1
            raise

    @property
    def _keeper(self) -> Kept[Link]:
        if self._kept is None:
            raise Unavailable("the backplane has not been started")
        return self._kept

    async def _post_later(self, subject: str, data: bytes) -> None:
        link = await self._keeper.standing()
        self.statistics.published += 1
        waiting = link.post(subject, data)
        if waiting is not None:
            await waiting

    async def _dial(self) -> Link:
        """Connect, say hello, and subscribe to everything."""
        link = Link(self)
        try:
            await connect(link, self._place, self._start_broker)
            subjects = list(self._subjects)
            # Both together: a broker that has just taken over waits until everybody has subscribed again.
            greeting = [protocol.hello(self._prefix), *protocol.names(Ask.SUBSCRIBE, subjects)]
            try:
                await link.call_all(greeting)
            except Refused as error:
                if not str(error).startswith(protocol.OLDER) or self._start_broker is None:
                    raise
                await self._start_broker()
                raise Unavailable("a newer broker takes over") from None
            # Catch up with subjects that were dropped or added meanwhile.
            gone = [subject for subject in subjects if subject not in self._subjects]
            new = list(self._subjects.keys() - set(subjects))
            await link.call_all(
                [*protocol.names(Ask.UNSUBSCRIBE, gone), *protocol.names(Ask.SUBSCRIBE, new)],
            )
        except BaseException:
            if hasattr(link, "transport"):
                link.abort(ConnectionError("it could not be used"))
            raise
        return link

    def _told(self, error: Exception | None) -> None:
        if error is not None:
            self._events.down(error)
            return
        link = self._link
        if link is not None:
            self._readers.ask_again(link)
        self._events.up()

    # What the link reports (`Owner`) --------------------------------------------------------------------------

    def pushed(self, subject: str, data: bytes) -> Awaitable[None] | None:
        # It was on its way when the subscription ended: nobody wants it.
        if subject not in self._subjects:
            return None
        self.statistics.received += 1
        return self._events.message(subject, data)

    def item(self, queue: str, data: bytes) -> None:
        self._readers.item(queue, data)

    def going(self, link: Link) -> None:
        if self._kept is not None:
            self._kept.retire(link)

    def lost(self, link: Link, error: Exception) -> None:
        if self._kept is not None:
            self._kept.lost(link, error)


async def _subscribe(link: Link, subjects: Sequence[str], keeper: Kept[Link]) -> None:
    try:
        await link.call_all(list(protocol.names(Ask.SUBSCRIBE, subjects)))
    except Unavailable:
        # The next link subscribes to everything.
        await keeper.standing()


class _Followers(Followers):
    def __init__(self, backplane: LocalBackplane) -> None:
        self._backplane = backplane

    async def add(self, group: str, queue: str, expiry: float) -> None:
        await self._backplane.call(protocol.follow(group, queue, expiry))

    async def remove(self, group: str, queue: str) -> None:
        await self._backplane.call(protocol.frame(Ask.UNFOLLOW, group, queue.encode("ascii")))

    async def all(self) -> Sequence[tuple[str, str, float]]:
        _, _, body = await self._backplane.call(protocol.frame(Ask.FOLLOWING))
        return protocol.read_followers(body)
