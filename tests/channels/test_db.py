"""`channels.db`: hops into the database thread, and when a connection is worth one."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest import mock

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.db import DatabaseError, close_old_connections, connection, transaction
from django.db.backends.signals import connection_created

import channels.db
from channels.consumer import AsyncConsumer
from channels.db import (
    DatabaseSyncToAsync,
    aclose_old_connections,
    connections_kept_open,
    connections_need_closing,
    database_sync_to_async,
)
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from tests.contracts.carriers import Carrier, open_carrier

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


async def test_failed_connection_that_proved_usable_is_still_watched(max_age, monkeypatch):
    """Django counts it as checked then; that must not pass for one that cannot be closed."""
    await max_age(None)
    settings_dict = await sync_to_async(lambda: connection.settings_dict)()
    monkeypatch.setitem(settings_dict, "CONN_HEALTH_CHECKS", True)

    def fail() -> None:
        with contextlib.suppress(DatabaseError):
            get_user_model().objects.extra(where=["no_such_column"]).count()

    await sync_to_async(fail)()
    for _ in range(2):  # that it failed is looked into, then that this counted as a check is undone
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
    # The thread's number may be another one's by now.
    assert None not in [noted() for those in channels.db._watched.values() for noted in those]


# In a forked child


def synchronous_code_in_a_thread() -> None:
    assert asyncio.run(sync_to_async(lambda: "done")()) == "done"


def connections_of_threads_that_are_no_more() -> None:
    async def check() -> bool:
        return connections_need_closing()

    assert asyncio.run(check()) is False


def a_connection_is_opened() -> None:
    connection_created.send(sender=Unclosable, connection=Unclosable())


FORKED = [synchronous_code_in_a_thread, connections_of_threads_that_are_no_more, a_connection_is_opened]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("work", FORKED, ids=lambda work: work.__name__)
async def test_forked_child_waits_for_no_thread_and_no_lock_of_its_parent(work):
    await sync_to_async(query)()
    process = multiprocessing.get_context("fork").Process(target=in_another_thread, args=(work,))
    with channels.db._lock:
        process.start()
    try:
        await asyncio.to_thread(process.join, 10)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def in_another_thread(work: Callable[[], None]) -> None:
    """The child's own thread still counts as one with a running event loop."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(work).result()


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


# Around the handlers of consumers ---------------------------------------------------------------------------------
#
# Served as in production: a communicator would hold connections open. PostgreSQL has tests of its own.


class Diary:
    """What happened, in any thread."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def note(self, entry: str) -> None:
        self.entries.append(entry)

    def replacement(self, *args: object, **kwargs: object) -> None:
        self.note("close")


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
async def carrier():
    async with open_carrier("fairway-asyncio") as carrier:
        yield carrier


def asynchronous(diary: Diary) -> type[AsyncWebsocketConsumer]:
    class Writer(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            diary.note("connect")
            await self.accept()

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            diary.note("receive")
            await self.send("read")

        async def disconnect(self, code: int) -> None:
            diary.note("disconnect")

    return Writer


def synchronous(diary: Diary) -> type[WebsocketConsumer]:
    class Writer(WebsocketConsumer):
        def connect(self) -> None:
            diary.note("connect")
            self.accept()

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            diary.note("receive")
            self.send("read")

        def disconnect(self, code: int) -> None:
            diary.note("disconnect")

    return Writer


async def converse(carrier: Carrier, consumer: type[AsyncConsumer]) -> None:
    """Connect, send two messages that are each answered, and leave."""
    await carrier.serve(consumer.as_asgi())
    client = await carrier.connect()
    for _ in range(2):
        await client.send_text("something")
        assert await client.receive() == "read"
    await client.close()
    await carrier.finished()


async def test_a_replacement_in_the_consumers_module_is_awaited_before_each_handler(carrier, diary, monkeypatch):
    async def replacement() -> None:
        diary.note("close")

    monkeypatch.setattr("channels.consumer.aclose_old_connections", replacement)
    await converse(carrier, asynchronous(diary))
    assert diary.entries == ["close", "connect", "close", "receive", "close", "receive", "close", "disconnect"]


async def test_a_replacement_that_is_taken_back_is_called_no_more(carrier, diary, monkeypatch, hops):
    with monkeypatch.context() as patch:
        patch.setattr("channels.consumer.aclose_old_connections", mock.AsyncMock(side_effect=diary.replacement))
        patch.setattr("channels.db.close_old_connections", diary.replacement)
    await converse(carrier, asynchronous(diary))
    assert diary.entries == ["connect", "receive", "receive", "disconnect"]
    assert hops.count == 0


async def test_a_replacement_is_called_before_each_asynchronous_handler_and_after_the_last(carrier, diary, monkeypatch):
    monkeypatch.setattr("channels.db.close_old_connections", diary.replacement)
    await converse(carrier, asynchronous(diary))
    handlers = ["close", "connect", "close", "receive", "close", "receive", "close", "disconnect"]
    assert diary.entries == [*handlers, "close"]


async def test_a_replacement_is_called_around_each_synchronous_handler(carrier, diary, monkeypatch):
    monkeypatch.setattr("channels.db.close_old_connections", diary.replacement)
    await converse(carrier, synchronous(diary))
    each = [["close", entry, "close"] for entry in ("connect", "receive", "receive", "disconnect")]
    assert diary.entries == [entry for entries in each for entry in entries]


class Clerk(AsyncWebsocketConsumer):
    """Looks into the database for a "query", and answers everything."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "query":
            await database_sync_to_async(query)()
        await self.send("read")


@pytest.mark.parametrize("seconds", [None, 600, 0])
async def test_a_thousand_messages_without_a_query_after_one_with_it_hop_never(carrier, max_age, hops, seconds):
    await max_age(seconds)
    await carrier.serve(Clerk.as_asgi())
    client = await carrier.connect()
    await client.send_text("query")
    await client.receive()
    assert await is_open() is (seconds != 0)

    before = hops.count
    for _ in range(1000):
        await client.send_text("nothing")
    for _ in range(1000):
        assert await client.receive() == "read"
    assert hops.count == before


async def test_a_conversation_without_the_database_leaves_the_loop_for_no_thread(carrier, diary, hops):
    await converse(carrier, asynchronous(diary))
    assert hops.count == 0
