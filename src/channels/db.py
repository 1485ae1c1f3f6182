"""Calling synchronous database code from asynchronous code, and when to look after its connections.

Django closes old database connections around each request. Consumers outlive requests, so the same is
done around each call of `database_sync_to_async` and, when a connection needs it, before each message.
`connections_need_closing` tells the event loop whether one does; it costs no thread and no query.
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

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import close_old_connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Tests replace the global `close_old_connections`; the replacement must then be called.
_django_close_old_connections = close_old_connections


class DatabaseSyncToAsync(SyncToAsync[_P, _R]):
    """`sync_to_async` for code that uses the database: closes old connections before and after."""

    def thread_handler(self, loop: Any, *args: Any, **kwargs: Any) -> Any:
        _close_old_connections()
        try:
            return super().thread_handler(loop, *args, **kwargs)  # type: ignore[no-untyped-call]
        finally:
            _close_old_connections()


if TYPE_CHECKING:
    # Typed as a function, so that a method that it decorates is a method to type checkers.
    def database_sync_to_async(
        func: Callable[_P, _R], thread_sensitive: bool = True, executor: ThreadPoolExecutor | None = None
    ) -> Callable[_P, Coroutine[Any, Any, _R]]: ...

else:
    database_sync_to_async = DatabaseSyncToAsync


async def aclose_old_connections() -> None:
    """Close old connections of the thread in which synchronous code of this context runs.

    This always changes threads; `connections_need_closing` says whether that is worthwhile.
    """
    _remember_thread(await sync_to_async(_close_in_this_thread)())


def connections_need_closing(loop: asyncio.AbstractEventLoop | None = None) -> bool:
    """Whether `aclose_old_connections`, awaited at this place, would have something to do.

    `loop` is the running event loop. Callers that have it save a system call: CPython 3.11 asks for the process id
    whenever it looks up the loop.

    True if an open connection is past its maximum age, has failed, was left outside autocommit mode, or
    is due for a health check. Reads attributes only, so it may be called for every message.
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
    """Until the block ends, close no connection on account of age or failure, in any thread.

    For test clients: the connection of a test must outlive the messages that it sends. A replacement of
    `close_old_connections` is still called.
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
# Every connection Django opens is noted under the thread that opened it, because only that thread can
# close it. Which thread the synchronous code of a place runs in (an event loop, or a
# `ThreadSensitiveContext` in it) is known after the first hop from there; until then all threads count.
# So a connection of a foreign thread costs a place one hop at most. A connection that is still due after
# a hop into its own thread cannot be closed (SQLite in memory) and is forgotten, for the same reason.

_Connections: TypeAlias = tuple["weakref.ref[BaseDatabaseWrapper]", ...]

_holders = 0
_lock = threading.Lock()
# The tuples are replaced, never changed: the event loop reads them without the lock.
_watched: dict[int, _Connections] = {}
_everywhere: _Connections = ()  # all of them, flat
# By the identity of the place, with a reference to tell it from a later one at the same address. A
# `WeakKeyDictionary` says the same, but a look into it takes longer than all the rest of the check.
_threads: dict[int, tuple[weakref.ref[Any], int]] = {}


def _place() -> Any:
    """Return what decides in which thread the caller's thread-sensitive code runs."""
    return SyncToAsync.thread_sensitive_context.get(None) or asyncio.get_running_loop()


def _within_reach(loop: asyncio.AbstractEventLoop | None) -> _Connections:
    """Return the connections that a hop from this place would look after, or all if that is unknown."""
    try:
        place = SyncToAsync.thread_sensitive_context.get(None) or loop or asyncio.get_running_loop()
    except RuntimeError:
        # Asked outside of an event loop, from where nobody hops.
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
    """Receiver of `connection_created`, which is sent in the connection's own thread, on reconnects too."""
    with _lock:
        known = _watched.get(threading.get_ident(), ())
        if all(reference() is not connection for reference in known):
            _watched[threading.get_ident()] = (*known, weakref.ref(connection))
        _forget_dead_threads()


connection_created.connect(_watch, dispatch_uid="channels.db")


def _start_anew() -> None:
    """Run in a forked child. It has what belonged to all threads of its parent, but only one of these threads."""
    global _lock
    _lock = threading.Lock()
    _threads.clear()
    for thread in _watched.keys() - {threading.get_ident()}:
        del _watched[thread]
    _forget_dead_threads()
    # The executor of asgiref would wait for its thread for ever.
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
    """Drop what belongs to no living connection. Connections die with their thread."""
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
    """Whether a connection is due although Django has just looked after it. One that had failed and was found usable is
    not due: Django counts its health as checked, and undoes that later.
    """
    return connection is not None and _is_due(connection) and not connection.health_check_done  # type: ignore[attr-defined]
