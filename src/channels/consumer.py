"""Consumers: classes whose instances are ASGI applications, with a method for each type of message.

The loop that serves a consumer is in `fairway.consumers.loop`. This module has the public interface for authors of
consumers, and all that depends on Django: old database connections, and the threads of synchronous handlers.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import Any, ClassVar, Protocol, cast

from asgiref.sync import async_to_sync, iscoroutinefunction

from channels import DEFAULT_CHANNEL_LAYER
from channels.db import (
    DatabaseSyncToAsync,
    aclose_old_connections,
    connections_need_closing,
    database_sync_to_async,
    leave_ended_thread,
)
from channels.exceptions import StopConsumer
from channels.layers import get_channel_layer
from channels.middleware import Receive, Scope, Send, note_alias
from channels.utils import await_many_dispatch, name_that_thing
from fairway.consumers.loop import LEAVING, ConsumerLoop
from fairway.consumers.names import get_handler_name, handler_of, reserve
from fairway.consumers.overrides import Overrides, note_own
from fairway.consumers.thread_send import ThreadSend
from fairway.delivery import Message, Payload, connection_of, note_detour

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

# Tests may replace the global `aclose_old_connections`. Then the replacement must be called.
_own_aclose_old_connections = aclose_old_connections


class _ChannelReceive:
    """`consumer.channel_receive`: the layer's `receive` for the consumer's channel, unless it has been assigned."""

    def __get__(self, consumer: AsyncConsumer | None, owner: type) -> Any:
        if consumer is None:
            return self
        if consumer.channel_layer is None:
            raise AttributeError("there is no channel_receive without a channel layer")
        return functools.partial(consumer.channel_layer.receive, consumer.channel_name)


class ConsumerApplication(Protocol):
    """The ASGI application that `as_asgi()` returns, for use in a route."""

    consumer_class: type[AsyncConsumer]
    consumer_initkwargs: dict[str, Any]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, Any]: ...


class AsyncConsumer(ConsumerLoop):
    """Base class of asynchronous consumers. Their handlers are coroutine methods named after types of messages.

    An instance serves one scope at a time. `as_asgi()` makes a new instance for each scope. By default, messages are
    dispatched strictly one after another. A handler may raise `StopConsumer` to end the consumer. Any other exception
    is raised to the server, after the handler for the end of the conversation (`websocket_disconnect` or
    `http_disconnect`) has run.
    """

    _sync: ClassVar[bool] = False
    channel_layer_alias: str = DEFAULT_CHANNEL_LAYER

    max_concurrency: int = 1
    """How many handlers may run at the same time.

    With more than one, handlers begin in the order of their messages, after `connect` has ended, and do not wait for
    each other. A disconnect is handled at once, while other handlers may still run. After that, these have
    `disconnect_grace` seconds to end before they are cancelled.
    """
    disconnect_grace: float = 10.0

    scope: Scope
    channel_layer: Any = None
    channel_name: Any = None
    channel_receive = _ChannelReceive()

    async def dispatch(self, message: Message) -> None:
        """Call the method that handles the message. Raises ValueError if there is none."""
        handler = handler_of(self, message)
        if self._fairway_must_close_connections():
            await aclose_old_connections()
        await handler(message)

    async def send(self, message: Message) -> None:
        """Send an ASGI event to the client. Returns once the server accepts more data."""
        await self.base_send(message)

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> ConsumerApplication:
        """Return an ASGI application. It serves each scope with a new instance, made with these keyword arguments."""

        def serve(scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
            return cls(**initkwargs)(scope, receive, send)

        # This must be a coroutine function, because servers tell ASGI 3 from older interfaces by that.
        async def app(scope: Scope, receive: Receive, send: Send) -> Any:
            return await serve(scope, receive, send)

        note_alias(app, serve)
        application = cast(ConsumerApplication, app)
        application.consumer_class = cls
        application.consumer_initkwargs = initkwargs
        functools.update_wrapper(app, cls, updated=())
        return application

    def _fairway_find_layer(self) -> Any:
        return get_channel_layer(self.channel_layer_alias)

    def _fairway_must_close_connections(self) -> bool:
        # This runs for each message, so the cheaper check comes first.
        return connections_need_closing(self._fairway_loop) or (
            aclose_old_connections is not _own_aclose_old_connections
        )

    async def _fairway_leave(self, event: Message) -> None:
        leave_ended_thread()  # of a handler that was cancelled
        await super()._fairway_leave(event)

    def _fairway_note_detour(self) -> None:
        overridden = self._fairway_overrides.on_the_way
        if overridden:
            reason = f"{type(self).__qualname__} overrides {', '.join(overridden)}"
        else:
            reason = f"its send is {_origin(self.base_send)}, not the server's own"
        note_detour(reason, f"Broadcasts reach {type(self).__qualname__} by its own send(), not directly")


def _origin(send: Send) -> str:
    """Return where a `send` was defined. `__qualname__` is not enough: wrappers often copy it from what they wrap."""
    send = getattr(send, "awaitable", send)  # unwrap `async_to_sync`
    function = getattr(send, "__func__", send)
    if isinstance(function, FunctionType):
        return f"{function.__globals__['__name__']}.{function.__code__.co_qualname}"
    return name_that_thing(send)


@functools.cache
def handler_threads() -> ThreadPoolExecutor:
    """Return the pool of threads for consumers with `thread_sensitive = False`. It is made when it is first needed."""
    threads = os.environ.get("ASGI_THREADS")
    return ThreadPoolExecutor(max_workers=int(threads) if threads else None, thread_name_prefix="channels-handler")


os.register_at_fork(after_in_child=handler_threads.cache_clear)


class ConsumerThread(DatabaseSyncToAsync[..., None]):
    """`database_sync_to_async` for a method of a synchronous consumer, with regard to its `thread_sensitive`."""

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
    """Base class of synchronous consumers. Their handlers are plain methods, which run in threads, and may use the ORM.

    All synchronous consumers share one thread, unless a `ThreadSensitiveContext` is active or `thread_sensitive` is
    False. `send` does not wait for a slow client. If too much waits for a client, the server disconnects it.
    """

    _sync = True

    thread_sensitive: bool = True
    """Whether handlers run in the single thread that tests and their transactions rely on.

    If false, they run in a pool of threads that all such consumers share. The environment variable `ASGI_THREADS` sets
    its size; without it, Python's default for executors is used. The messages of one connection are still handled in
    order, but not always in the same thread.
    """

    @ConsumerThread
    def dispatch(self, message: Message) -> None:
        """Call the method that handles the message, in a thread. Raises ValueError if there is none."""
        if self._fairway_runner is not LEAVING:
            self._fairway_runner = threading.get_ident()
        handler_of(self, message)(message)

    def send(self, message: Message) -> None:  # type: ignore[override]  # the synchronous twin
        """Send an ASGI event to the client, from a handler."""
        self.base_send(message)

    def _fairway_bind(self, send: Send) -> None:
        connection = connection_of(send)
        if connection is None:
            self.base_send = async_to_sync(cast(Any, _in_loop(send)))
        else:
            self.base_send = ThreadSend(connection, asyncio.get_running_loop())  # type: ignore[assignment]
            self._fairway_connection = connection

    async def _fairway_send_payload(self, payload: Payload) -> None:
        await database_sync_to_async(self.send)({"type": "websocket.send", **payload.as_event()})


note_own(AsyncConsumer, "dispatch", "send")
note_own(SyncConsumer, "dispatch", "send")
reserve(ConsumerLoop, AsyncConsumer, SyncConsumer)
# For instances that were never called.
Overrides.of(AsyncConsumer)


def _in_loop(send: Send) -> Send:
    """Return `send` as a coroutine function. `async_to_sync` would call a plain function in the handler's thread."""
    if iscoroutinefunction(send):
        return send

    async def send_in_loop(message: Message) -> None:
        await send(message)

    return send_in_loop
