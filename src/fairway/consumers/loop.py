"""The loop that serves a consumer, from the first message of its client to the last.

Theory of operation. Each connection has one task, which runs `ConsumerLoop.__call__`. Its steps are:

* *Enter.* The consumer gets a channel from the layer. With our own server, its inbox is the connection's inbox. With
  our own layers, the hub puts events into the consumer's inbox. For any other server or layer, a `Pump` does.
* *Handle.* The loop takes the next item from the inbox, or waits for it, and calls a handler. Handlers run one after
  another, or several at a time if the consumer allows it (`HandlerGroup`). Items are `str` and `bytes` for the client's
  messages, dicts for events, and `Payload`s for broadcasts that could not be written to the socket directly.
* *Leave.* The loop handles the client's last event, such as `websocket.disconnect`. No event is handled after it. Then
  the loop waits for the handlers that still run.
* *Farewell.* If the consumer fails or is cancelled while it is connected, it also gets its last event, so that it can
  clean up. An error in this step is only logged, and never replaces the first error.
* *Detach.* In any case, the consumer is removed from the layer, and releases the connection.

A consumer is *connected* from its first event that is not the last one, until the last one.

`_fairway_runner` notes who runs the handlers. It is None before and after the loop. During the loop it is the loop's
task, or for a synchronous consumer the thread of the latest handler. From the last event on it is `LEAVING`. With it,
`send` can tell a handler that still sends to a client that has left, and so delays the disconnect, from the handler of
the disconnect. Only the former is ended, by `Overstayed`.

Everything runs in the task of the loop, with three exceptions. The server and the layer put items into the inbox. A
test or a wrapper may replace `base_send`. And tasks and threads that the consumer has started may call `send`, even
after the end of the loop.

While a connection is idle, all that this loop keeps for it is the frame of `__call__`. Each local variable there costs
memory for every connection. So steps that are rarely needed are methods of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

from fairway.asgi.types import Receive, Scope, Send
from fairway.consumers.errors import NoHandler, Overstayed, StopConsumer
from fairway.consumers.handlers import HandlerGroup
from fairway.consumers.names import handler_of
from fairway.consumers.overrides import Overrides, note_own
from fairway.consumers.tangles import untangle
from fairway.delivery import (
    Connection,
    Inbox,
    Member,
    Message,
    Payload,
    Pump,
    SourceFailed,
    connection_of,
    reader_of,
    statistics,
)
from fairway.layers.hub import Hub
from fairway.layers.hub_layer import hub_of
from fairway.layers.outage import outage_of, receive_through
from fairway.logs import ErrorLog, get_logger

logger = get_logger("django.channels.consumer")
# There is one log for each event loop, so that a restarted server reports all errors again.
_errors: WeakKeyDictionary[asyncio.AbstractEventLoop, ErrorLog] = WeakKeyDictionary()

OVERSTAY = 1.0
"""Seconds that a handler may continue to send after its client has left."""

CLEANUP_TIMEOUT = 10.0
"""Seconds that a consumer has to handle the disconnect that it gets after its own error."""

LEAVING: Final = object()
"""The value of `_fairway_runner` while the consumer handles its last event."""

# The event that ends a conversation, by type of scope. A consumer gets it even after it has failed.
_LAST_EVENTS: Final = {"websocket": "websocket.disconnect", "http": "http.disconnect"}
# The events after which the loop waits for their handler, even if several handlers may run at a time.
_ORDERED_EVENTS: Final = (*_LAST_EVENTS.values(), "websocket.connect")  # compared, not hashed: a type may be anything
_CODE_OF_ERROR, _CODE_OF_CANCELLATION, _CODE_WITHOUT_ERROR = 1011, 1006, 1000
# Another project's server hands over an event that it already has within a few passes of the event loop.
_PASSES_TO_THE_END: Final = 10


class ConsumerLoop:
    """The base of all consumers, without their public interface and without Django. Serves one scope at a time.

    Its names begin with `_fairway_`. All other names belong to the authors of consumers, who name handlers after types
    of messages.
    """

    # The public side.
    _sync: ClassVar[bool]
    max_concurrency: int
    disconnect_grace: float
    scope: Scope
    channel_layer: Any
    channel_name: Any
    channel_receive: Any

    # The defaults are in the class. Never access `__dict__` of an instance: CPython would then make a dict for it,
    # which takes more memory than the attributes.
    _fairway_base_send: Send | None = None
    # Set only if nothing stands between `send` and a connection of our own server.
    _fairway_connection: Connection | None = None
    _fairway_member: Member | None = None
    _fairway_loop: asyncio.AbstractEventLoop | None = None
    # Whether the consumer has closed or rejected the connection. What it sends later is not sent.
    _fairway_closed: bool = False
    # Who runs the handlers that the disconnect has to wait for: a task, a thread's identifier, or `LEAVING`.
    _fairway_runner: object = None
    # When the consumer first sent something after its client had left.
    _fairway_late_since: float | None = None
    # What the class overrides. Brought up to date when a connection begins.
    _fairway_overrides: ClassVar[Overrides]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope until the client has left or `StopConsumer` is raised. Raises the errors of handlers."""
        self._fairway_begin(scope)
        inbox = _inbox_for(receive)
        handlers = self._fairway_handler_group(inbox)
        last_event = _LAST_EVENTS.get(scope.get("type"), "")
        connected = False
        pumps: tuple[Pump, ...] = ()
        try:
            pumps = await self._fairway_enter(receive, send, inbox, ahead=handlers is not None)
            # The connection stays below until it ends, so this frame must not keep what is not needed there.
            del scope, receive, send
            try:
                while True:
                    # With one handler at a time, an item that is there is taken and handled in this frame, without a
                    # task or a further coroutine.
                    item = inbox.take_nowait() if handlers is None else await handlers.next()
                    if item is None:
                        item = await inbox.wait()
                    # Only an event can be the last item. `connected` is set only here: from now on, a consumer that
                    # fails must get its last event.
                    if type(item) is dict:
                        connected = item.get("type") != last_event
                        if not connected:
                            break
                    if handlers is None or self._fairway_in_turn(item):
                        handling = self._fairway_handle(item)
                        item = None  # a long message may be in the way while its handler waits for a slow client
                        await handling
                        del handling
                    else:
                        await handlers.start(self._fairway_handle(item))
                    if pumps:
                        _proceed(pumps)
                await self._fairway_leave(item if inbox.has_ended else _sent_away(type(self), item))
            # Any handler may end the consumer in this way. It is no error, and there is no farewell.
            except StopConsumer as stop:
                untangle(stop)
            if handlers is not None:
                await _finish(handlers, self.disconnect_grace)
        # This includes cancellation: a server that stops cancels its tasks, and the consumers must clean up as well.
        except BaseException as error:
            untangle(error)
            if handlers is not None:
                await handlers.cancel()
            if connected and last_event:
                await _apart(self._fairway_farewell(last_event, _code_of(error), inbox, pumps))
            # `Overstayed` has served to end a handler, and was counted. The server cannot do anything about it.
            if not isinstance(error, Overstayed):
                raise
        finally:
            self._fairway_detach()
            if pumps:
                await _stop(pumps)

    # The steps of the loop

    def _fairway_begin(self, scope: Scope) -> None:
        self.scope = scope
        self._fairway_closed = False
        # Ask only once: in CPython 3.11, `get_running_loop` makes a system call.
        loop = self._fairway_loop = asyncio.get_running_loop()
        self._fairway_runner = asyncio.current_task(loop)
        if self._fairway_late_since is not None:
            self._fairway_late_since = None
        # Check this for each connection, because tools may replace methods long after a class was made.
        Overrides.of(type(self))
        self.channel_layer = self._fairway_find_layer()

    async def _fairway_enter(self, receive: Receive, send: Send, inbox: Inbox, ahead: bool) -> tuple[Pump, ...]:
        """Get a channel, and attach the inbox to its sources. Return the pumps that this needs."""
        if self.channel_layer is not None:
            self.channel_name = await self.channel_layer.new_channel()
        self._fairway_bind(send)
        from_layer = None
        hub = hub_of(self.channel_layer)
        if hub is not None:
            self._fairway_attach(hub, inbox)
        elif self.channel_layer is not None:
            # An error of the layer must not end the connection, so failed calls are repeated.
            from_layer = functools.partial(
                receive_through, outage_of(self.channel_layer), self.channel_receive, unless=(StopConsumer,)
            )
        # Start the client's pump first: if both have something, `connect` must come before events of the layer.
        from_client = () if reader_of(receive) is not None else (Pump(receive, inbox, ahead=ahead),)
        return from_client if from_layer is None else (*from_client, Pump(from_layer, inbox, for_layer=True))

    def _fairway_attach(self, hub: Hub, inbox: Inbox) -> None:
        connection = None if self._fairway_overrides.sees_messages else self._fairway_connection
        capacity = self.channel_layer.get_capacity(self.channel_name)
        member = Member(self.channel_name, inbox, capacity, connection)
        hub.attach(member)
        if hasattr(self, "layer_gap"):
            hub.gaps.add(member)
        self._fairway_member = member

    def _fairway_handle(self, item: Any) -> Awaitable[Any]:
        """Return the awaitable that handles an item of the inbox."""
        kind = type(item)
        if kind is str or kind is bytes:
            return self._fairway_receive(item)
        if kind is dict:
            if self._fairway_overrides.sees_dispatch or self._fairway_must_close_connections():
                return self.dispatch(item)
            return handler_of(self, item)(item)
        if kind is Payload:
            return self._fairway_handle_payload(item)
        if kind is SourceFailed:
            raise item.error
        return self.dispatch(item)

    async def _fairway_handle_payload(self, payload: Payload) -> None:
        # When it was sent, the consumer still had earlier items to handle. Now it has not, so the payload may be
        # written to the socket directly, unless the class overrides a method that must see it.
        connection = None if self._fairway_overrides.sees_messages else self._fairway_connection
        if connection is not None and connection.is_open:
            connection.broadcast(payload)
            return
        if connection is None:
            self._fairway_note_detour()
        await self._fairway_send_payload(payload)

    async def _fairway_leave(self, event: Message) -> None:
        """Handle the client's last event. A consumer need not have a handler for it."""
        self._fairway_runner = LEAVING
        try:
            await self._fairway_handle(event)
        # Ignore only a missing handler for the last event itself. Its handler may dispatch an unknown message, which is
        # an error.
        except NoHandler as missing:
            if missing.message_type != event["type"]:
                raise

    async def _fairway_farewell(self, kind: str, code: int, inbox: Inbox, pumps: Iterable[Pump]) -> None:
        """The consumer has failed or is cancelled: let it handle its last event within `CLEANUP_TIMEOUT`.

        If the client has already left, the consumer gets the client's event. Otherwise it gets one with this code.
        """
        event = await _find_last_event(kind, inbox, pumps) or {"type": kind, "code": code, "reason": ""}
        try:
            async with asyncio.timeout(CLEANUP_TIMEOUT):
                await self._fairway_leave(event)
        except StopConsumer as stop:
            untangle(stop)
        except Exception as error:
            # Only log this error: the caller raises the first one.
            text = "%s failed again while it was handling its disconnect"
            errors = _errors.setdefault(asyncio.get_running_loop(), ErrorLog(logger))
            errors.report(time.monotonic(), error, text, type(self).__name__)

    def _fairway_detach(self) -> None:
        if self._fairway_connection is not None:
            # From now on, `send` goes to the connection, which raises if it is closed.
            self._fairway_base_send = self.base_send
        member = self._fairway_member
        self._fairway_connection = self._fairway_member = self._fairway_runner = None
        if member is not None:
            member.detach()

    # What is sent

    @property
    def base_send(self) -> Send:
        """The `send` of the server or of the middleware around this consumer."""
        if self._fairway_base_send is not None:
            return self._fairway_base_send
        if self._fairway_connection is not None:
            return self._fairway_connection.send
        raise AttributeError(f"{type(self).__name__} has no base_send before it is called")

    @base_send.setter
    def base_send(self, send: Send) -> None:
        # All that is sent must pass the new `base_send`, so nothing may go to the connection directly any more.
        self._fairway_base_send = send
        self._fairway_connection = None
        if self._fairway_member is not None:
            self._fairway_member.detour()

    def _fairway_came_too_late(self, message: Message, reason: object) -> None:
        """Count a message to a client that has left.

        If a handler continues to send for `OVERSTAY` seconds, this raises `Overstayed` in it, because `disconnect()`
        waits for it. If other code continues to send after the consumer has ended, a warning is logged, once for each
        class.
        """
        statistics.sends_after_close += 1
        logger.debug("%s was not sent, it came too late: %s", message["type"], reason)
        # The first late message is normal: the client left while it was made. Code that still sends after `OVERSTAY`
        # does not know that the client has left. If it is the handler that the disconnect waits for, only an exception
        # can end it.
        now = time.monotonic()
        if self._fairway_late_since is None:
            self._fairway_late_since = now
        elif now - self._fairway_late_since < OVERSTAY:
            return
        elif self._fairway_runner is None:
            _say_once(type(self), _SENDS_FOR_EVER, type(self).__qualname__)
        elif self._fairway_runner == (threading.get_ident() if self._sync else asyncio.current_task()):
            raise Overstayed

    # What the classes above fill in or change

    async def dispatch(self, message: Message) -> None:
        """Call the method that handles the message."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """Send an ASGI event to the client."""
        raise NotImplementedError

    def _fairway_find_layer(self) -> Any:
        """The channel layer of this consumer, or None."""
        raise NotImplementedError

    def _fairway_must_close_connections(self) -> bool:
        """Whether `dispatch` must close database connections before it calls a handler."""
        return False

    def _fairway_note_detour(self) -> None:
        """The consumer is about to send a broadcast itself, because it could not be written to the socket directly."""

    def _fairway_handler_group(self, inbox: Inbox) -> HandlerGroup | None:
        return HandlerGroup(inbox, self.max_concurrency) if self.max_concurrency > 1 else None

    def _fairway_in_turn(self, item: Any) -> bool:
        """Whether the next items must wait until this one was handled, even if several handlers may run at a time."""
        kind = type(item)
        return (kind is dict and item.get("type") in _ORDERED_EVENTS) or not (
            kind is str or kind is bytes or kind is dict
        )

    def _fairway_bind(self, send: Send) -> None:
        connection = connection_of(send)
        if connection is None:
            self.base_send = send
        else:
            # Do not keep its bound method, to save memory: `base_send` makes one when it is needed.
            self._fairway_base_send = None
            self._fairway_connection = connection

    def _fairway_receive(self, data: str | bytes) -> Awaitable[Any]:
        """Dispatch a client's message, which the inbox holds as `str` or `bytes`."""
        key = "text" if type(data) is str else "bytes"
        return self.dispatch({"type": "websocket.receive", key: data})

    async def _fairway_send_payload(self, payload: Payload) -> None:
        await self.send({"type": "websocket.send", **payload.as_event()})


note_own(ConsumerLoop, "__call__", "dispatch", "send")


def _inbox_for(receive: Receive) -> Inbox:
    reader = reader_of(receive)
    return reader.inbox if reader is not None else Inbox(asyncio.get_running_loop())


def _proceed(pumps: Iterable[Pump]) -> None:
    for pump in pumps:
        pump.proceed_if_taken()


def _code_of(error: BaseException) -> int:
    return _CODE_OF_CANCELLATION if isinstance(error, asyncio.CancelledError) else _CODE_OF_ERROR


def _sent_away(consumer_class: type, event: Message) -> Message:
    """The layer has delivered an event with the type of the client's last one. Log that, and add a missing code."""
    _say_once(consumer_class, _SENT_AWAY, event["type"], consumer_class.__qualname__)
    return {"code": _CODE_WITHOUT_ERROR, **event}


async def _apart(farewell: Coroutine[Any, Any, None]) -> None:
    """Run the farewell in a task of its own.

    So it does not run while the caller handles its exception, and does not keep that alive. If the caller is cancelled
    meanwhile, as a demultiplexer does, this returns, and the caller raises its first error.
    """
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.create_task(farewell)


async def _stop(pumps: Iterable[Pump]) -> None:
    for pump in pumps:
        await pump.stop()


async def _finish(handlers: HandlerGroup, seconds: float) -> None:
    try:
        await handlers.finish(seconds)
    except StopConsumer as stop:
        untangle(stop)


async def _find_last_event(kind: str, inbox: Inbox, pumps: Iterable[Pump]) -> Message | None:
    """Return the client's last event if it has left, and None otherwise. Items before the event are dropped."""
    for _ in range(_PASSES_TO_THE_END):
        while (item := inbox.take_nowait(in_turn=True)) is not None:
            if type(item) is dict and item.get("type") == kind:
                return item
        if not pumps:
            break
        _proceed(pumps)
        await asyncio.sleep(0)
    return None


_SENT_AWAY: Final = (
    "A message of type %s from the channel layer has ended a consumer, %s, whose client had not left. Whoever can "
    "choose the type of messages can do so to others (this is said once for each class)"
)
_SENDS_FOR_EVER: Final = (
    "Something goes on sending to clients of %s that have left, which does nothing: a task or thread that the consumer "
    "has started should be ended in disconnect()"
)
_said: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()


def _say_once(consumer_class: type, text: str, *arguments: str) -> None:
    """Warn, once for each class of consumers."""
    said = _said.setdefault(consumer_class, set())
    if text not in said:
        said.add(text)
        logger.warning(text, *arguments)
