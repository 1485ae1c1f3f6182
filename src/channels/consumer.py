"""Consumers: classes whose instances are ASGI applications, with a method for each type of message.

One loop serves a consumer. It waits on an inbox that holds what the client sends and what comes through the channel
layer, and dispatches one message after the other. On the project's own server the inbox is the connection's, and a
layer of ours writes straight into it; with any other server or layer a pump fetches from `receive`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType, MethodType
from typing import Any, ClassVar, Protocol, cast
from weakref import WeakKeyDictionary, WeakSet

from asgiref.sync import async_to_sync, iscoroutinefunction

from channels import DEFAULT_CHANNEL_LAYER
from channels.db import (
    DatabaseSyncToAsync,
    aclose_old_connections,
    connections_need_closing,
    database_sync_to_async,
    untangle,
)
from channels.exceptions import StopConsumer
from channels.layers import get_channel_layer
from channels.middleware import stands_for
from channels.utils import await_many_dispatch, name_that_thing
from fairway.concurrency import Crew
from fairway.delivery import (
    Connection,
    Inbox,
    Member,
    Message,
    Payload,
    Pump,
    SourceFailed,
    connection_of,
    get_running_loop,
    note_detour,
    statistics,
)
from fairway.layers.hub import Hub, hub_of
from fairway.layers.outage import outage_of, receive_through
from fairway.logs import ErrorLog, get_logger

__all__ = [
    "AsyncConsumer",
    "StopConsumer",
    "SyncConsumer",
    "aclose_old_connections",
    "await_many_dispatch",
    "database_sync_to_async",
    "get_channel_layer",
    "get_handler_name",
]

logger = get_logger("django.channels.consumer")
# By event loop: a server that starts anew says everything anew.
_errors: WeakKeyDictionary[asyncio.AbstractEventLoop, ErrorLog] = WeakKeyDictionary()

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

OVERSTAY = 1.0
"""Seconds for which a handler may go on sending, to nobody, after its client has left."""

CLEANUP_TIMEOUT = 10.0
"""Seconds that a consumer has to handle the disconnect which follows its own error."""

# By scope type: the event that ends a conversation, which a consumer that failed is still given.
_FAREWELLS = {"websocket": "websocket.disconnect", "http": "http.disconnect"}
_DISCONNECTS = frozenset(_FAREWELLS.values())
# The events between which the handlers of a crew run side by side.
_HINGES = (*_DISCONNECTS, "websocket.connect")  # compared, not hashed: a type may be anything
# Who overrides one of these wants to see what goes through it.
_LOOKED_AT = ("__call__", "dispatch", "send")
_CODE_OF_ERROR, _CODE_OF_CANCELLATION, _CODE_WITHOUT_ERROR = 1011, 1006, 1000
# A server that is not ours gives an event that it has within a few passes of the loop.
_PASSES_TO_THE_END = 10
# In the place of who runs a consumer's handlers, while it handles its disconnect.
_LEAVING = object()
# Tests replace the global `aclose_old_connections`; the replacement must then be called.
_own_aclose_old_connections = aclose_old_connections


class Unhandled(ValueError):
    """A message that no method handles. The error says all there is to say: a server logs `asgi_fault` and it."""

    asgi_fault = "a message was not handled"


class NoHandler(Unhandled):
    """A consumer has no method for a message of this type."""

    def __init__(self, message_type: str) -> None:
        super().__init__(message_type)
        self.message_type = message_type

    def __str__(self) -> str:
        return f"No handler for message type {self.message_type}"


# Applications pass on types that a client has chosen: what every consumer has is no handler, but for `send`, on which
# code relies. Filled in below, where the classes are.
_no_handlers: set[str] = set()


def _name_for(message_type: Any) -> str:
    if not isinstance(message_type, str):
        raise Unhandled(f"Malformed type in message ({type(message_type).__name__} instead of str)")
    name = message_type.replace(".", "_")
    if name.startswith("_"):
        raise Unhandled("Malformed type in message (leading underscore)")
    if name in _no_handlers:
        raise NoHandler(message_type)
    return name


# Of types as long as people write them. Errors are not kept, and so come anew each time.
_MAX_CACHED_LENGTH = 128
_handler_name = functools.lru_cache(maxsize=1024)(_name_for)


def get_handler_name(message: Message) -> str:
    """The name of the method that handles a message: its type, with underscores for dots.

    ValueError without a `type`, if the name would begin with an underscore, and if it is one that every consumer has,
    such as `dispatch`, apart from `send`.
    """
    try:
        message_type = message["type"]
    except KeyError:
        raise Unhandled("Incoming message has no 'type' attribute") from None
    if type(message_type) is not str or len(message_type) > _MAX_CACHED_LENGTH:
        return _name_for(message_type)
    return _handler_name(message_type)


# The methods of this package's classes as they were defined: anything else in their place is somebody who looks.
_own_methods: set[object] = set()


def register_own(cls: type, *names: str) -> None:
    """Note these methods, defined by this class, as the package's own."""
    _own_methods.update(cls.__dict__[name] for name in names)


def overridden(mro: Iterable[type], *names: str) -> Iterator[str]:
    """Those of these methods that, found along a method resolution order, are overridden or replaced."""
    for name in names:
        for base in mro:
            if name in base.__dict__:
                if base.__dict__[name] not in _own_methods:
                    yield name
                break


def overrides_none(mro: Iterable[type], *names: str) -> bool:
    """Whether none of these methods is overridden or replaced."""
    return next(overridden(mro, *names), None) is None


def must_close_connections(loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether `aclose_old_connections` has to be awaited before a handler is called."""
    return connections_need_closing(loop) or aclose_old_connections is not _own_aclose_old_connections


class Overstayed(asyncio.CancelledError):
    """Ends a handler that goes on sending after its client has left: `disconnect()` waits for it."""


_sent_away: WeakSet[type] = WeakSet()


def _name_who_is_sent_away(consumer_class: type, kind: str) -> None:
    if consumer_class not in _sent_away:
        _sent_away.add(consumer_class)
        logger.warning(
            "A message of type %s from the channel layer has ended a consumer, %s, whose client had not left. Whoever "
            "can choose the type of messages can do so to others (this is said once for each class)",
            kind,
            consumer_class.__qualname__,
        )


_senders_for_ever: WeakSet[type] = WeakSet()


def _name_who_sends_for_ever(consumer_class: type) -> None:
    if consumer_class not in _senders_for_ever:
        _senders_for_ever.add(consumer_class)
        logger.warning(
            "Something goes on sending to clients of %s that have left, which does nothing: a task or thread that the "
            "consumer has started should be ended in disconnect()",
            consumer_class.__qualname__,
        )


async def _last_event(kind: str, inbox: Inbox, pumps: Iterable[Pump]) -> Message | None:
    """The event with which the client has left, if it has; what it had sent before is passed over."""
    for _ in range(_PASSES_TO_THE_END):
        while (item := inbox.take_nowait()) is not None:
            if type(item) is dict and item.get("type") == kind:
                return item
        if not pumps:
            break
        for pump in pumps:
            pump.proceed_if_taken()
        await asyncio.sleep(0)
    return None


def _code_of(error: BaseException) -> int:
    return _CODE_OF_CANCELLATION if isinstance(error, asyncio.CancelledError) else _CODE_OF_ERROR


def _origin(send: Send) -> str:
    """Where a `send` was written: wrappers often carry the name of what they wrap."""
    send = getattr(send, "awaitable", send)  # what `async_to_sync` has wrapped
    function = getattr(send, "__func__", send)
    if isinstance(function, FunctionType):
        return f"{function.__globals__['__name__']}.{function.__code__.co_qualname}"
    return name_that_thing(send)


class _ChannelReceive:
    """`consumer.channel_receive`: the layer's `receive` for the consumer's channel, unless somebody assigned
    another.
    """

    def __get__(self, consumer: AsyncConsumer | None, owner: type) -> Any:
        if consumer is None:
            return self
        if consumer.channel_layer is None:
            raise AttributeError("there is no channel_receive without a channel layer")
        return functools.partial(consumer.channel_layer.receive, consumer.channel_name)


class ConsumerApplication(Protocol):
    """What `as_asgi()` returns: an ASGI application that can be put into a route."""

    consumer_class: type[AsyncConsumer]
    consumer_initkwargs: dict[str, Any]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, Any]: ...


class AsyncConsumer:
    """Base of asynchronous consumers: coroutine methods named after message types.

    An instance serves one scope at a time, `as_asgi()` makes a new one for each. Messages are dispatched strictly one
    after the other. `StopConsumer` ends the consumer; any other exception goes to the server, after the handler for the
    end of the conversation (`websocket_disconnect`, `http_disconnect`) has had its turn.
    """

    _sync: ClassVar[bool] = False
    channel_layer_alias: str = DEFAULT_CHANNEL_LAYER

    max_concurrency: int = 1
    """How many handlers may run at once. With more than one, handlers begin in the order of their messages, but do not
    wait for each other; `connect` has ended before any begins. A disconnect is handled as soon as it is known, beside
    the handlers that still run; they have `disconnect_grace` seconds to end after it, then they are cancelled.
    """
    disconnect_grace: float = 10.0

    scope: Scope
    channel_layer: Any = None
    channel_name: Any = None
    channel_receive = _ChannelReceive()

    # Not in the instance's `__dict__`: to ask for that would make one, which costs more than the attributes in it.
    _fairway_base_send: Send | None = None
    # Set only while `send` goes, unseen by anybody, to a connection of the project's own server.
    _fairway_connection: Connection | None = None
    _fairway_member: Member | None = None
    _fairway_loop: asyncio.AbstractEventLoop | None = None
    # Whether the consumer has closed or rejected the connection: what it sends later has nowhere to go.
    _fairway_closed: bool = False
    # Who runs the handlers, while one may be running that the disconnect has to wait for: a task, or a thread's number.
    _fairway_runner: object = None
    # When, after the client had left, something was first sent to it.
    _fairway_late_since: float | None = None
    # Whether a broadcast may pass this consumer by: nobody looks on the way of a message.
    _fairway_transparent: bool = False
    # Whether a handler may be called without `dispatch()` in between.
    _fairway_undispatched: bool = False

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
        # Whoever puts another one here wants to see what is sent.
        self._fairway_base_send = send
        self._fairway_connection = None
        if self._fairway_member is not None:
            self._fairway_member.detour()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope until the client has gone or `StopConsumer` is raised."""
        self.scope = scope
        self._fairway_closed = False
        self._fairway_runner = asyncio.current_task()
        if self._fairway_late_since is not None:
            self._fairway_late_since = None
        self._fairway_inspect()
        self.channel_layer = get_channel_layer(self.channel_layer_alias)
        self._fairway_loop = asyncio.get_running_loop()
        pumps: tuple[Pump, ...] = ()
        reader = connection_of(receive, "receive")
        inbox = reader.inbox if reader is not None else Inbox(self._fairway_loop)
        hub = hub_of(self.channel_layer)
        member = None
        farewell = _FAREWELLS.get(scope.get("type"), "")
        talking = False
        crew = self._fairway_crew(inbox)
        try:
            if self.channel_layer is not None:
                self.channel_name = await self.channel_layer.new_channel()
            self._fairway_bind(send)
            if reader is None:
                pumps = (Pump(receive, inbox, ahead=crew is not None),)
            if hub is not None:
                member = self._fairway_attach(hub, inbox)
            elif self.channel_layer is not None:
                pumps = (*pumps, Pump(self._fairway_layer_source(), inbox, for_layer=True))
            # The connection spends its life in what follows: what is not needed there must not live as long.
            del receive, send, reader
            try:
                while True:
                    item = inbox.take_nowait() if crew is None else await crew.next()
                    if item is None:
                        item = await inbox.wait()
                    if type(item) is dict:
                        talking = item.get("type") != farewell
                        if not talking:
                            if not inbox.has_ended:
                                _name_who_is_sent_away(type(self), farewell)
                                item = {"code": _CODE_WITHOUT_ERROR, **item}
                            await self._fairway_leave(item)
                            break
                    if crew is None or self._fairway_in_turn(item):
                        await self._fairway_handle(item)
                    else:
                        await crew.start(self._fairway_handle(item))
                    if pumps:
                        for pump in pumps:
                            pump.proceed_if_taken()
            except StopConsumer as stop:
                untangle(stop)
            if crew is not None:
                await self._fairway_finish(crew)
        except BaseException as error:
            untangle(error)
            if crew is not None:
                await crew.cancel()
            if talking:
                leaving = self._fairway_farewell(farewell, _code_of(error), inbox, pumps)
                # In a task of its own: what runs there does not run inside this exception, and does not keep it.
                # Who cancels this meanwhile, as a demultiplexer does, is to see what it was that failed.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.create_task(leaving)
            if not isinstance(error, Overstayed):
                raise
        finally:
            if self._fairway_connection is not None:
                self._fairway_base_send = self.base_send
            self._fairway_connection = self._fairway_member = self._fairway_runner = None
            if hub is not None and member is not None:
                hub.detach(member)
            for pump in pumps:
                await pump.stop()

    def _fairway_layer_source(self) -> Callable[[], Awaitable[Message]]:
        """How to receive from a layer that is not ours: its failing is not the end of the connection."""
        return functools.partial(
            receive_through, outage_of(self.channel_layer), self.channel_receive, unless=(StopConsumer,)
        )

    async def _fairway_finish(self, crew: Crew) -> None:
        try:
            await crew.finish(self.disconnect_grace)
        except StopConsumer as stop:
            untangle(stop)

    def _fairway_crew(self, inbox: Inbox) -> Crew | None:
        return Crew(inbox, self.max_concurrency) if self.max_concurrency > 1 else None

    def _fairway_in_turn(self, item: Any) -> bool:
        """Whether what comes after this item waits until it has been handled, although there is a crew."""
        kind = type(item)
        return (kind is dict and item.get("type") in _HINGES) or not (kind is str or kind is bytes or kind is dict)

    def _fairway_inspect(self) -> None:
        # For each connection: tools that instrument replace methods long after a class was made.
        mro = type(self).__mro__
        self._fairway_transparent = overrides_none(mro, *_LOOKED_AT)
        self._fairway_undispatched = not self._sync and overrides_none(mro, "dispatch")

    def _fairway_bind(self, send: Send) -> None:
        connection = connection_of(send, "send")
        if connection is None:
            self.base_send = send
        else:
            # Its own method need not be kept: `base_send` has it made when it is asked for.
            self._fairway_base_send = None
            self._fairway_connection = connection

    def _fairway_attach(self, hub: Hub, inbox: Inbox) -> Member:
        connection = self._fairway_connection if self._fairway_transparent else None
        capacity = self.channel_layer.get_capacity(self.channel_name)
        member = self._fairway_member = Member(self.channel_name, inbox, capacity, connection)
        hub.attach(member)
        return member

    def _fairway_handle(self, item: Any) -> Awaitable[Any]:
        kind = type(item)
        if kind is str or kind is bytes:
            return self._fairway_receive(item)
        if kind is dict:
            if self._fairway_undispatched and not must_close_connections(self._fairway_loop):
                return self._fairway_handler(item)(item)
            return self.dispatch(item)
        return self._fairway_other(item)

    def _fairway_handler(self, message: Message) -> Callable[[Message], Awaitable[Any]]:
        # Not cast(): it would build the type anew for each message, which takes longer than finding the handler.
        handler: Any = getattr(self, get_handler_name(message), None)
        # Nearly always it is a method, and needs no closer look.
        if type(handler) is not MethodType and (not callable(handler) or isinstance(handler, type)):
            raise NoHandler(message["type"])
        return handler

    def _fairway_receive(self, data: str | bytes) -> Awaitable[Any]:
        """Dispatch a message of the client that arrived bare."""
        key = "text" if type(data) is str else "bytes"
        return self.dispatch({"type": "websocket.receive", key: data})

    async def _fairway_other(self, item: Any) -> None:
        if type(item) is Payload:
            connection = self._fairway_connection
            if connection is not None and connection.is_open and self._fairway_transparent:
                connection.broadcast(item)
            else:
                if connection is None or not self._fairway_transparent:
                    self._fairway_note_detour()
                await self._fairway_send_payload(item)
        elif type(item) is SourceFailed:
            raise item.error
        else:
            await self.dispatch(item)

    def _fairway_note_detour(self) -> None:
        if self._fairway_transparent:
            reason = f"its send is {_origin(self.base_send)}, not the server's own"
        else:
            reason = f"{type(self).__qualname__} overrides {', '.join(overridden(type(self).__mro__, *_LOOKED_AT))}"
        note_detour(reason, f"Broadcasts reach {type(self).__qualname__} by its own send(), not directly")

    async def _fairway_send_payload(self, payload: Payload) -> None:
        await self.send({"type": "websocket.send", **payload.as_event()})

    async def _fairway_leave(self, event: Message) -> None:
        """Handle the client's last event, after which none is handled; a consumer need not have a handler for it."""
        self._fairway_runner = _LEAVING
        try:
            await self._fairway_handle(event)
        except NoHandler as missing:
            if missing.message_type != event["type"]:
                raise

    async def _fairway_farewell(self, kind: str, code: int, inbox: Inbox, pumps: Iterable[Pump]) -> None:
        """The consumer failed or is being cancelled: let it clean up as after any other end, but not for ever.

        It sees the code with which the client has left, if it has, else this one.
        """
        if not kind:
            return
        event = await _last_event(kind, inbox, pumps) or {"type": kind, "code": code, "reason": ""}
        try:
            async with asyncio.timeout(CLEANUP_TIMEOUT):
                await self._fairway_leave(event)
        except StopConsumer as stop:
            untangle(stop)
        except Exception as error:
            # The error that brought us here is the one to be raised.
            text = "%s failed again while it was handling its disconnect"
            errors = _errors.setdefault(asyncio.get_running_loop(), ErrorLog(logger))
            errors.report(time.monotonic(), error, text, type(self).__name__)

    def _fairway_came_too_late(self, message: Message, reason: object) -> None:
        """Count what was sent to a client that has left.

        A handler that goes on so is ended, by `Overstayed`, since `disconnect()` waits for it. Anything else that goes
        on after the consumer has ended is named, once for each class.
        """
        statistics.sends_after_close += 1
        logger.debug("%s was not sent, it came too late: %s", message["type"], reason)
        now = time.monotonic()
        if self._fairway_late_since is None:
            self._fairway_late_since = now
        elif now - self._fairway_late_since < OVERSTAY:
            return
        elif self._fairway_runner is None:
            _name_who_sends_for_ever(type(self))
        elif self._fairway_is_running():
            raise Overstayed

    def _fairway_is_running(self) -> bool:
        """Whether the caller is a handler."""
        return self._fairway_runner is asyncio.current_task()

    async def dispatch(self, message: Message) -> None:
        """Call the method that handles the message. ValueError if there is none."""
        handler = self._fairway_handler(message)
        if must_close_connections(self._fairway_loop):
            await aclose_old_connections()
        await handler(message)

    async def send(self, message: Message) -> None:
        """Send an ASGI event to the client. Returns when the server takes more."""
        await self.base_send(message)

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> ConsumerApplication:
        """An ASGI application that serves each scope with a new instance, made with these keyword arguments."""

        def serve(scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
            return cls(**initkwargs)(scope, receive, send)

        # A coroutine function: servers tell ASGI 3 from older interfaces by that.
        async def app(scope: Scope, receive: Receive, send: Send) -> Any:
            return await serve(scope, receive, send)

        stands_for(app, serve)
        application = cast(ConsumerApplication, app)
        application.consumer_class = cls
        application.consumer_initkwargs = initkwargs
        functools.update_wrapper(app, cls, updated=())
        return application


@functools.cache
def handler_threads() -> ThreadPoolExecutor:
    """The threads of the consumers that are spread, made when the first one needs them."""
    threads = os.environ.get("ASGI_THREADS")
    return ThreadPoolExecutor(max_workers=int(threads) if threads else None, thread_name_prefix="channels-handler")


os.register_at_fork(after_in_child=handler_threads.cache_clear)


class ConsumerThread(DatabaseSyncToAsync[..., None]):
    """`database_sync_to_async` for a method of synchronous consumers: in the thread that the consumer asks for."""

    def __init__(self, method: Callable[..., None]) -> None:
        super().__init__(method)
        self._method = method

    async def __call__(self, consumer: SyncConsumer, *args: Any) -> None:
        if consumer.thread_sensitive:
            await super().__call__(consumer, *args)
        else:
            spread = DatabaseSyncToAsync(self._method, thread_sensitive=False, executor=handler_threads())
            await spread(consumer, *args)


class SyncConsumer(AsyncConsumer):
    """Base of synchronous consumers: plain methods, each run in a thread, where Django's ORM may be used.

    All of them share one thread unless a `ThreadSensitiveContext` is active or `thread_sensitive` is False. `send` does
    not wait for a slow client: one that cannot follow is dropped when what waits for it reaches the server's bound.
    """

    _sync = True

    thread_sensitive: bool = True
    """Whether handlers run in the one thread that tests and their transactions rely on. With False they are spread over
    a pool that all such consumers share, of `ASGI_THREADS` threads (an environment variable; by default as many as
    Python gives an executor); each connection's messages are still handled in order, but not always in the same thread.
    """

    def _fairway_bind(self, send: Send) -> None:
        connection = connection_of(send, "send")
        if connection is None:
            self.base_send = async_to_sync(cast(Any, _in_loop(send)))
        else:
            self.base_send = ThreadSend(connection, asyncio.get_running_loop())  # type: ignore[assignment]
            self._fairway_connection = connection

    async def _fairway_send_payload(self, payload: Payload) -> None:
        await database_sync_to_async(self.send)({"type": "websocket.send", **payload.as_event()})

    @ConsumerThread
    def dispatch(self, message: Message) -> None:
        """Call the method that handles the message, in a thread. ValueError if there is none."""
        if self._fairway_runner is not _LEAVING:
            self._fairway_runner = threading.get_ident()
        self._fairway_handler(message)(message)

    def _fairway_is_running(self) -> bool:
        return self._fairway_runner == threading.get_ident()

    def send(self, message: Message) -> None:  # type: ignore[override]  # the synchronous twin
        """Send an ASGI event to the client, from a handler."""
        self.base_send(message)


register_own(AsyncConsumer, "__call__", "dispatch", "send")
register_own(SyncConsumer, "dispatch", "send")
for _class in (AsyncConsumer, SyncConsumer):
    _no_handlers.update(name for name in (*_class.__dict__, *_class.__annotations__) if not name.startswith("_"))
_no_handlers.discard("send")


def _in_loop(send: Send) -> Send:
    """`send` as a coroutine function: a plain one would be called in the handler's thread, away from the event loop."""
    if iscoroutinefunction(send):
        return send

    async def send_in_loop(message: Message) -> None:
        await send(message)

    return send_in_loop


class ThreadSend:
    """The `send` of a connection for code in other threads: waits for the event loop, never for the client."""

    __slots__ = ("_connection", "_loop")

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop

    def __call__(self, message: Message) -> None:
        if get_running_loop() is self._loop:
            self._connection.send_nowait(message)
            return
        outcome: ThreadFuture[None] = ThreadFuture()
        self._loop.call_soon_threadsafe(self._send, message, outcome)
        outcome.result()

    def _send(self, message: Message, outcome: ThreadFuture[None]) -> None:
        try:
            self._connection.send_nowait(message)
        except Exception as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)
