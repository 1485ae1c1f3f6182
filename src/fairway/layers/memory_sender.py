"""Sending over the layer for a single process from code that has no event loop.

A message is sent in the event loop of its receivers, as if it had been sent there, and the calling thread waits for
that. So the layer has one way to deliver: a broadcast is written to all sockets in one call, a channel that is full
raises `ChannelFull`, and whoever sends faster than the members take is held back. Each thread's messages keep their
order, because it sends one after the other.

No event loop is needed where none has members: the thread itself puts a message into a queue. It also delivers to the
members of a loop that does not run, who find the message when it runs again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent import futures
from functools import partial
from typing import Any

from fairway.delivery import Member, Message, Payload
from fairway.layers.background import finished
from fairway.layers.memory import MemoryChannelLayer

_LOOK_AGAIN = 0.1  # seconds after which a waiting thread looks whether the event loop still runs


class MemorySender:
    """What `Sender` is for the layers between processes. Any thread may call it that has no running event loop.

    `deadline` is that of `time.monotonic`; TimeoutError if the event loop is held up for so long.
    """

    def __init__(self, layer: MemoryChannelLayer) -> None:
        self._layer = layer
        self._hub = layer.hub

    def send(self, channel: str, message: Message, deadline: float) -> None:
        """Send to a channel. `ChannelFull` if it is."""
        target = self._hub.channels.get(channel)
        members = [target] if type(target) is Member else []
        self._deliver(members, partial(self._layer.send, channel, message), deadline)

    def group_send(self, group: str, message: Message, deadline: float) -> None:
        """Send to all members of a group."""
        self._deliver(self._members_of(group), partial(self._layer.group_send, group, message), deadline)

    def broadcast(self, group: str, payload: Payload, exclude: Iterable[str], deadline: float) -> None:
        """Send to the sockets of all members of a group."""
        send = partial(self._layer.group_broadcast, group, payload.text, payload.data, exclude=exclude)
        self._deliver(self._members_of(group), send, deadline)

    def _members_of(self, group: str) -> Iterable[Member]:
        roster = self._hub.memberships.roster(group)
        return roster.members if roster is not None else ()

    def _deliver(
        self, members: Iterable[Member], begin: Callable[[], Coroutine[Any, Any, None]], deadline: float
    ) -> None:
        # One loop is enough: the hub reaches members of others from there.
        loop = next((member.loop for member in members if not member.closed), None)
        if loop is None or not loop.is_running():
            finished(begin())
            return
        done: futures.Future[None] = futures.Future()
        try:
            loop.call_soon_threadsafe(_start, begin, done)
        except RuntimeError:  # closed since
            finished(begin())
            return
        try:
            _wait(done, loop, deadline)
        except BaseException:
            done.cancel()
            raise
        if done.done():
            done.result()


_deliveries: set[asyncio.Task[None]] = set()
"""Those that have begun: an event loop does not keep its tasks."""


def _start(begin: Callable[[], Coroutine[Any, Any, None]], done: futures.Future[None]) -> None:
    """In the event loop of the receivers: deliver, unless the thread has given up."""
    if done.set_running_or_notify_cancel():
        task = asyncio.ensure_future(_carry_out(begin, done))
        _deliveries.add(task)
        task.add_done_callback(_deliveries.discard)


async def _carry_out(begin: Callable[[], Coroutine[Any, Any, None]], done: futures.Future[None]) -> None:
    try:
        await begin()
    except Exception as error:
        done.set_exception(error)
    finally:
        if not done.done():  # with the event loop its members end, and nobody misses the message
            done.set_result(None)


def _wait(done: futures.Future[None], loop: asyncio.AbstractEventLoop, deadline: float) -> None:
    """Return when it is done, or the event loop has stopped: then its members have ended, or it goes on later
    with what was begun.
    """
    while not done.done() and loop.is_running():
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the event loop of the receivers has not taken the message in time: what holds it up?")
        futures.wait([done], min(left, _LOOK_AGAIN))
