"""Sends over the in-memory layer from code that has no event loop.

The calling thread hands the message to the event loop of the receivers, which sends it. The thread waits until that is
done. So the layer delivers in one way only: a broadcast is written to all sockets in one call, a full channel raises
`ChannelFull`, and a thread that sends faster than the members read is held back. A thread sends one message after
another, so its messages keep their order.

Without members there is no event loop to use, and the thread itself puts the message into a queue. If the event loop of
the members is not running, the thread also delivers the message itself. The members find it when their loop runs again.
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
from fairway.layers.recovery import History, ObjectText
from fairway.layers.tracks import Sought

_LOOK_AGAIN = 0.1  # seconds between a waiting thread's checks that the event loop still runs


class MemorySender:
    """Sends for the in-memory layer, as `Sender` does for layers between processes.

    Any thread without a running event loop may use it.

    A `deadline` is a time of `time.monotonic`. A method raises `TimeoutError` if the receivers' event loop has not sent
    the message by then. If the loop had not begun to send it, the message is not sent.
    """

    def __init__(self, layer: MemoryChannelLayer) -> None:
        self._layer = layer
        self._hub = layer.hub

    def send(self, channel: str, message: Message, deadline: float) -> None:
        """Send to a channel. Raises `ChannelFull` if the channel is at its capacity."""
        target = self._hub.channels.get(channel)
        members = [target] if type(target) is Member else []
        self._deliver(members, partial(self._layer.send, channel, message), deadline)

    def group_send(
        self, group: str, message: Message, deadline: float, keep: bool | None = None, key: str = ""
    ) -> None:
        """Send to all members of a group. For `keep` and `key`, see the layer's method."""
        send = partial(self._layer.group_send, group, message, keep, key)
        self._deliver(self._members_of(group), send, deadline)

    def broadcast(
        self,
        group: str,
        payload: Payload,
        exclude: Iterable[str],
        deadline: float,
        keep: bool | None = None,
        is_object: bool = False,
    ) -> None:
        """Send to the sockets of all members of a group. `is_object`: the text is a JSON object."""
        text = ObjectText(payload.text) if is_object and payload.text is not None else payload.text
        send = partial(self._layer.group_broadcast, group, text, payload.data, exclude=exclude, keep=keep)
        self._deliver(self._members_of(group), send, deadline)

    def history(self, group: str, after: Sought, limit: int, deadline: float) -> History:
        """At most `limit` messages that were sent to a group with a history."""
        keeper = self._layer.keeper
        assert keeper is not None, "the group has a history"
        return keeper.history_now(group, after, limit)

    def _members_of(self, group: str) -> Iterable[Member]:
        roster = self._hub.memberships.roster(group)
        return roster.members if roster is not None else ()

    def _deliver(
        self, members: Iterable[Member], begin: Callable[[], Coroutine[Any, Any, None]], deadline: float
    ) -> None:
        # One loop is enough: from there, the hub also reaches members in other loops.
        loop = next((member.loop for member in members if not member.closed), None)
        if loop is None or not loop.is_running():
            finished(begin())
            return
        done: futures.Future[None] = futures.Future()
        try:
            loop.call_soon_threadsafe(_start, begin, done)
        except RuntimeError:  # the loop was closed after the check
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
"""Deliveries in progress. This set keeps a reference to each task, because an event loop does not."""


def _start(begin: Callable[[], Coroutine[Any, Any, None]], done: futures.Future[None]) -> None:
    """Begin to deliver, unless the waiting thread has given up. Runs in the event loop of the receivers."""
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
        if not done.done():  # cancelled as the event loop ends: its members end too, so no message is missing
            done.set_result(None)


def _wait(done: futures.Future[None], loop: asyncio.AbstractEventLoop, deadline: float) -> None:
    """Return when the delivery is done or the event loop has stopped. Raises `TimeoutError` at the deadline.

    If the loop has stopped, either its members have ended, or the loop continues the delivery when it runs again.
    """
    while not done.done() and loop.is_running():
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the event loop of the receivers has not taken the message in time: what holds it up?")
        futures.wait([done], min(left, _LOOK_AGAIN))
