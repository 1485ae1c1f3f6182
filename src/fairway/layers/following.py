"""Queues that follow groups, in one process: who is in the list that all processes share, and sending to them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection

from fairway.delivery import Message
from fairway.layers.backplane import BackplaneError
from fairway.layers.codec import Codec, Kind
from fairway.layers.errors import ChannelFull
from fairway.layers.followers import MOST_FOLLOWERS
from fairway.layers.home import Home
from fairway.layers.hub import Hub
from fairway.layers.receiver import CONTROL, Receiver
from fairway.layers.session import Session


class Following:
    """Belongs to one node. `push` adds a message to a queue, and raises `ChannelFull` if it is full."""

    def __init__(
        self,
        home: Home,
        hub: Hub,
        codec: Codec,
        receiver: Receiver,
        push: Callable[[str, Message], Awaitable[None]],
    ) -> None:
        self._home = home
        self._hub = hub
        self._codec = codec
        self._receiver = receiver
        self._followers = receiver.followers
        self._push = push

    async def add(self, group: str, queue: str) -> None:
        """Let a queue follow a group. All processes are told."""
        seconds = self._hub.group_expiry
        data = self._codec.encode(Kind.FOLLOW, [group, queue, seconds], CONTROL)

        async def follow(session: Session) -> None:
            await self._receiver.know_followers(session)
            await session.backplane.followers.add(group, queue, seconds)
            if not self._followers.add(group, queue, time.monotonic() + seconds):
                await session.backplane.followers.remove(group, queue)
                raise BackplaneError(f"{MOST_FOLLOWERS:,} queues are in groups, and no more can be")
            await session.backplane.publish(CONTROL, data)

        await self._home.call(follow)

    async def remove(self, group: str, queue: str) -> None:
        """Make a queue stop following a group. All processes are told."""
        data = self._codec.encode(Kind.UNFOLLOW, [group, queue], CONTROL)

        async def unfollow(session: Session) -> None:
            await session.backplane.followers.remove(group, queue)
            self._followers.remove(group, queue)
            await session.backplane.publish(CONTROL, data)

        await self._home.call(unfollow)

    async def know(self) -> None:
        """Wait until it is known which queues follow which groups."""
        if not self._followers.is_known:
            await self._home.call(self._receiver.know_followers)

    async def push(self, group: str, message: Message, excluded: Collection[str] = ()) -> None:
        """Push a message to the queues that follow a group. Full ones miss it, which is counted."""
        queues = [queue for queue in self._followers.of(group, time.monotonic()) if queue not in excluded]
        full = 0
        for queue in queues:
            try:
                await self._push(queue, message)
            except ChannelFull:
                full += 1
        if full:
            self._hub.drops.left_out(group, full, len(queues))
