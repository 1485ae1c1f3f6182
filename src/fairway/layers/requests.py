"""Channels of other processes in groups: each process adds its own, and takes them out, when it is asked to.

A process carries out so many requests at a time; some more wait for their turn, and further ones are refused. Whoever
asks is answered in any case, unless the process, or the service between them, is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Awaitable
from typing import Any, NamedTuple

from fairway.layers.backplane import BackplaneError, Unavailable
from fairway.layers.codec import Codec, Kind
from fairway.layers.hub import Hub
from fairway.layers.interests import subject_of
from fairway.layers.session import Session
from fairway.logs import FaultLog

REQUEST_TIMEOUT = 5.0
"""Seconds that another process has to add its channel to a group, or to take it out."""

MOST_REQUESTS = 1000
MOST_WAITING = 10_000
"""How many requests of other processes may be in progress, and how many may wait for that. Further ones are refused."""

BUSY, FAILED = "busy", "failed"
_WHY = {
    BUSY: "has too many requests to add channels to groups, or to take them out, and has not carried out this one",
    FAILED: "could not carry this out: the channel layer's service is away for it, or has refused",
}
"""Why a request was not carried out, as processes tell it, and as people are told."""

_MANY = f"{MOST_REQUESTS} of other processes are in progress, and {MOST_WAITING} wait"


def subject_of_process(process: str) -> str:
    """The subject of messages to the channels of one process."""
    return f"p.{process}"


def process_of(channel: str) -> str | None:
    """The process that a channel belongs to. None for a queue, which any process may read."""
    head, mark, _ = channel.partition("!")
    return head.rpartition(".")[2] if mark else None


async def join(session: Session, hub: Hub, group: str, channel: str) -> None:
    """Add a channel of this process to a group. Whatever is sent to the group after this has returned reaches it.

    If it raises, the channel is not in the group, unless it was in it before.
    """
    was_in = channel in hub.groups.get(group, ())
    hub.group_add(group, channel)
    try:
        await session.stand(subject_of(group))
    except BackplaneError:
        if not was_in:
            hub.group_discard(group, channel)
        raise


class Request(NamedTuple):
    """Another process asks this one to add its channel to a group, or to take it out."""

    kind: Kind
    group: str
    channel: str
    asker: str
    ticket: int


class Requests:
    """What this process asks of others, and they of it. Call everything in the session's event loop."""

    def __init__(self, hub: Hub, codec: Codec, faults: FaultLog) -> None:
        self._hub = hub
        self._codec = codec
        self._faults = faults
        self._tickets = itertools.count()
        self._asked: dict[int, asyncio.Future[object]] = {}
        self._in_progress: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[float, Session, Request]] = deque()  # since when
        self._refusing: asyncio.Task[None] | None = None

    async def ask(self, session: Session, kind: Kind, group: str, channel: str, me: str, process: str) -> None:
        """Make another process add its channel to a group, or take it out. Does nothing if that process is gone.

        Raises `Unavailable` if it does not answer, or answers that it has not done so.
        """
        ticket = next(self._tickets)
        future = self._asked[ticket] = session.loop.create_future()
        try:
            subject = subject_of_process(process)
            request = self._codec.encode(kind, [group, channel, me, ticket], subject)
            if await session.backplane.publish(subject, request) == 0:
                return
            async with asyncio.timeout(REQUEST_TIMEOUT):
                why = await future
            if why is not None:
                raise Unavailable(f"the process of {channel} {_WHY.get(str(why), 'has not carried this out')}")
        except TimeoutError:
            raise Unavailable(f"the process of {channel} did not answer within {REQUEST_TIMEOUT:g} s") from None
        finally:
            del self._asked[ticket]

    def answered(self, body: Any) -> None:
        """Another process has answered. The body comes from anybody: a TypeError or ValueError refuses it."""
        ticket, why = body if len(body) == 2 else (*body, None)
        future = self._asked.get(ticket)
        if future is not None:
            # Who has asked may have done so over an earlier session, in another loop.
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_settle, future, why)

    def take_in(self, session: Session, request: Request) -> None:
        """Another process has asked."""
        if len(self._in_progress) < MOST_REQUESTS:
            self._begin(session, request)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting.append((time.monotonic(), session, request))
        else:
            self._refuse(session, request)

    def _begin(self, session: Session, request: Request) -> None:
        task = session.loop.create_task(self._carry_out(session, request))
        self._in_progress.add(task)
        task.add_done_callback(self._carried_out)

    def _carried_out(self, task: asyncio.Task[None]) -> None:
        self._in_progress.discard(task)
        while self._waiting and len(self._in_progress) < MOST_REQUESTS:
            since, session, request = self._waiting.popleft()
            # Whoever has asked earlier than that has given up, and does not expect it any more.
            if not session.is_closed and time.monotonic() - since < REQUEST_TIMEOUT:
                self._begin(session, request)

    async def _carry_out(self, session: Session, request: Request) -> None:
        why = None
        try:
            if request.kind is Kind.LEAVE:
                self._hub.group_discard(request.group, request.channel)
            else:
                await join(session, self._hub, request.group, request.channel)
        except BackplaneError:
            why = FAILED
        with contextlib.suppress(BackplaneError):  # the process that has asked gets no answer, and raises there
            await session.backplane.publish(*self._answer(request, why))

    def _refuse(self, session: Session, request: Request) -> None:
        """Say so at once, unless so many answers are under way that even this would have to wait."""
        self._faults.report(time.monotonic(), "requests", "Refused a request for %s: %s", request.channel, _MANY)
        if self._refusing is not None and not self._refusing.done():
            return
        sent = session.backplane.post(*self._answer(request, BUSY))
        if sent is not None:
            self._refusing = session.loop.create_task(_settled(sent))

    def _answer(self, request: Request, why: str | None) -> tuple[str, bytes]:
        """The subject of the answer, and its bytes."""
        subject = subject_of_process(request.asker)
        body = [request.ticket] if why is None else [request.ticket, why]
        return subject, self._codec.encode(Kind.DONE, body, subject)


def _settle(future: asyncio.Future[object], why: object) -> None:
    if not future.done():
        future.set_result(why)


async def _settled(sent: Awaitable[None]) -> None:
    with contextlib.suppress(BackplaneError):
        await sent
