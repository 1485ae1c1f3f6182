"""`channels.db`: hops into the database thread, and when a connection is worth one."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.db import close_old_connections, connection, transaction
from django.db.backends.signals import connection_created

import channels.db
from channels.db import (
    DatabaseSyncToAsync,
    aclose_old_connections,
    connections_kept_open,
    connections_need_closing,
    database_sync_to_async,
)

pytestmark = pytest.mark.django_db(transaction=True)


def query() -> None:
    get_user_model().objects.count()


def close() -> None:
    connection.close()


@pytest.fixture
def no_connection_here():
    """Setting up the test database opens a connection in the thread of the event loop."""
    close()


@pytest.fixture(autouse=True)
async def no_connections(no_connection_here):
    """The database thread outlives tests, so each begins and ends without an open connection in it."""
    await sync_to_async(close)()
    yield
    await sync_to_async(close)()


@pytest.fixture
def max_age(monkeypatch):
    """Sets the maximum age of the connection of the database thread."""

    async def set_max_age(seconds: int | None) -> None:
        settings_dict = await sync_to_async(lambda: connection.settings_dict)()
        monkeypatch.setitem(settings_dict, "CONN_MAX_AGE", seconds)

    return set_max_age


async def is_open() -> bool:
    return await sync_to_async(lambda: connection.connection is not None)()


class Replacement:
    """Counts calls in place of `close_old_connections`."""

    def __init__(self):
        self.calls = 0

    def __call__(self, **kwargs):
        self.calls += 1


@pytest.fixture
def replacement(monkeypatch):
    counter = Replacement()
    monkeypatch.setattr("channels.db.close_old_connections", counter)
    return counter


# database_sync_to_async


def test_name_is_the_class():
    assert database_sync_to_async is DatabaseSyncToAsync
    assert issubclass(DatabaseSyncToAsync, SyncToAsync)
    assert channels.db.close_old_connections is close_old_connections


async def test_wraps_functions_and_methods():
    class Store:
        @database_sync_to_async
        def add(self, first: int, second: int) -> tuple[object, int, int]:
            return self, first + second, threading.get_ident()

    store = Store()
    instance, total, thread = await store.add(1, second=2)

    assert (instance, total) == (store, 3)
    assert thread != threading.get_ident()
    assert asyncio.iscoroutinefunction(database_sync_to_async(query))


async def test_calls_share_one_thread_unless_told_otherwise():
    same = {await database_sync_to_async(threading.get_ident)() for _ in range(3)}
    with ThreadPoolExecutor(1) as executor:
        other = database_sync_to_async(threading.get_ident, thread_sensitive=False, executor=executor)
        assert await other() not in same
    assert len(same) == 1


async def test_connection_is_closed_after_the_call_by_default():
    await database_sync_to_async(query)()
    assert not await is_open()


async def test_connection_is_closed_after_a_call_that_fails():
    def fail() -> None:
        query()
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        await database_sync_to_async(fail)()
    assert not await is_open()


async def test_young_connection_is_kept(max_age):
    await max_age(600)
    await database_sync_to_async(query)()
    assert await is_open()


async def test_replacement_is_called_before_and_after(replacement):
    assert await database_sync_to_async(lambda: replacement.calls)() == 1
    assert replacement.calls == 2


async def test_replacement_is_called_by_aclose(replacement):
    await aclose_old_connections()
    assert replacement.calls == 1


async def test_aclose_always_hops(hops):
    await aclose_old_connections()
    assert hops.count == 1


async def test_aclose_closes_an_old_connection():
    await sync_to_async(query)()
    assert await is_open()
    await aclose_old_connections()
    assert not await is_open()


# connections_need_closing


async def test_nothing_to_close_without_any_database_use():
    assert connections_need_closing() is False


def seconds_of_a_check() -> float:
    def once() -> float:
        start = time.perf_counter()
        for _ in range(1000):
            connections_need_closing()
        return (time.perf_counter() - start) / 1000

    return min(once() for _ in range(20))


untraced = pytest.mark.skipif(sys.gettrace() is not None, reason="code that is being traced cannot be timed")


@untraced
async def test_check_takes_less_than_a_microsecond_without_database_use(monkeypatch):
    monkeypatch.setattr("channels.db._watched", {})
    assert seconds_of_a_check() < 1e-6


@untraced
async def test_check_of_a_young_connection_takes_little_longer(max_age):
    await max_age(600)
    await sync_to_async(query)()
    await aclose_old_connections()
    assert connections_need_closing() is False
    assert seconds_of_a_check() < 3e-6


async def test_obsolete_connection_needs_closing_once():
    await sync_to_async(query)()
    assert connections_need_closing() is True
    await aclose_old_connections()
    assert connections_need_closing() is False


async def test_connection_opened_again_is_seen_again():
    for _ in range(2):
        await sync_to_async(query)()
        assert connections_need_closing() is True
        await aclose_old_connections()


async def test_asynchronous_queries_are_seen():
    await get_user_model().objects.acount()
    assert connections_need_closing() is True


async def test_young_connection_needs_nothing(max_age):
    await max_age(600)
    await sync_to_async(query)()
    assert connections_need_closing() is False


async def test_failed_connection_needs_closing(max_age):
    await max_age(None)

    def fail() -> None:
        connection.ensure_connection()
        connection.errors_occurred = True

    await sync_to_async(fail)()
    assert connections_need_closing() is True
    await aclose_old_connections()
    assert connections_need_closing() is False


async def test_connection_out_of_autocommit_needs_closing(max_age):
    await max_age(None)
    await sync_to_async(lambda: transaction.set_autocommit(False))()
    assert connections_need_closing() is True
    await aclose_old_connections()
    assert not await is_open()


async def test_health_check_is_due_after_each_use(max_age, monkeypatch):
    await max_age(None)
    settings_dict = await sync_to_async(lambda: connection.settings_dict)()
    monkeypatch.setitem(settings_dict, "CONN_HEALTH_CHECKS", True)
    await sync_to_async(query)()

    assert connections_need_closing() is True
    await aclose_old_connections()
    assert connections_need_closing() is False
    await sync_to_async(query)()
    assert connections_need_closing() is True


async def test_connection_in_a_transaction_is_left_alone():
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with transaction.atomic():
            query()
            entered.set()
            leave.wait(5)

    task = asyncio.create_task(sync_to_async(work)())
    await asyncio.to_thread(entered.wait, 5)
    assert connections_need_closing() is False
    leave.set()
    await task
    assert connections_need_closing() is True


async def test_replacement_has_to_be_called(replacement):
    assert connections_need_closing() is True
    with connections_kept_open():
        assert connections_need_closing() is True
        await aclose_old_connections()
    assert replacement.calls == 1


async def test_replacement_loses_sight_of_no_connection(monkeypatch):
    await sync_to_async(query)()
    with monkeypatch.context() as patch:
        patch.setattr("channels.db.close_old_connections", lambda: None)
        await aclose_old_connections()
    assert connections_need_closing() is True


@pytest.fixture
def foreign_connection():
    """An old, open connection of a thread that no hop reaches."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(query).result()
        yield
        executor.submit(close).result()


async def test_connection_of_another_thread_costs_one_hop(foreign_connection):
    assert connections_need_closing() is True
    await aclose_old_connections()
    assert connections_need_closing() is False

    await sync_to_async(query)()
    assert connections_need_closing() is True


async def test_connection_of_another_thread_costs_nothing_to_later_connections(foreign_connection):
    await aclose_old_connections()

    async def another_consumer() -> bool:
        return connections_need_closing()

    assert await asyncio.create_task(another_consumer()) is False


async def test_thread_sensitive_context_is_a_place_of_its_own():
    await aclose_old_connections()
    async with ThreadSensitiveContext():
        await sync_to_async(query)()
        assert connections_need_closing() is True
        await aclose_old_connections()
        assert connections_need_closing() is False
        assert not await is_open()
    assert connections_need_closing() is False


def test_main_thread_is_looked_after_under_async_to_sync():
    async def main() -> list[bool]:
        await sync_to_async(query)()
        before = connections_need_closing()
        await aclose_old_connections()
        return [before, connections_need_closing()]

    assert async_to_sync(main)() == [True, False]
    assert connection.connection is None


class Unclosable:
    """As much of a connection as is looked at, of a kind that stays open when asked to close."""

    connection = object()
    in_atomic_block = errors_occurred = health_check_enabled = health_check_done = False
    close_at = 0.0
    autocommit = True
    settings_dict = {"AUTOCOMMIT": True}


async def test_connection_that_cannot_be_closed_is_forgotten():
    """SQLite in memory ignores `close()`."""
    unclosable = Unclosable()
    await sync_to_async(lambda: connection_created.send(sender=Unclosable, connection=unclosable))()

    assert connections_need_closing() is True
    await aclose_old_connections()
    assert connections_need_closing() is False


async def test_connections_of_ended_threads_are_forgotten():
    thread = threading.Thread(target=lambda: connection_created.send(sender=None, connection=Unclosable()))
    thread.start()
    thread.join()
    assert connections_need_closing() is False
    await aclose_old_connections()
    assert thread.ident not in channels.db._watched


# connections_kept_open


async def test_connection_is_kept_open_while_held():
    with connections_kept_open():
        await database_sync_to_async(query)()
        await aclose_old_connections()
        assert connections_need_closing() is False
        assert await is_open()
    assert connections_need_closing() is True
    await aclose_old_connections()
    assert not await is_open()


async def test_holds_add_up_and_end_with_an_error():
    await sync_to_async(query)()
    with connections_kept_open():
        with contextlib.suppress(LookupError), connections_kept_open():
            raise LookupError
        assert connections_need_closing() is False
    assert connections_need_closing() is True


def test_check_outside_of_an_event_loop_looks_at_all_threads(foreign_connection):
    assert connections_need_closing() is True


def test_closed_connection_is_not_due():
    closed = SimpleNamespace(connection=None)
    assert channels.db._is_due(closed) is False
