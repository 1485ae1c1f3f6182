"""Calls synchronous database code from asynchronous code, and closes old database connections.

Django closes old connections before and after each request. Consumers live longer than requests. So here, old
connections are closed around each call of `database_sync_to_async`, and also before a message is handled, if a
connection needs it. `connections_need_closing` finds that out in the event loop, without a thread and without a query.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.db import close_old_connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Tests may replace the global `close_old_connections`. Then the replacement must be called.
_django_close_old_connections = close_old_connections


class DatabaseSyncToAsync(SyncToAsync[_P, _R]):
    """`sync_to_async` for code that uses the database. Old connections are closed before and after each call."""

    async def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        thread = leave_ended_thread()
        try:
            return await super().__call__(*args, **kwargs)
        except asyncio.CancelledError:
            AsyncToSync.executors.current = thread
            raise

    def thread_handler(self, loop: Any, *args: Any, **kwargs: Any) -> Any:
        _close_old_connections()
        try:
            return super().thread_handler(loop, *args, **kwargs)  # type: ignore[no-untyped-call]
        finally:
            _close_old_connections()


def leave_ended_thread() -> Any:
    """Make this context's synchronous code run where it ran before, if the thread that it has now takes no more.

    If a call of `sync_to_async` is cancelled while its thread returns from `async_to_sync`, asgiref takes that thread
    over into the caller's context, as the one for synchronous code. It takes no more, so all later calls would fail.
    Returns what runs synchronous code now.
    """
    executor = thread = getattr(AsyncToSync.executors, "current", None)
    while getattr(executor, "_broken", False):  # there is no public way to ask
        executor = getattr(executor, "_old_executor", None)
    if executor is not thread:
        AsyncToSync.executors.current = executor
    return executor


if TYPE_CHECKING:
    # Declared as a function, so that type checkers take a decorated method for a method.
    def database_sync_to_async(
        func: Callable[_P, _R], thread_sensitive: bool = True, executor: ThreadPoolExecutor | None = None
    ) -> Callable[_P, Coroutine[Any, Any, _R]]: ...

else:
    database_sync_to_async = DatabaseSyncToAsync


async def aclose_old_connections() -> None:
    """Close old connections of the thread in which synchronous code of this context runs.

    This always runs in that thread. `connections_need_closing` says whether the call is needed.
    """
    leave_ended_thread()
    _remember_thread(await sync_to_async(_close_in_this_thread)())


def connections_need_closing(loop: asyncio.AbstractEventLoop | None = None) -> bool:
    """Whether a call of `aclose_old_connections` at this place would have something to do.

    That is the case if an open connection is past its maximum age, has failed, was left outside of autocommit mode, or
    needs a health check. This only reads attributes, so it may be called for each message.

    `loop` is the running event loop. Passing it saves a system call in CPython 3.11, which asks for the process id
    when it looks up the loop.
    """
    if close_old_connections is not _django_close_old_connections:
        return True
    if not _watched:
        return False
    for reference in _within_reach(loop):
        if _is_due(reference()):
            return not _holders
    return False


@contextmanager
def connections_kept_open() -> Iterator[None]:
    """Inside the block, do not close old or failed connections, in any thread.

    This is for test clients: the database connection of a test must stay open while the test sends messages. A
    replacement of `close_old_connections` is still called.
    """
    global _holders
    with _lock:
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1


def _replaced() -> bool:
    return close_old_connections is not _django_close_old_connections


def _close_old_connections() -> None:
    if not _holders or _replaced():
        close_old_connections()


# Theory of operation.
#
# Each connection that Django opens is noted under the thread that has opened it, because only that thread can close it.
# A *place* is an event loop, or a `ThreadSensitiveContext` in it. Which thread runs the synchronous code of a place is
# known after the first call of `aclose_old_connections` from there. Until then, the connections of all threads count,
# so another thread's connections cost a place at most one such call. A connection that is still due after its own
# thread has tried to close it, such as SQLite in memory, cannot be closed, and is forgotten.

_Connections: TypeAlias = tuple["weakref.ref[BaseDatabaseWrapper]", ...]

_holders = 0
_lock = threading.Lock()
# The tuples are always replaced, never changed, because the event loop reads them without the lock.
_watched: dict[int, _Connections] = {}
_everywhere: _Connections = ()  # the connections of all threads
# The thread of each place, by the `id` of the place. The reference tells a place from a later one at the same address.
# A lookup in a `WeakKeyDictionary` would take longer than all the rest of the check.
_threads: dict[int, tuple[weakref.ref[Any], int]] = {}


def _place() -> Any:
    """Return the object that determines in which thread the caller's thread-sensitive code runs."""
    return SyncToAsync.thread_sensitive_context.get(None) or asyncio.get_running_loop()


def _within_reach(loop: asyncio.AbstractEventLoop | None) -> _Connections:
    """Return the connections that the thread of this place can close, or all connections if the thread is unknown."""
    try:
        place = SyncToAsync.thread_sensitive_context.get(None) or loop or asyncio.get_running_loop()
    except RuntimeError:
        # There is no running event loop.
        return _everywhere
    known = _threads.get(id(place))
    if known is None or known[0]() is not place:
        return _everywhere
    return _watched.get(known[1], ())


def _remember_thread(thread: int) -> None:
    place = _place()
    identity = id(place)
    _threads[identity] = (weakref.ref(place, lambda _: _threads.pop(identity, None)), thread)


def _watch(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Receiver of `connection_created`, which is sent in the connection's own thread, also when it reconnects."""
    with _lock:
        known = _watched.get(threading.get_ident(), ())
        if all(reference() is not connection for reference in known):
            _watched[threading.get_ident()] = (*known, weakref.ref(connection))
        _forget_dead_threads()


connection_created.connect(_watch, dispatch_uid="channels.db")


def _start_anew() -> None:
    """Called in a forked child, which has inherited the data of all threads of its parent, but only one thread."""
    global _lock
    _lock = threading.Lock()
    _threads.clear()
    for thread in _watched.keys() - {threading.get_ident()}:
        del _watched[thread]
    _forget_dead_threads()
    # The inherited executor of asgiref has no thread any more, and would wait for ever.
    SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)


os.register_at_fork(after_in_child=_start_anew)


def _close_in_this_thread() -> int:
    thread = threading.get_ident()
    due = [reference for reference in _watched.get(thread, ()) if _is_due(reference())]
    _close_old_connections()
    with _lock:
        if not _holders and not _replaced():
            stuck = [reference for reference in due if _is_stuck(reference())]
            _watched[thread] = tuple(ref for ref in _watched.get(thread, ()) if ref not in stuck)
        _forget_dead_threads()
    return thread


def _forget_dead_threads() -> None:
    """Drop references to connections that do not exist any more. A connection is freed with its thread."""
    global _everywhere
    for thread, references in list(_watched.items()):
        alive = tuple(reference for reference in references if reference() is not None)
        if alive:
            _watched[thread] = alive
        else:
            del _watched[thread]
    _everywhere = tuple(reference for references in _watched.values() for reference in references)


def _is_due(connection: BaseDatabaseWrapper | None) -> bool:
    """Whether Django would close or check this connection at the start of a request."""
    if connection is None or connection.connection is None or connection.in_atomic_block:
        return False
    return (
        connection.errors_occurred
        or (connection.close_at is not None and time.monotonic() >= connection.close_at)
        or (connection.health_check_enabled and connection.health_check_done)  # type: ignore[attr-defined]
        or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]
    )


def _is_stuck(connection: BaseDatabaseWrapper | None) -> bool:
    """Whether a connection is still due, although Django has just checked it.

    A connection that has failed and was found usable is not stuck: Django marks its health as checked for now.
    """
    return connection is not None and _is_due(connection) and not connection.health_check_done  # type: ignore[attr-defined]
