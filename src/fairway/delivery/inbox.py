"""The queue of messages and events for one consumer.

Theory of operation. An inbox stands between the senders and the one task of a consumer. It has two lanes: the *client*
lane for what the client sends, and the *layer* lane for what channel layers send. There are three kinds of callers, all
in the event loop of the inbox:

* The *source*, which is the connection or a pump, puts in what the client sends (`put_client`, `put_long`,
  `put_disconnect`). It stops reading from the client while the client lane is full.
* Channel layers put in events and payloads (`put_layer`). They are refused while the layer lane is full.
* The consumer takes items (`take_nowait`). If there is none, it waits for one (`wait`).

The consumer is in one of three states:

* *Running*: there is no waiter. New items are appended to their lane.
* *Parked*: the consumer waits, and both lanes are empty. A new item is handed to the waiter. This ends the state at
  once, although the task itself only runs in the next pass of the event loop.
* *Due*: the consumer waits, but an item lies in a lane, because enough other consumers run in this pass, or enough
  others with long messages (see `Waker`). New items for that lane queue behind it. The waker calls `wake` in a later
  pass, unless an item for the other lane ends the wait before.

`parked` is true only in the second state. A sender to a whole group checks nothing else: if `parked` is true, no
earlier item can still be on its way to this consumer, so the sender may write a frame to the consumer's socket
directly. Therefore whatever ends this state must set `parked` to False before it does anything else.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable
from sys import getsizeof
from typing import Any, Protocol

from fairway.delivery.lane import Lane, counted
from fairway.delivery.payload import Message, Payload, SlowPolicy, Unjoined


class Source(Protocol):
    """Fills the client lane of an inbox. It stops reading when the lane is full."""

    def resume_reading(self) -> None:
        """Continue reading. Called when the lane has room again, after `Inbox.pause`."""

    def parking(self) -> None:
        """Called when the consumer has nothing to do and is about to wait."""


_TEXT_SIZE, _BYTES_SIZE = getsizeof(""), getsizeof(b"")


def _size_of(item: Any) -> int:
    """Return how many bytes of memory an item counts for in a client lane.

    Only messages count. Other items, such as events, count towards the number of messages only.
    """
    # For `str` and `bytes`, this is what `getsizeof` returns, in half the time.
    kind = type(item)
    if kind is str:
        return len(item) + _TEXT_SIZE if item.isascii() else getsizeof(item)
    if kind is bytes:
        return len(item) + _BYTES_SIZE
    return getsizeof(item) if kind is not dict and isinstance(item, Unjoined) else 0


LONG_MESSAGE = 1 << 15
"""Characters or bytes from which a message counts as long. Decoding and encoding JSON of this length takes 0.3 ms."""

WAKES_PER_PASS = 128
"""How many consumers channel layers may wake in one pass of the loop: 1 to 2 ms, at 10 µs for a short handler."""


class Sleeper(Protocol):
    """Something that waits, and that a `Waker` can wake in a later pass."""

    def wake(self) -> None:
        """If the consumer still waits, hand over the next item."""


class Waker(Protocol):
    """Decides which consumers of one event loop are woken in which pass, so that no pass takes long."""

    def woken(self) -> None:
        """A waiting consumer has been given an item, and runs in the next pass."""

    def may_wake(self) -> bool:
        """Whether a channel layer may wake one more consumer in this pass."""

    def wake_later(self, inbox: Inbox) -> None:
        """Call `Inbox.wake` in a later pass, because enough consumers run in this one."""

    def wake_to_end(self, sleeper: Sleeper) -> None:
        """Call `sleeper.wake` for a disconnect: at once if there were few others in this pass, otherwise later."""

    def may_take_long(self, size: int) -> bool:
        """Whether a running consumer may take a long message in this pass. If so, the message is counted."""

    def wake_for_long(self, sleeper: Sleeper, size: int) -> None:
        """Call `sleeper.wake` for a long message: at once if there were few others in this pass, otherwise later."""

    def rest(self, size: int) -> Awaitable[None]:
        """What a consumer awaits between two steps with a message of this size, so that others have their turn."""


@functools.lru_cache(maxsize=64)
def _shared_bounds(max_messages: int, max_size: int) -> tuple[int, int]:
    return max_messages, max_size


class Inbox:
    """Two bounded lanes of items for one consumer, which are taken in turn, and one waiter.

    The *client* lane holds messages of the client as `str` and `bytes`, and other events as dicts. Its source keeps it
    bounded: it checks `full`, and pauses. `max_size` is in bytes of memory. The *layer* lane holds events and payloads
    from channel layers. `put_layer` refuses items above its capacity. Those of `put_missed` do not count towards it.
    Neither lane can hold up the other.

    Once the disconnect is in the client lane, this lane is emptied first, so that no traffic of the layer delays the
    disconnect. Messages that the client sent before it left come before the disconnect.
    """

    __slots__ = (
        "_ending",
        "_layer",
        "_layer_next",
        "_paused",
        "_waiter",
        "bounds",
        "client",
        "client_size",
        "loop",
        "on_ending",
        "parked",
        "source",
        "waker",
    )

    client: deque[Any] | None
    """The items in the client lane; None if it is empty. Callers must not change it."""

    client_size: int
    """Bytes of memory that the messages in the client lane take."""

    parked: bool
    """Whether the consumer waits and has seen everything: no item is queued, and no disconnect has come."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: Source | None = None,
        max_messages: int = 64,
        max_size: int = 1 << 20,
        waker: Waker | None = None,
    ) -> None:
        self.loop = loop
        self.source = source
        self.waker = waker
        # All inboxes with the same bounds share one tuple. Two attributes would cost 8 more bytes for each connection.
        self.bounds = _shared_bounds(max_messages, max_size)
        self.client = None
        self._layer: deque[Any] | None = None
        self._waiter: asyncio.Future[Any] | None = None
        self.on_ending: Callable[[], object] | None = None
        self.client_size = 0
        self._layer_next = False
        self._paused = False
        self._ending = False
        # A slot is faster than a property. A sender to thousands of members reads only this.
        self.parked = False

    def put_client(self, item: Any) -> None:
        """Add a message of the client (`str`, `bytes`) or an event (dict). Never refuses: the source checks `full`."""
        # A waiting consumer gets a message of its client at once, however many others run in this pass. Only events of
        # layers (`put_layer`), long messages (`put_long`) and disconnects are spread over passes. If such a message
        # already waits in the client lane, this one queues behind it.
        waiter = self._waiter
        if waiter is not None and self.client is None:
            self._waiter = None
            self.parked = False
            # A waiter that is done was cancelled. Its task has not run yet, and will not take the item.
            if not waiter.done():
                waiter.set_result(item)
                if self.waker is not None:
                    self.waker.woken()
                return
        # Most lanes are empty most of the time, and an empty deque takes 600 bytes and more.
        if self.client is None:
            self.client = deque()
        self.client.append(item)
        self.client_size += _size_of(item)

    def put_long(self, item: str | bytes | Unjoined) -> None:
        """Like `put_client`, for messages of `LONG_MESSAGE` or more: the waker says when a waiting consumer runs."""
        waiter, waker = self._waiter, self.waker
        if waiter is None or self.client is not None or waiter.done():
            self.put_client(item)
            return
        if waker is None:
            self.put_client(item.whole() if isinstance(item, Unjoined) else item)
            return
        self.parked = False
        self.client = deque((item,))
        self.client_size += _size_of(item)
        waker.wake_for_long(self, len(item))

    def put_disconnect(self, event: Message) -> None:
        """Add the last event of the client, and call `on_ending`.

        The waker decides when a waiting consumer gets the event, so that the consumers of thousands of clients that
        leave together run in several passes.
        """
        # From here on, `take_nowait` empties the client lane first, and `wait` never parks the consumer: nothing may be
        # written to the socket of a consumer that has seen its disconnect.
        self._ending = True
        waiter, waker = self._waiter, self.waker
        # If a long message waits in the lane for its turn, the event queues behind it.
        if waiter is None or waker is None or self.client is not None or waiter.done():
            self.put_client(event)
        else:
            self.parked = False
            self.client = deque((event,))
            waker.wake_to_end(self)
        if self.on_ending is not None:
            self.on_ending()

    def put_layer(self, item: Any, capacity: int) -> bool:
        """Add an event or a payload of a layer. False if `capacity` items already wait: then the item is not kept."""
        # Whatever happens to the item below, later items must come after it, so `parked` must be False at once. If the
        # item is refused, it is False anyway: the lane is full.
        waiter, layer = self._waiter, self._layer
        self.parked = False
        # If the lane already holds something, the waker will wake the waiter, and this item queues behind.
        if waiter is not None and layer is None:
            waker = self.waker
            if waiter.done():
                self._waiter = None
            elif waker is None:  # with another project's server, nobody counts woken consumers
                self._waiter = None
                waiter.set_result(item)
                return True
            elif waker.may_wake():
                self._waiter = None
                waiter.set_result(item)
                waker.woken()
                return True
            else:
                waker.wake_later(self)
        if layer is None:
            layer = self._layer = deque()
        elif len(layer) >= capacity and counted(layer) >= capacity:
            return False
        layer.append(item)
        return True

    def put_missed(self, item: Any, capacity: int) -> bool:
        """Like `put_layer`, for an item that the consumer has missed: it leaves the later ones their room."""
        if not self.put_layer(item, capacity):
            return False
        layer = self._layer
        if layer is not None:
            lane = self._layer = layer if isinstance(layer, Lane) else Lane(layer)
            lane.uncount()
        return True

    def make_room(self, payload: Payload, capacity: int) -> int:
        """Drop the payloads in the layer lane that this payload may replace. Return how many were dropped."""
        layer = self._layer
        if not layer:
            return 0
        # With KEEP_LATEST, all earlier payloads of its group are dropped, even if the lane has room. With DROP_OLDEST,
        # the oldest payloads of any group are dropped, as many as needed to make room for one. Events, and payloads
        # with another policy, stay.
        latest = payload.policy is SlowPolicy.KEEP_LATEST
        too_many = counted(layer) + 1 - capacity
        doomed = [
            index
            for index, item in enumerate(layer)
            if type(item) is Payload and item.policy is payload.policy and (not latest or item.group == payload.group)
        ]
        if not latest:
            doomed = doomed[: max(0, too_many)]
        for index in reversed(doomed):  # from the end, or the other indices would move
            del layer[index]
        return len(doomed)

    @property
    def full(self) -> bool:
        """Whether the client lane has reached one of its bounds, in messages or in bytes of memory.

        A text takes one to four bytes for each of its characters.
        """
        client = self.client
        return client is not None and (len(client) >= self.bounds[0] or self.client_size >= self.bounds[1])

    @property
    def room(self) -> int:
        """Bytes of memory until the client lane reaches its bound. Zero or less once it has."""
        return self.bounds[1] - self.client_size

    @property
    def layer_size(self) -> int:
        """How many items the layer lane holds."""
        return len(self._layer) if self._layer else 0

    @property
    def client_waiting(self) -> bool:
        return bool(self.client)

    @property
    def ending(self) -> bool:
        """Whether the client's last event waits in the client lane."""
        return self._ending and bool(self.client)

    @property
    def has_ended(self) -> bool:
        """Whether the client's last event has come, even if the consumer has already taken it."""
        return self._ending

    def take_ending(self) -> tuple[Any, int]:
        """Empty the client lane. Return its last event, and the number of items before it, which are dropped."""
        client = self.client
        assert client, "nothing waits: look at `ending` first"
        self.client = None
        self.client_size = 0
        return client[-1], len(client) - 1

    def nudge(self) -> None:
        """Wake a waiting consumer without an item: its future gets the result None."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.parked = False
            if not waiter.done():
                waiter.set_result(None)
                if self.waker is not None:
                    self.waker.woken()

    def wake(self) -> None:
        """If the consumer still waits, give it the next item from the lanes. (`Sleeper`)"""
        waiter = self._waiter
        if waiter is not None and (self._layer or self.client):
            self._waiter = None
            if not waiter.done():
                waiter.set_result(self.take_nowait(in_turn=True))
                if self.waker is not None:
                    self.waker.woken()

    def pause(self) -> None:
        """Note that the source has stopped reading. `resume_reading` is called when the client lane is half empty.

        Only call this when the lane is `full`. From an empty lane no item can be taken, so reading would never resume.
        """
        assert self.client, "an empty lane is never half emptied: nobody would resume"
        self._paused = True

    def take_nowait(self, in_turn: bool = False) -> Any | None:
        """Take the next item, from the two lanes in turn. None if there is none.

        Also None if the next item is a long message, and other consumers have used up this pass for long messages. Then
        `wait` waits for its turn. If `in_turn` is true, a long message is returned in any case.
        """
        # The lanes take turns, so that a busy group cannot starve the client, nor a busy client its groups.
        layer, client = self._layer, self.client
        if layer and (not client or (self._layer_next and not self._ending)):
            self._layer_next = False
            item = layer.popleft()
            if not layer:
                self._layer = None
            return item
        if not client or (self.client_size >= LONG_MESSAGE and not in_turn and self._is_put_off(client[0])):
            return None
        self._layer_next = True
        item = client.popleft()
        may_be_long = self.client_size >= LONG_MESSAGE
        if not client:
            self.client = None
            self.client_size = 0
        else:
            self.client_size -= _size_of(item)
        # Resume only when the lane is half empty, so that reading does not stop and start for each message.
        if self._paused and self._has_room():
            self._paused = False
            if self.source is not None:
                self.source.resume_reading()
        return item.whole() if may_be_long and isinstance(item, Unjoined) else item

    def _is_put_off(self, item: Any) -> bool:
        is_long = isinstance(item, str | bytes | Unjoined) and len(item) >= LONG_MESSAGE
        return is_long and self.waker is not None and not self.waker.may_take_long(len(item))

    def _has_room(self) -> bool:
        client = self.client
        return client is None or (len(client) * 2 <= self.bounds[0] and self.client_size * 2 <= self.bounds[1])

    def wait(self) -> asyncio.Future[Any]:
        """Return a future for the next item. Call this only after `take_nowait` has returned None.

        Raises RuntimeError if another task already waits. A task that is cancelled while it awaits the future must call
        `give_back`, as `get` does, or an item may be lost.
        """
        # The source hears of this before there is a waiter. It writes now what the consumer has sent, because the
        # consumer will not send anything more that could share the write.
        if self.source is not None:
            self.source.parking()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            raise RuntimeError("another task is waiting for this connection already: receive in one task only")
        self._waiter = waiter = self.loop.create_future()
        self.parked = self._layer is None and not self._ending
        if self.client is not None and self.waker is not None:
            # `take_nowait` has put off a long message. It waits in the lane for its turn.
            self.parked = False
            self.waker.wake_for_long(self, self.client_size)
        return waiter

    async def get(self) -> Any:
        """Wait for the next item, and take it. Cancelling loses nothing: an item that has just arrived is put back."""
        item = self.take_nowait()
        if item is not None:
            return item
        waiter = self.wait()
        try:
            return await waiter
        except asyncio.CancelledError:
            self.give_back(waiter)
            raise

    def give_back(self, waiter: asyncio.Future[Any]) -> None:
        """A task was cancelled while it awaited this future of `wait`: put back an item that it has already got."""
        if waiter.done() and not waiter.cancelled():
            self._put_back(waiter.result())
        elif self._waiter is waiter:
            self._waiter = None
            self.parked = False

    def _put_back(self, item: Any) -> None:
        # Items of one lane must stay in order; between the lanes there is no order. At the front of the client lane,
        # which is taken from next, no later item can overtake this one, whichever lane it came from.
        if self.client is None:
            self.client = deque()
        self.client.appendleft(item)
        self._layer_next = False
        self.client_size += _size_of(item)

    def clear(self) -> None:
        """The connection has ended: drop all items, and release the source and the waker."""
        self.client = self._layer = self._waiter = self.source = self.waker = self.on_ending = None
        self.client_size = 0
        self.parked = False
