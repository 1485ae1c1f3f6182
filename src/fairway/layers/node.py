"""One process among those that share a backplane: its name, what it receives, and where its connection lives."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from fairway.delivery import Message, Payload, register_source
from fairway.layers.background import background
from fairway.layers.backplane import Backplane, BackplaneError, QueueFull
from fairway.layers.codec import Codec, Kind, place_of_queue
from fairway.layers.errors import ChannelFull, Undecodable
from fairway.layers.home import Home
from fairway.layers.hub import Hub
from fairway.layers.interests import Interests, subject_of
from fairway.layers.receiver import CONTROL, Receiver, join, process_of, subject_of_process
from fairway.layers.session import Session

# Of a message that was taken from a queue and has found no reader.
_ANY_CAPACITY, _PUT_BACK_EXPIRY = 2**31, 60.0


class Node:
    """The part that one layer of this process has in its backplane.

    `name` is that of the process, `mark` what all names of its channels, and no others, have in them. `label` is the
    layer's, in the probe.
    """

    def __init__(
        self,
        label: str,
        hub: Hub,
        codec: Codec,
        receiver: Receiver,
        make_backplane: Callable[[], Backplane],
        confirm: bool,
    ) -> None:
        self._call_it(_new_name())
        self.statistics = receiver.statistics
        self._hub = hub
        self._codec = codec
        self._receiver = receiver
        self._make_backplane = make_backplane
        self._confirm = confirm
        self._interests = Interests(self._subject, CONTROL)
        self.home = Home(label, self._open_session, self._forked)
        hub.watch(self._interests)
        register_source("backplane", self.statistics)

    def _open_session(self) -> Session:
        backplane = self._make_backplane()
        backplane.statistics = self.statistics
        session = Session(backplane, self._receiver, self._interests)
        # In the background loop nobody is told of what could not be sent, unless he waits for it.
        session.posts = not self._confirm and not background.is_its_own(session.loop)
        session.start()
        return session

    def _forked(self) -> None:
        self._call_it(_new_name())
        self._interests.start_anew(self._subject, CONTROL)

    def reopened(self, message: Message) -> Message:
        """A message as it would arrive in another process."""
        return self._codec.reopened(message)

    @property
    def is_ready(self) -> bool:
        """Whether this process is reachable, over a connection in this event loop."""
        return self.home.here() is not None and self._interests.is_standing(self._subject)

    async def get_ready(self) -> None:
        """Let this process be reachable. A service that is away is no reason not to serve a client."""
        own = self._subject
        with suppress(BackplaneError):
            await self.home.call(lambda session: session.stand(own), receives=True)

    def _call_it(self, name: str) -> None:
        """Give the process its name."""
        self.name = name
        self.mark = f".{name}!"
        self._subject = subject_of_process(name)

    # Subjects -------------------------------------------------------------------------------------------------

    def post_to_group(self, group: str, kind: Kind, body: Any) -> Awaitable[object] | None:
        """Send to all processes with members; what is returned, if anything, is to be awaited before sending more."""
        return self._post(subject_of(group), kind, body)

    def broadcast(self, group: str, payload: Payload, exclude: Iterable[str]) -> Awaitable[object] | None:
        """As `post_to_group`. Each process has its own policy for slow clients."""
        return self.post_to_group(group, Kind.BROADCAST, [payload.text, payload.data, list(exclude)])

    def post_to_process(self, process: str, kind: Kind, body: Any) -> Awaitable[object] | None:
        """Send to one process; what is returned, if anything, is to be awaited before sending more."""
        return self._post(subject_of_process(process), kind, body)

    def _post(self, subject: str, kind: Kind, body: Any) -> Awaitable[object] | None:
        return self.home.post(subject, self._codec.encode(kind, body, subject))

    async def join(self, group: str, channel: str) -> None:
        """Add a channel, of whichever process, to a group. What is sent to the group afterwards reaches it."""
        process = process_of(channel)
        if process is None:
            raise NotImplementedError(
                f"{channel} is a queue, which one of several workers reads, and cannot be in a group: "
                "send to it directly, or add the channel_name of a consumer"
            )
        if process != self.name:
            await self._ask(Kind.JOIN, group, channel, process)
        elif self.home.here() is not None and self._interests.is_standing(subject_of(group)):
            self._hub.group_add(group, channel)
        else:
            await self.home.call(lambda session: join(session, self._hub, group, channel), receives=True)

    async def leave(self, group: str, channel: str) -> None:
        """Take a channel, of whichever process, out of a group."""
        process = process_of(channel)
        if process == self.name:
            self._hub.group_discard(group, channel)
        elif process is not None:
            await self._ask(Kind.LEAVE, group, channel, process)

    async def _ask(self, kind: Kind, group: str, channel: str, process: str) -> None:
        me, own = self.name, self._subject

        async def ask(session: Session) -> None:
            await session.stand(own)
            await self._receiver.ask(session, kind, group, channel, me, process)

        await self.home.call(ask)

    # Queues ---------------------------------------------------------------------------------------------------

    async def push(self, queue: str, message: Message, capacity: int, expiry: float) -> None:
        """Add a message to a queue; `ChannelFull` at its capacity."""
        data = self._codec.encode(Kind.EVENT, message, place_of_queue(queue))
        try:
            await self.home.call(lambda session: session.backplane.push(queue, data, capacity, expiry))
        except QueueFull:
            raise ChannelFull(queue) from None

    async def pull(self, queue: str) -> Message:
        """Wait for the next message of a queue that can be read."""
        while True:
            data = await self._pull(queue)
            try:
                message: Message = self._codec.decode(data, place_of_queue(queue))[1]
            except Undecodable as error:
                self._receiver.undecodable(queue, error)
            else:
                return message

    async def _pull(self, queue: str) -> bytes:
        handover = _Handover()

        async def pull(session: Session) -> bytes:
            data = await session.backplane.pull(queue)
            if not handover.offer(data):
                await _put_back(session, queue, data)
            return data

        try:
            return await self.home.call(pull, receives=True)
        except BaseException:
            left = handover.give_up()
            session = self.home.session
            if left is not None and session is not None:
                asyncio.run_coroutine_threadsafe(_put_back(session, queue, left), session.loop)
            raise

    async def flush(self) -> None:
        """Forget all messages and all groups, in every process."""
        self._hub.flush()
        data = self._codec.encode(Kind.FLUSH, [], CONTROL)

        async def flush(session: Session) -> None:
            await session.backplane.flush()
            await session.backplane.publish(CONTROL, data)

        await self.home.call(flush)


class _Handover:
    """A message on its way to a reader in another event loop, who may give up before it arrives."""

    __slots__ = ("_data", "_is_over", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: bytes | None = None
        self._is_over = False

    def offer(self, data: bytes) -> bool:
        """Whether the reader still waits."""
        with self._lock:
            if not self._is_over:
                self._data = data
            return not self._is_over

    def give_up(self) -> bytes | None:
        """Want nothing any more; what was on its way, if anything."""
        with self._lock:
            self._is_over = True
            return self._data


async def _put_back(session: Session, queue: str, data: bytes) -> None:
    with suppress(BackplaneError):
        await session.backplane.push(queue, data, _ANY_CAPACITY, _PUT_BACK_EXPIRY)


def _new_name() -> str:
    return os.urandom(8).hex()
