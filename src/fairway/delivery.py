"""Where server, channel layers, transports and consumers meet.

A message for a client is a `Payload`; what waits for one consumer lies in its `Inbox`; a consumer that can be
reached through a channel layer is a `Member`; a server's own end of a socket is a `Connection`. The server knows
nothing of layers and the layers nothing of sockets: both know this module, and this module knows only the
standard library.

Everything here belongs to one event loop and is called from it, except `Member.deliver` and
`Member.broadcast`, which may be called from any thread.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from types import MethodType
from typing import Any, Protocol, TypeAlias, cast

Message: TypeAlias = dict[str, Any]
"""An ASGI event, or an event sent through a channel layer: a dict with a `type`."""

logger = logging.getLogger("fairway.delivery")

get_running_loop = asyncio._get_running_loop


class Passes:
    """Awaiting it lets the event loop make so many passes, in which others have their turn."""

    __slots__ = ("_count",)

    def __init__(self, count: int) -> None:
        self._count = count

    def __await__(self) -> Generator[None, None, None]:
        for _ in range(self._count):
            yield


class Encoder(Protocol):
    """One way in which a transport puts a message on its wire. Compared by identity, so instances are shared."""

    def encode_text(self, text: str) -> bytes: ...

    def encode_bytes(self, data: bytes) -> bytes: ...


class SlowPolicy(enum.Enum):
    """What becomes of broadcasts for a client that does not take them as fast as they come."""

    CLOSE = "close"
    """When the bound of its outbox is reached, the connection is closed: the application sees 1013."""
    DROP_OLDEST = "drop-oldest"
    """The oldest broadcasts that can be dropped make room for the new one."""
    KEEP_LATEST = "keep-latest"
    """While the socket takes nothing, only the newest broadcast of each group waits for it."""


class Payload:
    """A message for many clients: text or bytes, encoded at most once for each encoder.

    `policy` says what becomes of it on its way to a slow client, `group` which others it may replace there.
    """

    __slots__ = ("_forms", "data", "group", "is_droppable", "policy", "text")

    def __init__(
        self,
        text: str | None = None,
        data: bytes | None = None,
        policy: SlowPolicy = SlowPolicy.CLOSE,
        group: str = "",
    ) -> None:
        if (text is None) == (data is None):
            raise ValueError("a payload has either text or bytes: pass one of them")
        self.text = text
        self.data = data
        self.policy = policy
        self.is_droppable = policy is not SlowPolicy.CLOSE
        self.group = group
        self._forms: dict[Encoder, bytes] = {}

    def form(self, encoder: Encoder) -> bytes:
        """The encoded message; the same `bytes` object for every caller with the same encoder."""
        form = self._forms.get(encoder)
        if form is None:
            if self.text is not None:
                form = encoder.encode_text(self.text)
            else:
                form = encoder.encode_bytes(cast(bytes, self.data))
            self._forms[encoder] = form
        return form

    def as_event(self) -> Message:
        """The keys of a `websocket.send` event."""
        return {"text": self.text} if self.text is not None else {"bytes": self.data}

    def as_message(self) -> Message:
        """The message by which a consumer that cannot be reached in this process learns of the payload."""
        return {"type": "fairway.broadcast", **self.as_event()}


class Source(Protocol):
    """Who fills the client lane of an inbox and can be asked to stop and go on."""

    def resume_reading(self) -> None:
        """Called when the lane has room again, after `Inbox.full` was seen and reading had been paused."""

    def parking(self) -> None:
        """Called when the consumer has nothing left to do and is about to wait."""


# What counts against the size of a client lane; events, failures and payloads put back count as messages only.
_SIZED = frozenset({str, bytes})


WAKES_PER_PASS = 128
"""Of the consumers of a group so many are woken in one pass of the loop: 1 to 2 ms, at 10 µs for a short handler."""


class Waker(Protocol):
    """Says which consumers of one event loop may run in its next pass, and knows which have not come back to wait."""

    def woken(self) -> None:
        """Called when a consumer has been given what it waits for."""

    def may_wake(self) -> bool:
        """Whether one more may be woken for this pass by a channel layer."""

    def wake_later(self, inbox: Inbox) -> None:
        """Call `Inbox.wake` in a later pass: enough consumers run in this one."""


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
        "_client",
        "_client_size",
        "_ending",
        "_layer",
        "_layer_next",
        "_paused",
        "_waiter",
        "bounds",
        "loop",
        "on_ending",
        "parked",
        "source",
        "waker",
    )

    parked: bool
    """Whether the consumer has seen everything and waits: no message queued, no handler running."""

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
        # One tuple, shared by all inboxes with the same bounds, instead of two attributes.
        self.bounds = _shared_bounds(max_messages, max_size)
        self._client: deque[Any] | None = None
        self._layer: deque[Any] | None = None
        self._waiter: asyncio.Future[Any] | None = None
        self.on_ending: Callable[[], object] | None = None
        self._client_size = 0
        self._layer_next = False
        self._paused = False
        self._ending = False
        # Kept in a slot of its own: who sends to thousands looks at it, and then at nothing else here.
        self.parked = False

    def put_client(self, item: Any) -> None:
        """Add a message of the client (`str`, `bytes`) or an event (dict). Never refuses: see `full`."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.parked = False
            if not waiter.done():
                waiter.set_result(item)
                if self.waker is not None:
                    self.waker.woken()
                return
        if self._client is None:
            self._client = deque()
        self._client.append(item)
        if type(item) in _SIZED:
            self._client_size += len(item)

    def put_disconnect(self, event: Message) -> None:
        """Add the last event of the client, and tell `on_ending`."""
        self._ending = True
        self.put_client(event)
        if self.on_ending is not None:
            self.on_ending()

    def put_layer(self, item: Any, capacity: int) -> bool:
        """Add an event or a payload of a layer; False, and nothing kept, when `capacity` items wait already."""
        waiter, layer = self._waiter, self._layer
        self.parked = False
        # With something in the lane the consumer waits for its turn to be woken.
        if waiter is not None and layer is None:
            waker = self.waker
            if waiter.done():
                self._waiter = None
            elif waker is None:
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
        """Drop what this payload may replace in the layer lane; how many payloads that were."""
        layer = self._layer
        if not layer:
            return 0
        latest = payload.policy is SlowPolicy.KEEP_LATEST
        too_many = len(layer) + 1 - capacity
        doomed = [
            index
            for index, item in enumerate(layer)
            if type(item) is Payload and item.policy is payload.policy and (not latest or item.group == payload.group)
        ]
        if not latest:
            doomed = doomed[: max(0, too_many)]
        for index in reversed(doomed):
            del layer[index]
        return len(doomed)

    @property
    def full(self) -> bool:
        """Whether the client lane has reached its bound. `max_size` counts characters of text, bytes of data."""
        client = self._client
        return client is not None and (len(client) >= self.bounds[0] or self._client_size >= self.bounds[1])

    @property
    def layer_size(self) -> int:
        """How many events and payloads of layers wait."""
        return len(self._layer) if self._layer else 0

    @property
    def client_waiting(self) -> bool:
        return bool(self._client)

    @property
    def ending(self) -> bool:
        """Whether the client's last event waits."""
        return self._ending and bool(self._client)

    def take_ending(self) -> tuple[Any, int]:
        """Empty the client lane: its last event, and how many items before it are thereby dropped."""
        client = self._client
        assert client, "nothing waits: look at `ending` first"
        self._client = None
        self._client_size = 0
        return client[-1], len(client) - 1

    def nudge(self) -> None:
        """Wake the consumer without an item: what it waited for is None."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.parked = False
            if not waiter.done():
                waiter.set_result(None)
                if self.waker is not None:
                    self.waker.woken()

    def wake(self) -> None:
        """Give a consumer that still waits what has been put into its layer lane meanwhile. (`Waker.wake_later`)"""
        waiter, layer = self._waiter, self._layer
        if waiter is not None and layer:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(layer.popleft())
                if not layer:
                    self._layer = None
                if self.waker is not None:
                    self.waker.woken()

    def pause(self) -> None:
        """Remember that the source has stopped reading: it is told to go on when the lane is half empty."""
        self._paused = True

    def take_nowait(self) -> Any | None:
        """The next item, from the lanes in turn; None when there is none."""
        layer, client = self._layer, self._client
        if layer and (not client or (self._layer_next and not self._ending)):
            self._layer_next = False
            item = layer.popleft()
            if not layer:
                self._layer = None
            return item
        if not client:
            return None
        self._layer_next = True
        item = client.popleft()
        if type(item) in _SIZED:
            self._client_size -= len(item)
        if not client:
            self._client = None
        if self._paused and self._has_room():
            self._paused = False
            if self.source is not None:
                self.source.resume_reading()
        return item

    def _has_room(self) -> bool:
        client = self._client
        return client is None or (len(client) * 2 <= self.bounds[0] and self._client_size * 2 <= self.bounds[1])

    def wait(self) -> asyncio.Future[Any]:
        """A future of the next item, for the one consumer of this inbox, when `take_nowait` gave None."""
        if self.source is not None:
            self.source.parking()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            raise RuntimeError("another task is waiting for this connection already: receive in one task only")
        self._waiter = waiter = self.loop.create_future()
        self.parked = self._layer is None
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
        """The task that waited was cancelled: keep what had arrived for it already."""
        if waiter.done() and not waiter.cancelled():
            self._put_back(waiter.result())
        elif self._waiter is waiter:
            self._waiter = None
            self.parked = False

    def _put_back(self, item: Any) -> None:
        # The order between the lanes is free, the order within a lane is not; an item put back goes in front
        # of the client lane, and whichever lane it came from, nothing that came later overtakes it.
        if self._client is None:
            self._client = deque()
        self._client.appendleft(item)
        self._layer_next = False
        if type(item) in _SIZED:
            self._client_size += len(item)

    def clear(self) -> None:
        """Forget everything that waits, and the source: the connection has ended."""
        self._client = self._layer = self._waiter = self.source = self.waker = self.on_ending = None
        self._client_size = 0
        self.parked = False


class Crowd(Protocol):
    """Connections of one event loop that can be given the same payload in one call."""

    loop: asyncio.AbstractEventLoop

    def broadcast(self, connections: Sequence[Connection], payload: Payload) -> Sequence[Connection]:
        """Write the payload, as `Connection.broadcast`, to those of this crowd that are open and whose inboxes are
        parked; return the others.
        """


class Connection:
    """A server's own end of a WebSocket, as far as consumers and layers may know it.

    Drivers derive from it. Its bound methods `receive` and `send` are the ASGI callables given to an
    application; where an application gets them unwrapped, `connection_of` finds the connection again, and the
    methods below save the message dicts, and for a broadcast the consumer's task.
    """

    __slots__ = ("inbox", "is_open")

    inbox: Inbox
    is_open: bool
    """Accepted, and neither side has begun to close."""

    @property
    def crowd(self) -> Crowd | None:
        """With which others it can be broadcast to."""
        return None

    async def receive(self) -> Message:
        """ASGI `receive`."""
        raise NotImplementedError

    async def send(self, message: Mapping[str, Any]) -> None:
        """ASGI `send`: returns when the socket is below its high water mark."""
        raise NotImplementedError

    def send_nowait(self, message: Mapping[str, Any]) -> None:
        """As `send`, without ever waiting: the bound of the outbox decides about a slow client."""
        raise NotImplementedError

    def send_text(self, text: str) -> Awaitable[None] | None:
        """Send a text message. What is returned, if anything, is to be awaited before sending more."""
        raise NotImplementedError

    def send_bytes(self, data: bytes) -> Awaitable[None] | None:
        """Send a binary message. What is returned, if anything, is to be awaited before sending more."""
        raise NotImplementedError

    def broadcast(self, payload: Payload) -> None:
        """Write a payload that many connections share, at once and without waiting."""
        raise NotImplementedError


def connection_of(method: Callable[..., Any], name: str) -> Connection | None:
    """The connection whose own `receive` or `send` (`name`) this callable is; None for anything wrapped.

    The bound method itself is the proof: a wrapper may copy attributes, but not `__self__`.
    """
    if type(method) is not MethodType:
        return None
    owner = method.__self__
    if isinstance(owner, Connection) and method.__func__ is getattr(type(owner), name):
        return owner
    return None


class Keeper(Protocol):
    """What a member is attached to."""

    def forget_connection(self, member: Member) -> None:
        """Write nothing to the member's connection any more."""


class Member:
    """A consumer as a channel layer sees it: a channel name, an inbox, the loop it lives in.

    `connection` is set only where a broadcast may be written without asking the consumer. `put_nowait`,
    `qsize`, `empty` and `full` make a member look like the queue that a channel of the in-memory layer is.
    """

    __slots__ = ("capacity", "closed", "connection", "dropped", "groups", "inbox", "keeper", "loop", "name")

    def __init__(self, name: str, inbox: Inbox, capacity: int = 100, connection: Connection | None = None) -> None:
        self.name = name
        self.inbox = inbox
        self.loop = inbox.loop
        self.capacity = capacity
        self.connection = connection
        self.closed = False
        self.dropped = 0
        self.groups: list[str] | None = None
        self.keeper: Keeper | None = None

    def deliver(self, message: Message) -> bool:
        """Hand over an event, which now belongs to the member; False when it had to be dropped.

        From another thread or loop the hand-over happens later: then the answer is True, and an overflow is
        only counted in `dropped`.
        """
        return self._put(message)

    def broadcast(self, payload: Payload) -> bool:
        """Write the payload to the socket if nothing is to come before it, else give it its place in the inbox."""
        connection = self.connection
        if connection is not None and self.inbox.parked and connection.is_open and self.loop is get_running_loop():
            connection.broadcast(payload)
            return True
        return self._put(payload)

    def _put(self, item: Any) -> bool:
        if self.loop is get_running_loop():
            return self._put_here(item)
        if self.closed:
            return False
        try:
            self.loop.call_soon_threadsafe(self._put_here, item)
        except RuntimeError:  # the loop has been closed, and its members with it
            self.closed = True
            return False
        return True

    def _put_here(self, item: Any) -> bool:
        if self.closed:
            return False
        if type(item) is Payload and item.is_droppable:
            self.dropped += self.inbox.make_room(item, self.capacity)
        if self.inbox.put_layer(item, self.capacity):
            return True
        self.dropped += 1
        return False

    def detour(self) -> None:
        """Broadcasts are to reach the consumer from now on, and not its connection directly."""
        self.connection = None
        if self.keeper is not None:
            self.keeper.forget_connection(self)

    def close(self) -> None:
        """Take nothing more, and let go of inbox and connection."""
        self.closed = True
        self.connection = self.keeper = None

    def put_nowait(self, item: tuple[float, Message]) -> None:
        if not self.deliver(item[1]):
            raise asyncio.QueueFull

    def qsize(self) -> int:
        return self.inbox.layer_size

    def empty(self) -> bool:
        return self.inbox.layer_size == 0

    def full(self) -> bool:
        return self.inbox.layer_size >= self.capacity


class SourceFailed:
    """What a pump puts in the inbox when its source raised: the consumer raises the error where it waits."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Pump:
    """Fills an inbox from an awaitable source: a foreign server's `receive`, a foreign layer's `receive`.

    The next message is fetched only after the last one was dispatched, so that a message that nobody will handle
    stays where it is; with `ahead`, which is for clients, as long as the inbox is not full. Ends after a disconnect
    event, with the source's error (`SourceFailed`), or by `stop`.
    """

    __slots__ = ("_ahead", "_for_layer", "_gate", "_inbox", "_source", "_task")

    def __init__(
        self, source: Callable[[], Awaitable[Message]], inbox: Inbox, for_layer: bool = False, ahead: bool = False
    ) -> None:
        self._source = source
        self._inbox = inbox
        self._for_layer = for_layer
        self._ahead = ahead
        self._gate: asyncio.Future[None] | None = None
        self._task = inbox.loop.create_task(self._run())

    def _put(self, item: Any) -> None:
        if self._for_layer:
            self._inbox.put_layer(item, capacity=2)  # one message at a time, and the error that ends the source
        else:
            self._inbox.put_client(item)

    async def _run(self) -> None:
        while True:
            try:
                message = await self._source()
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self._put(SourceFailed(error))
                return
            self._gate = gate = self._inbox.loop.create_future()
            if not self._for_layer and message.get("type") in ("websocket.disconnect", "http.disconnect"):
                self._inbox.put_disconnect(message)
                return
            self._put(message)
            if not self._ahead or self._inbox.full:
                await gate

    def proceed_if_taken(self) -> None:
        """A message has been dispatched: fetch another, unless the one fetched last still waits."""
        gate = self._gate
        if self._inbox.layer_size if self._for_layer else self._inbox.client_waiting:
            return
        if gate is not None:
            self._gate = None
            if not gate.done():
                gate.set_result(None)

    async def stop(self) -> None:
        """Cancel the fetching and wait until it has ended, so that the source may clean up."""
        task = self._task
        # The task keeps its exception, that its traceback, and that the frame in which this pump runs.
        del self._task
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


class Statistics:
    """Counts of what was not delivered, or not on the shortest way, for this process.

    `sends_after_close`: messages for clients that had gone. `unhandled`: messages of clients that left while all
    handlers of their consumer were busy. `detours`: why broadcasts went through consumers, and how many did.
    """

    __slots__ = ("detours", "sends_after_close", "unhandled")

    def __init__(self) -> None:
        self.sends_after_close = 0
        self.unhandled = 0
        self.detours: Counter[str] = Counter()


statistics = Statistics()


def note_detour(reason: str, what: str) -> None:
    """Count a broadcast that was not written straight to a socket; log `what` happens with the first for a reason."""
    if reason not in statistics.detours:
        logger.info("%s: %s", what, reason)
    statistics.detours[reason] += 1
