"""What waits for one consumer.

An inbox stands between whoever has something for a consumer and the consumer's one task. There are three kinds of
callers, all in the event loop of the inbox:

* its *source*, the connection or a pump, puts in what the client sends (`put_client`, `put_disconnect`), and stops
  reading when the client lane is full;
* layers put in events and payloads (`put_layer`), and are refused when the layer lane is full;
* the consumer takes (`take_nowait`), and waits when there is nothing (`wait`).

The consumer is in one of three states:

* *running*: no waiter. What comes is appended to its lane.
* *parked*: it waits, and both lanes are empty. What comes is handed to the waiter, which ends the state at once,
  although the task itself runs only in the next pass of the loop.
* *to be woken*: it waits, but something lies in a lane, because enough consumers run in this pass, or one that has a
  long message (see `Waker`). It is not parked any more: what comes now has to queue behind what lies there.

That is why senders to a whole group look at `parked` and at nothing else. While it is True, nothing that came earlier
can still be on its way to this consumer, so a frame may be written to its socket without asking it. Whatever makes that
untrue sets it to False before anything else happens.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from sys import getsizeof
from typing import Any, Protocol

from fairway.delivery.payload import Message, Payload, SlowPolicy


class Source(Protocol):
    """Who fills the client lane of an inbox and can be asked to stop and go on."""

    def resume_reading(self) -> None:
        """Called when the lane has room again, after `Inbox.pause`."""

    def parking(self) -> None:
        """Called when the consumer has nothing left to do and is about to wait."""


_TEXT_SIZE, _BYTES_SIZE = getsizeof(""), getsizeof(b"")


def _size_of(item: Any) -> int:
    """Return what an item counts against the size of a client lane, in bytes of memory. Events, failures and payloads
    that were put back count as messages only.
    """
    # Messages are nearly always `str` or `bytes`. For these this gives the same as `getsizeof`, in half the time.
    kind = type(item)
    if kind is str:
        return len(item) + _TEXT_SIZE if item.isascii() else getsizeof(item)
    return len(item) + _BYTES_SIZE if kind is bytes else 0


LONG_MESSAGE = 1 << 15
"""Characters or bytes of a message that takes a consumer long: to decode so much JSON and to encode it takes 0.3 ms."""

WAKES_PER_PASS = 128
"""This many consumers of a group are woken in one pass of the loop: 1 to 2 ms, at 10 µs for a short handler."""


class Sleeper(Protocol):
    """Somebody who waits, and can be woken in a later pass."""

    def wake(self) -> None:
        """Hand over what has come meanwhile, if it still waits."""


class Waker(Protocol):
    """Says which consumers of one event loop may run in its next pass, and knows which have not come back to wait."""

    def woken(self) -> None:
        """Called when a consumer has been given what it waits for."""

    def may_wake(self) -> bool:
        """Whether one more may be woken for this pass by a channel layer."""

    def wake_later(self, inbox: Inbox) -> None:
        """Call `Inbox.wake` in a later pass: enough consumers run in this one."""

    def wake_to_end(self, sleeper: Sleeper) -> None:
        """Call its `wake`: at once if few others have been told in this pass that their client has left, else later."""

    def may_take_long(self, size: int) -> bool:
        """Whether a consumer that runs may go on with a long message in this pass, which then counts for it."""

    def wake_for_long(self, sleeper: Sleeper, size: int) -> None:
        """Call its `wake`, for a long message: at once if few others have been woken for such ones in this pass, else
        later.
        """


@functools.lru_cache(maxsize=64)
def _shared_bounds(max_messages: int, max_size: int) -> tuple[int, int]:
    return max_messages, max_size


class Inbox:
    """What waits for one consumer: two bounded lanes, taken in turn, and one waiter.

    The *client* lane holds what the client sent: `str` and `bytes` for messages, dicts for other events. It is
    bounded by its source, which looks at `full` and pauses. The *layer* lane holds events and payloads from
    channel layers; beyond its capacity `put_layer` refuses. Neither lane can hold up the other. Once a
    disconnect has come, the client lane is emptied first, so no layer traffic delays it; messages that the client
    had sent before it left keep their place.
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
    """What waits in the client lane, to be looked at only; None for nothing."""

    client_size: int
    """Bytes of memory that the messages in the client lane take."""

    parked: bool
    """Whether the consumer has seen everything and waits: no message queued, no handler running, no disconnect seen."""

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
        # One tuple that all inboxes with the same bounds share: two attributes would cost each connection 8 bytes more.
        self.bounds = _shared_bounds(max_messages, max_size)
        self.client = None
        self._layer: deque[Any] | None = None
        self._waiter: asyncio.Future[Any] | None = None
        self.on_ending: Callable[[], object] | None = None
        self.client_size = 0
        self._layer_next = False
        self._paused = False
        self._ending = False
        # A slot, and not a property: a sender to thousands of members looks at it, and at nothing else here.
        self.parked = False

    def put_client(self, item: Any) -> None:
        """Add a message of the client (`str`, `bytes`) or an event (dict). Never refuses: see `full`."""
        # A message of the client goes to its consumer at once, whatever else runs in this pass: the client has been
        # read because there is time for it. Only the events of a group are spread over passes (`put_layer`), and
        # long messages (`put_long`). Where one of those waits to be woken for, this queues behind it.
        waiter = self._waiter
        if waiter is not None and self.client is None:
            self._waiter = None
            self.parked = False
            # A waiter that is done was cancelled: its task has not run yet, and will not take this.
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

    def put_long(self, item: str | bytes) -> None:
        """As `put_client`, for a message from `LONG_MESSAGE` on: a consumer that waits is woken for it in its turn."""
        waiter, waker = self._waiter, self.waker
        if waiter is None or waker is None or self.client is not None or waiter.done():
            self.put_client(item)
            return
        self.parked = False
        self.client = deque((item,))
        self.client_size += _size_of(item)
        waker.wake_for_long(self, len(item))

    def put_disconnect(self, event: Message) -> None:
        """Add the last event of the client, and tell `on_ending`. When thousands leave together, their consumers are
        woken over several passes.
        """
        # From here on `take_nowait` empties the client lane first, and `wait` never parks: a consumer that has seen its
        # disconnect is not to be written past.
        self._ending = True
        waiter, waker = self._waiter, self.waker
        # Behind a long message that waits for its turn, it waits for the same.
        if waiter is None or waker is None or self.client is not None or waiter.done():
            self.put_client(event)
        else:
            self.parked = False
            self.client = deque((event,))
            waker.wake_to_end(self)
        if self.on_ending is not None:
            self.on_ending()

    def put_layer(self, item: Any, capacity: int) -> bool:
        """Add an event or a payload of a layer; False, and nothing kept, when `capacity` items wait already."""
        # Whichever way the item takes, it will be in front of what comes next. Whoever looks at `parked` must see that
        # at once, even if the item is refused: then the lane is full, and the consumer busy.
        waiter, layer = self._waiter, self._layer
        self.parked = False
        # If the lane holds something, its waiter will be woken in its turn, and this item queues behind.
        if waiter is not None and layer is None:
            waker = self.waker
            if waiter.done():
                self._waiter = None
            elif waker is None:  # behind a foreign server nobody counts who runs
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
        elif len(layer) >= capacity:
            return False
        layer.append(item)
        return True

    def make_room(self, payload: Payload, capacity: int) -> int:
        """Drop what this payload may replace in the layer lane. Return how many payloads that were."""
        layer = self._layer
        if not layer:
            return 0
        # With KEEP_LATEST every earlier one of its group goes, full or not. With DROP_OLDEST as many of any group go as
        # are too many. Payloads with another policy, and events, stay: nobody has said that they may be dropped.
        latest = payload.policy is SlowPolicy.KEEP_LATEST
        too_many = len(layer) + 1 - capacity
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
        """Whether the client lane has reached its bound. `max_size` counts bytes of memory: a text takes one to four
        for each of its characters.
        """
        client = self.client
        return client is not None and (len(client) >= self.bounds[0] or self.client_size >= self.bounds[1])

    @property
    def room(self) -> int:
        """Bytes of memory until the client lane has reached its bound; not above 0 when it has."""
        return self.bounds[1] - self.client_size

    @property
    def layer_size(self) -> int:
        """How many events and payloads of layers wait."""
        return len(self._layer) if self._layer else 0

    @property
    def client_waiting(self) -> bool:
        return bool(self.client)

    @property
    def ending(self) -> bool:
        """Whether the client's last event waits."""
        return self._ending and bool(self.client)

    @property
    def has_ended(self) -> bool:
        """Whether the client's last event has come, be it still waiting or not."""
        return self._ending

    def take_ending(self) -> tuple[Any, int]:
        """Empty the client lane. Return its last event, and how many items before it are dropped thereby."""
        client = self.client
        assert client, "nothing waits: look at `ending` first"
        self.client = None
        self.client_size = 0
        return client[-1], len(client) - 1

    def nudge(self) -> None:
        """Wake the consumer without an item: its wait gives None."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.parked = False
            if not waiter.done():
                waiter.set_result(None)
                if self.waker is not None:
                    self.waker.woken()

    def wake(self) -> None:
        """Give a consumer that still waits what has been put into its lanes meanwhile. (`Sleeper`)"""
        waiter = self._waiter
        if waiter is not None and (self._layer or self.client):
            self._waiter = None
            if not waiter.done():
                waiter.set_result(self.take_nowait(in_turn=True))
                if self.waker is not None:
                    self.waker.woken()

    def pause(self) -> None:
        """Remember that the source has stopped reading. It is told to go on when the lane is half empty.

        Call this only when the lane is `full`: nothing is ever taken from an empty one, so nobody would be told.
        """
        assert self.client, "an empty lane is never half emptied: nobody would resume"
        self._paused = True

    def take_nowait(self, in_turn: bool = False) -> Any | None:
        """The next item, from the lanes in turn; None when there is none.

        None also when it is a long message, and others have had enough of those in this pass. Then `wait` is for its
        turn. With `in_turn` that has come.
        """
        # In turn, one from each lane: a group that never stops does not starve the client, nor a client its groups.
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
        if not client:
            self.client = None
            self.client_size = 0
        else:
            self.client_size -= _size_of(item)
        # Half empty, and not at the first free place: reading stops and starts once for many messages.
        if self._paused and self._has_room():
            self._paused = False
            if self.source is not None:
                self.source.resume_reading()
        return item

    def _is_put_off(self, item: Any) -> bool:
        is_long = (type(item) is str or type(item) is bytes) and len(item) >= LONG_MESSAGE
        return is_long and self.waker is not None and not self.waker.may_take_long(len(item))

    def _has_room(self) -> bool:
        client = self.client
        return client is None or (len(client) * 2 <= self.bounds[0] and self.client_size * 2 <= self.bounds[1])

    def wait(self) -> asyncio.Future[Any]:
        """A future of the next item, for the one consumer of this inbox, when `take_nowait` gave None."""
        # Before there is a waiter. The source writes now what the consumer has sent: its loop has nothing left to do,
        # so nothing more would share the write.
        if self.source is not None:
            self.source.parking()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            raise RuntimeError("another task is waiting for this connection already: receive in one task only")
        self._waiter = waiter = self.loop.create_future()
        self.parked = self._layer is None and not self._ending
        if self.client is not None and self.waker is not None:
            # It was put off, and holds nothing up but this consumer.
            self.parked = False
            self.waker.wake_for_long(self, self.client_size)
        return waiter

    async def get(self) -> Any:
        """The next item. Cancelling loses nothing: an item that had just arrived is put back in front."""
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
        """Keep what had already arrived for a task that was cancelled while it waited."""
        if waiter.done() and not waiter.cancelled():
            self._put_back(waiter.result())
        elif self._waiter is waiter:
            self._waiter = None
            self.parked = False

    def _put_back(self, item: Any) -> None:
        # The order between the lanes is free, but not the order within a lane. An item that is put back goes to the
        # front of the client lane. So nothing that came later overtakes it, whichever lane it came from.
        if self.client is None:
            self.client = deque()
        self.client.appendleft(item)
        self._layer_next = False
        self.client_size += _size_of(item)

    def clear(self) -> None:
        """Forget everything that waits, and the source: the connection has ended."""
        self.client = self._layer = self._waiter = self.source = self.waker = self.on_ending = None
        self.client_size = 0
        self.parked = False
