"""One process among those that share a backplane: its name, what it receives, and where its connection lives.

A `Node` joins the parts of one layer. Its `Home` knows which event loop has the connection, its `Interests` know which
subjects to subscribe to, its `Receiver` hands what arrives to the hub, and its `Sender`, if it has one, serves code
without an event loop. Methods may be called from any event loop; those that return an awaitable must be called in one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

from fairway.delivery import Message, Payload, register_source
from fairway.layers.background import background
from fairway.layers.backplane import Backplane, BackplaneError, QueueFull
from fairway.layers.blocking import Sender
from fairway.layers.codec import EVENT, Codec, Kind, place_of_queue
from fairway.layers.drops import count_lost
from fairway.layers.errors import ChannelFull, Undecodable
from fairway.layers.following import Following
from fairway.layers.home import Home
from fairway.layers.hub import Hub
from fairway.layers.interests import Interests, subject_of
from fairway.layers.receiver import CONTROL, Receiver
from fairway.layers.requests import join, process_of, subject_of_process
from fairway.layers.session import Session

# For a message that goes back to its queue, because its reader has gone.
_ANY_CAPACITY, _PUT_BACK_EXPIRY = 2**31, 60.0


class Node:
    """One layer's place in its backplane.

    `name` is the process's name. `mark` is the part that the names of all its channels contain, and no other names do.
    `label` names the layer in its probe.
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
        self._receiver = receiver
        self._call_it(_new_name())
        self.statistics = receiver.statistics
        self.followers = receiver.followers
        self._hub = hub
        self._codec = codec
        self._make_backplane = make_backplane
        self._confirm = confirm
        self._interests = Interests(self._subject, CONTROL)
        self.home = Home(label, self._open_session, self._forked)
        self.following = Following(self.home, hub, codec, receiver, self.push)
        self.sender: Sender | None = None
        """For code without an event loop; None if the backplane can only be reached from one."""
        hub.watch(self._interests)
        register_source("backplane", self.statistics)

    def _open_session(self) -> Session:
        backplane = self._make_backplane()
        backplane.statistics = self.statistics
        session = Session(backplane, self._receiver, self._interests, self._round_trip)
        self._receiver.forget_followers()
        if self._receiver.streaming is not None:
            self._receiver.streaming.start(session)
        # In the background loop nobody would learn that a message could not be sent, so senders wait there.
        session.posts = not self._confirm and not background.is_its_own(session.loop)
        session.start()
        return session

    def _round_trip(self, number: int) -> tuple[str, bytes]:
        return self._subject, self._codec.encode(Kind.ROUND, [number], self._subject)

    def _forked(self) -> None:
        self._call_it(_new_name())
        self._interests.start_anew(self._subject, CONTROL)

    async def close(self) -> None:
        """Send what is still waiting, and disconnect. A later call connects again."""
        self._close_sender()
        await self.home.close()

    def retire(self) -> None:
        """Close soon, without waiting. Any thread and any event loop may call it."""
        self._close_sender()
        self.home.retire()

    def _close_sender(self) -> None:
        if self.sender is not None:
            self.sender.close()

    def reopened(self, message: Message) -> Message:
        """The message as it would arrive in another process."""
        return self._codec.reopened(message)

    @property
    def is_ready(self) -> bool:
        """Whether other processes can reach this one, over a connection in the running loop."""
        return self._interests.is_standing(self._subject) and self.home.here() is not None

    async def get_ready(self) -> None:
        """Make this process reachable. If the service is away this fails silently: clients are served without it."""
        own = self._subject
        with suppress(BackplaneError):
            await self.home.call(lambda session: session.stand(own), receives=True)

    def _call_it(self, name: str) -> None:
        """Give the process its name."""
        self.name = self._receiver.process = name
        self.mark = f".{name}!"
        self._subject = subject_of_process(name)

    # Subjects -------------------------------------------------------------------------------------------------

    def group_send(self, group: str, message: Message) -> Awaitable[object] | None:
        """Send to every process with members. Await the result, if there is one, before sending more."""
        if self.followers.is_idle:
            return self._post(subject_of(group), EVENT, message)
        return self._send_and_push(group, lambda: self._post(subject_of(group), EVENT, message), message)

    def broadcast(self, group: str, payload: Payload, exclude: Iterable[str]) -> Awaitable[object] | None:
        """Like `group_send`. Each process applies its own policy for slow clients."""
        excluded = list(exclude)
        body = [payload.text, payload.data, excluded]
        if self.followers.is_idle:
            return self._post(subject_of(group), Kind.BROADCAST, body)
        return self._send_and_push(
            group, lambda: self._post(subject_of(group), Kind.BROADCAST, body), payload.as_message(), excluded
        )

    async def _send_and_push(
        self,
        group: str,
        send: Callable[[], Awaitable[object] | None],
        message: Message,
        excluded: Collection[str] = (),
    ) -> None:
        """Call `send`, which sends to the group's members, and push the message to the queues that follow the group."""
        await self.following.know()
        sent = send()
        if sent is not None:
            await sent
        await self.following.push(group, message, excluded)

    def post_to_process(self, process: str, kind: Kind, body: Any) -> Awaitable[object] | None:
        """Send to one process. Await the result, if there is one, before sending more."""
        return self._post(subject_of_process(process), kind, body)

    def _post(self, subject: str, kind: Kind, body: Any) -> Awaitable[object] | None:
        return self.home.post(subject, self._codec.encode(kind, body, subject))

    async def join(self, group: str, channel: str) -> None:
        """Add a channel of any process to a group. Whatever is sent to the group after this returns reaches it."""
        process = process_of(channel)
        if process is None:
            await self.following.add(group, channel)
        elif process != self.name:
            await self._ask(Kind.JOIN, group, channel, process)
        elif self.home.here() is not None and self._interests.is_standing(subject_of(group)):
            self._hub.group_add(group, channel)
        else:
            await self.home.call(lambda session: join(session, self._hub, group, channel), receives=True)

    async def leave(self, group: str, channel: str) -> None:
        """Take a channel of any process out of a group."""
        process = process_of(channel)
        if process == self.name:
            self._hub.group_discard(group, channel)
        elif process is not None:
            await self._ask(Kind.LEAVE, group, channel, process)
        else:
            await self.following.remove(group, channel)

    async def _ask(self, kind: Kind, group: str, channel: str, process: str) -> None:
        me, own = self.name, self._subject

        async def ask(session: Session) -> None:
            await session.stand(own)
            await self._receiver.requests.ask(session, kind, group, channel, me, process)

        await self.home.call(ask)

    # Queues ---------------------------------------------------------------------------------------------------

    async def push(self, queue: str, message: Message) -> None:
        """Add a message to a queue. Raises `ChannelFull` at its capacity."""
        capacity, expiry = self._hub.capacity_of(queue), self._hub.expiry
        data = self._codec.encode(EVENT, message, place_of_queue(queue))
        try:
            await self.home.call(lambda session: session.backplane.push(queue, data, capacity, expiry))
        except QueueFull:
            raise ChannelFull(queue) from None

    async def pull(self, queue: str) -> Message:
        """Wait for the next message of a queue, past those that cannot be decoded. Cancelling loses nothing."""
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
                await put_back(session, queue, data)
            return data

        try:
            return await self.home.call(pull, receives=True)
        except BaseException:
            left = handover.give_up()
            session = self.home.session
            if left is not None and session is not None:
                asyncio.run_coroutine_threadsafe(put_back(session, queue, left), session.loop)
            raise

    async def flush(self) -> None:
        """Forget all messages, all groups, and who is present, in every process."""
        self._hub.flush()
        data = self._codec.encode(Kind.FLUSH, [self.name], CONTROL)

        async def flush(session: Session) -> None:
            await session.backplane.flush()
            self._receiver.flush()
            await session.backplane.publish(CONTROL, data)

        await self.home.call(flush)


class _Handover:
    """Hands a message to a reader in another event loop, who may give up before it arrives.

    Either `offer` or `give_up` comes first, and the two sides agree on which: the message is either the reader's, or it
    goes back to its queue.
    """

    __slots__ = ("_data", "_is_over", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: bytes | None = None
        self._is_over = False

    def offer(self, data: bytes) -> bool:
        """Hand the message over. False if the reader has given up."""
        with self._lock:
            if not self._is_over:
                self._data = data
            return not self._is_over

    def give_up(self) -> bytes | None:
        """The reader gives up. Returns the message if it was already offered."""
        with self._lock:
            self._is_over = True
            return self._data


async def put_back(session: Session, queue: str, data: bytes) -> None:
    """Return a message to its queue, because its reader has gone. If that fails, the loss is counted and logged."""
    try:
        await session.backplane.push(queue, data, _ANY_CAPACITY, _PUT_BACK_EXPIRY)
    except BackplaneError as error:
        count_lost(session.backplane.statistics, queue, error)


def _new_name() -> str:
    return os.urandom(8).hex()
