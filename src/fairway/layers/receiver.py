"""What a process receives from others, and where it goes: to the hub, or to a call that waits for it.

Anybody who can reach the service may send messages to it, so each message is checked before it is used. A message that
cannot be decoded is dropped, counted and logged.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from fairway.delivery import Message, Payload, SlowPolicy
from fairway.layers.backplane import BackplaneStatistics, NotAble, Position, Refused
from fairway.layers.codec import EVENT, Codec, Kind
from fairway.layers.contract import BaseChannelLayer
from fairway.layers.errors import Undecodable
from fairway.layers.followers import FollowerTable
from fairway.layers.history_rules import HistoryRules
from fairway.layers.hub import Hub
from fairway.layers.recovery import POSITION, spliced
from fairway.layers.requests import Request, Requests, process_of, subject_of_process
from fairway.layers.session import Session
from fairway.layers.stamps import MARK, unstamped
from fairway.layers.streaming import Streaming
from fairway.logs import FaultLog, get_logger

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,99}")
_LONGEST = 10.0**9  # seconds

MOST_SAID = 1000
"""How many pairs of sender and reason are remembered, to log each once. Beyond that, only the rate is limited."""

CONTROL = "ctl"
"""The subject of messages to all processes."""


class PresenceKeeper(Protocol):
    """What is told of who is present. Bodies come from anybody: a TypeError or ValueError refuses them."""

    def heard(self, session: Session, subject: str, body: Any) -> None:
        """Another process, or this one, has published a difference."""

    def departed(self, body: Any) -> None:
        """A process has died."""

    def flush(self) -> None:
        """The store was emptied: everybody is forgotten."""

    def up(self, session: Session) -> None:
        """The session is connected, for the first time or again."""

    async def closing(self, session: Session) -> None:
        """The session is about to disconnect."""


class Receiver:
    """Delivers through the hub what other processes, and this one, have sent.

    `policy_of` returns a group's policy for slow clients, and `rules` say which groups have a history. Call everything
    in the session's event loop.
    """

    def __init__(
        self, hub: Hub, codec: Codec, policy_of: Callable[[str], SlowPolicy], rules: HistoryRules | None = None
    ) -> None:
        self.statistics = BackplaneStatistics()
        self.streaming = None if rules is None else Streaming(hub, self, rules.keep_of)
        self._hub = hub
        self._codec = codec
        self._policy_of = policy_of
        self._said: set[tuple[str, str]] = set()
        self._faults = FaultLog(get_logger("fairway.layers"), per_second=1)
        self.requests = Requests(hub, codec, self._faults)
        self.followers = FollowerTable()
        self.presence: PresenceKeeper | None = None
        self.process = ""  # the name of this one
        self._reading: asyncio.Task[None] | None = None

    def message(self, session: Session, subject: str, data: bytes) -> Awaitable[None] | None:
        """A message has arrived. Await the result, if there is one, before the next."""
        if self.streaming is not None and data[:1] == MARK:
            kept = unstamped(data)
            if kept is not None:
                return self.streaming.arrived(session, subject, kept)
        try:
            kind, body = self._codec.decode(data, subject)
            if kind is EVENT:
                return self._hub.group_send(subject[2:], body)
            return self._deliver(session, subject, kind, body)
        except Undecodable as error:
            # Other processes may keep messages of a group that has no history here.
            kept = unstamped(data)
            if kept is not None and kept.data[:1] != MARK:
                return self.message(session, subject, kept.data)
            self.undecodable(subject, error)
        except (TypeError, ValueError) as error:
            self.undecodable(subject, _misshapen(error))
        return None

    # Kept messages (`fairway.layers.streaming.Deliverer`) -----------------------------------------------------

    def decoded(self, subject: str, data: bytes) -> tuple[Kind, Any] | None:
        """The kind and body of a message to a group, which belong to the caller. None if it cannot be read; that is
        counted and logged.
        """
        try:
            kind, body = self._codec.decode(data, subject)
            if kind is not EVENT:
                _require(kind in (Kind.BROADCAST, Kind.BROADCAST_JSON), "it is not for a group")
                _broadcast_of(body)
        except Undecodable as error:
            self.undecodable(subject, error)
        except (TypeError, ValueError) as error:
            self.undecodable(subject, _misshapen(error))
        else:
            return kind, body
        return None

    def deliver_kept(
        self, subject: str, kind: Kind, body: Any, position: Position, was_missed: bool
    ) -> Awaitable[None] | None:
        """Deliver a message with its position. Await the result, if there is one, before the next."""
        group, item = subject[2:], self.item(subject, kind, body, position)
        if isinstance(item, Payload):
            return self._hub.group_broadcast(group, item, frozenset(body[2]), was_missed)
        return self._hub.group_send(group, item, was_missed)

    def item(self, subject: str, kind: Kind, body: Any, position: Position) -> Message | Payload:
        """A message as one member gets it: an event, or a payload. The body is used up."""
        text_of_position = str(position)
        if kind is EVENT:
            event: Message = body
            event[POSITION] = text_of_position
            return event
        text, data, _ = _broadcast_of(body)
        if kind is Kind.BROADCAST_JSON and text is not None:
            text = spliced(text, text_of_position)
        group = subject[2:]
        return Payload(text, data, self._policy_of(group), group, text_of_position)

    def undecodable(self, subject: str, error: Undecodable) -> None:
        """Drop a message that cannot be read. One line is logged for each sender and reason."""
        self.statistics.undecodable += 1
        what = error.sender, str(error)
        if what not in self._said and self._faults.counts(time.monotonic(), "undecodable"):
            if len(self._said) < MOST_SAID:
                self._said.add(what)
            self._faults.write("Dropped a message for %s: %s", subject, error)

    def _deliver(self, session: Session, subject: str, kind: Kind, body: Any) -> Awaitable[None] | None:
        if kind is Kind.BROADCAST or kind is Kind.BROADCAST_JSON:
            text, data, excluded = _broadcast_of(body)
            group = subject[2:]
            payload = Payload(text, data, self._policy_of(group), group)
            return self._hub.group_broadcast(group, payload, frozenset(excluded))
        if kind is Kind.DIRECT:
            channel, message = body
            _require_channel_of(subject, channel)
            _require(type(message) is dict, "what it brings is not an event")
            self._hub.send(channel, message)
        elif kind is Kind.DONE:
            self.requests.answered(body)
        elif kind is Kind.ROUND:
            (number,) = body
            session.lag.came(number, time.monotonic())
        elif kind is Kind.PRESENCE and self.presence is not None:
            self.presence.heard(session, subject, body)
        elif kind is Kind.DEPARTED and self.presence is not None:
            self.presence.departed(body)
        elif kind is Kind.FLUSH:
            if body != [self.process]:  # it has come back: what was done since must stay
                self.flush()
        elif kind is Kind.FOLLOW:
            group, queue, seconds = body
            _require_names(group, queue)
            _require(0 <= seconds <= _LONGEST, "its time is none")
            self.followers.add(group, queue, time.monotonic() + seconds)
        elif kind is Kind.UNFOLLOW:
            group, queue = body
            _require_names(group, queue)
            self.followers.remove(group, queue)
        else:
            group, channel, asker, ticket = body
            _require_names(group, asker)
            _require_channel_of(subject, channel)
            _require(type(ticket) is int, "its ticket is none")
            self.requests.take_in(session, Request(kind, group, channel, asker, ticket))
        return None

    def flush(self) -> None:
        """Forget what this process knows: messages, groups, and who is present."""
        self._hub.flush()
        self.followers.replace(())
        if self.presence is not None:
            self.presence.flush()

    # Queues that follow groups --------------------------------------------------------------------------------

    def up(self, session: Session, again: bool) -> None:
        """Read the list of followers. After an outage (`again`), read what was missed, or tell of gaps."""
        self.forget_followers()
        self._read(session)
        if self.presence is not None:
            self.presence.up(session)
        if not again:
            return
        if self.streaming is None:
            self._hub.gaps.tell("outage")
        else:
            self._hub.gaps.tell("outage", self.streaming.has_history)
            self.streaming.up(session)

    def subscribed(self, session: Session, subjects: Sequence[str]) -> None:
        """These subjects are subscribed to now."""
        if self.streaming is not None:
            self.streaming.subscribed(session, subjects)

    def unsubscribed(self, subjects: Sequence[str]) -> None:
        """These subjects are not subscribed to any more."""
        if self.streaming is not None:
            self.streaming.unsubscribed(subjects)

    async def closing(self, session: Session) -> None:
        """The session is about to disconnect."""
        if self.presence is not None:
            await self.presence.closing(session)

    def forget_followers(self) -> None:
        """The list of followers is no longer known."""
        self.followers.forget()
        self._reading = None

    async def know_followers(self, session: Session) -> None:
        """Wait until the list of followers is known. Raises the backplane's error if it cannot be read."""
        while not self.followers.is_known:
            session.check()
            reading = self._reading or self._read(session)
            await asyncio.wait([reading])
            if not reading.cancelled() and (error := reading.exception()) is not None:
                raise error

    def _read(self, session: Session) -> asyncio.Task[None]:
        task = self._reading = session.loop.create_task(self._read_followers(session))
        task.add_done_callback(self._have_read)
        return task

    def _have_read(self, task: asyncio.Task[None]) -> None:
        if task is self._reading:
            self._reading = None
        if not task.cancelled():
            task.exception()  # mark it as retrieved: code that needs the list tries again, and gets the error

    async def _read_followers(self, session: Session) -> None:
        await session.stand(CONTROL)  # changes from now on arrive as messages
        self.followers.begin()
        try:
            rows = await session.backplane.followers.all()
        except (NotAble, Refused):  # then nobody can make a queue follow, or only somebody with more rights than us
            rows = ()
        if asyncio.current_task() is not self._reading:
            return  # the connection was lost meanwhile, and another reading has begun
        now = time.monotonic()
        self.followers.replace((group, queue, now + seconds) for group, queue, seconds in rows)


def _require(is_so: bool, complaint: str) -> None:
    """Raise a ValueError unless a message has the form of this release's messages: it may come from anybody."""
    if not is_so:
        raise ValueError(complaint)


def _misshapen(error: Exception) -> Undecodable:
    return Undecodable(f"the message has not the form of its kind: {error}")


def _broadcast_of(body: Any) -> tuple[str | None, bytes | None, list[str]]:
    """Text, bytes and excluded channels of a broadcast."""
    text, data, excluded = body
    _require(text is None or type(text) is str, "its text is none")
    _require(data is None or type(data) is bytes, "its bytes are none")
    _require((text is None) != (data is None), "it has not either text or bytes")
    _require(type(excluded) is list, "its excluded channels are none")
    return text, data, excluded


def _require_names(*names: Any) -> None:
    _require(all(type(name) is str and _NAME.fullmatch(name) for name in names), "a name in it is none")


def _require_channel_of(subject: str, channel: Any) -> None:
    _require(type(channel) is str and len(channel) < BaseChannelLayer.MAX_NAME_LENGTH, "its channel is none")
    _require(subject == subject_of_process(process_of(channel) or ""), "its channel is not of this process")
