"""Consumers and the connections to a real PostgreSQL that they keep: what a message costs, and what survives what.

They are served by the project's own server on a real socket, as in production: nothing holds connections open for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import DatabaseError, OperationalError, close_old_connections, connections, models
from django.utils import timezone

from channels.consumer import SyncConsumer, handler_threads
from channels.db import aclose_old_connections, database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from tests.contracts.carriers import FairwayCarrier, open_carrier
from tests.services.postgres import database_alias

pytestmark = pytest.mark.slow

ALIAS = "postgres"
DEADLINE = 30


class Backend(models.Func):
    """The process on the server's side that answers."""

    function = "pg_backend_pid"
    output_field = models.IntegerField()


def rows() -> Any:
    return Session.objects.using(ALIAS)


def pid_of_backend() -> int:
    return int(rows().values_list(Backend(), flat=True).get())


async def asynchronous_pid() -> int:
    return int(await rows().values_list(Backend(), flat=True).aget())


# A thread other than the one that all thread-sensitive code shares.
elsewhere = ThreadPoolExecutor(1)


class Store:
    @database_sync_to_async
    def pid(self) -> int:
        return pid_of_backend()


async def nothing() -> str:
    return "no query"


async def failing_query() -> int:
    return int(await rows().extra(where=["no_such_column"]).acount())


WAYS = {
    "function": database_sync_to_async(pid_of_backend),
    "method": Store().pid,
    "other thread": database_sync_to_async(pid_of_backend, thread_sensitive=False, executor=elsewhere),
    "asynchronous": asynchronous_pid,
    "plain sync_to_async": sync_to_async(pid_of_backend),
    "nothing": nothing,
    "failing": failing_query,
}


class Clerk(AsyncWebsocketConsumer):
    """Does what the message says, in one of the `WAYS`. Errors are answered, but for "!" which raises them."""

    ended: asyncio.Queue[int]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        way = text_data.removesuffix("!")
        try:
            await self.send(str(await WAYS[way]()))
        except DatabaseError as error:
            if text_data.endswith("!"):
                raise
            await self.send(type(error).__name__)

    async def disconnect(self, code: int) -> None:
        self.ended.put_nowait(code)


class SyncClerk(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            self.send(str(pid_of_backend()))
        except DatabaseError as error:
            self.send(type(error).__name__)


class SpreadClerk(SyncClerk):
    thread_sensitive = False


# Fixtures -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(postgres, django_db_blocker):
    """A database with one row, behind the alias; its name on the server."""
    with database_alias(postgres, ALIAS) as name, django_db_blocker.unblock():
        with connections[ALIAS].schema_editor() as editor:
            editor.create_model(Session)
        rows().create(session_key="one", session_data="", expire_date=timezone.now())
        connections[ALIAS].close()
        yield name


@pytest.fixture
def configure(monkeypatch, database):
    """Change keys of the alias's settings, for connections that are opened from now on."""

    def change(**keys: Any) -> None:
        for key, value in keys.items():
            monkeypatch.setitem(connections.settings[ALIAS], key, value)

    return change


def close() -> None:
    connections[ALIAS].close()


@pytest.fixture(autouse=True)
async def no_connections(database):
    """The threads outlive tests, so each begins and ends without an open connection."""
    yield
    await sync_to_async(close)()
    elsewhere.submit(close).result()


@pytest.fixture
def handler_thread(monkeypatch):
    """One thread, of this test only, for the consumers that are spread over several."""
    monkeypatch.setenv("ASGI_THREADS", "1")
    handler_threads.cache_clear()
    yield
    with handler_threads() as pool:
        pool.submit(close)
    handler_threads.cache_clear()


@pytest.fixture
async def carrier(handler_thread):
    Clerk.ended = asyncio.Queue()
    async with open_carrier("fairway-asyncio") as carrier:
        assert isinstance(carrier, FairwayCarrier)
        await carrier.serve(Clerk.as_asgi())
        yield carrier


class Customer:
    """A client that waits for the answer to each message."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def ask(self, way: str) -> str:
        await self.client.send_text(way)
        return str(await self.client.receive())

    async def pid(self, way: str = "function") -> int:
        answer = await self.ask(way)
        assert answer.isdigit(), answer
        return int(answer)

    async def ask_nothing(self, times: int) -> None:
        for _ in range(times):
            await self.client.send_text("nothing")
        for _ in range(times):
            assert await self.client.receive() == "no query"


@pytest.fixture
async def customer(carrier):
    return Customer(await carrier.connect())


@pytest.fixture
def backends(postgres, database):
    """The open connections as the server knows them, once there are so many."""

    async def wait_for(count: int) -> list[int]:
        end = time.monotonic() + DEADLINE
        while len(found := await asyncio.to_thread(postgres.backends, database)) != count:
            # The server notices a little later that a client has hung up.
            assert time.monotonic() < end, f"{len(found)} open connections instead of {count}"
            await asyncio.sleep(0.01)
        return found

    return wait_for


@pytest.fixture
def kill(postgres, database, backends):
    """End all connections on the server's side, once there are so many."""

    async def killed(count: int) -> None:
        await backends(count)
        assert await asyncio.to_thread(postgres.kill_backends, database) == count

    return killed


@pytest.fixture
def submissions(monkeypatch):
    """What was handed to a thread, by anybody, since the list was cleared last: asgiref's one thread and all pools."""
    found: list[Any] = []
    submit = ThreadPoolExecutor.submit

    def counted(self: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        found.append(function)
        return submit(self, function, *args, **kwargs)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    return found


# What a message costs -----------------------------------------------------------------------------------------------

QUERIES = ["function", "method", "other thread", "asynchronous", "plain sync_to_async"]


@pytest.mark.parametrize("way", QUERIES)
@pytest.mark.parametrize("max_age", [None, 600])
async def test_messages_without_a_query_use_no_thread_beside_a_persistent_connection(
    configure, customer, backends, submissions, way, max_age
):
    configure(CONN_MAX_AGE=max_age)
    pid = await customer.pid(way)
    assert submissions  # the query itself: the counting works

    submissions.clear()
    await customer.ask_nothing(1000)

    assert submissions == []
    assert await backends(1) == [pid]


@pytest.mark.parametrize("way", QUERIES)
async def test_a_connection_of_no_age_is_closed_and_then_messages_use_no_thread(
    configure, customer, backends, submissions, way
):
    configure(CONN_MAX_AGE=0)
    await customer.pid(way)
    # Django's own asynchronous methods close nothing: the next message does, at the price of one visit to the thread.
    left_open = way in ("asynchronous", "plain sync_to_async")
    submissions.clear()
    await customer.ask_nothing(1)
    assert len(submissions) == left_open
    await backends(0)

    submissions.clear()
    await customer.ask_nothing(1000)
    assert submissions == []


async def test_health_checks_cost_one_visit_to_the_thread_after_each_use(configure, customer, submissions):
    configure(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    pid = await customer.pid("asynchronous")
    for _ in range(3):
        submissions.clear()
        await customer.ask_nothing(1000)
        assert len(submissions) == 1
        assert await customer.pid("asynchronous") == pid


async def test_sockets_that_never_query_pay_nothing_for_the_queries_of_others(carrier, configure, submissions):
    configure(CONN_MAX_AGE=None)
    one, other = Customer(await carrier.connect()), Customer(await carrier.connect())
    await one.pid()
    await other.ask_nothing(1)
    submissions.clear()
    await other.ask_nothing(1000)
    assert submissions == []


# Age ----------------------------------------------------------------------------------------------------------------


async def end_of_age() -> None:
    """Wait until the connection of the database thread has reached its age."""
    close_at = await sync_to_async(lambda: connections[ALIAS].close_at)()
    await asyncio.sleep(close_at - time.monotonic() + 0.01)


@pytest.mark.parametrize("way", ["function", "asynchronous"])
async def test_a_connection_that_has_reached_its_age_is_closed_before_the_next_handler(
    configure, customer, backends, submissions, way
):
    configure(CONN_MAX_AGE=0.2)
    await customer.pid(way)
    await end_of_age()
    await backends(1)

    submissions.clear()
    await customer.ask_nothing(10)

    assert len(submissions) == 1
    await backends(0)


async def test_a_connection_opened_after_that_has_an_age_of_its_own(configure, customer, backends):
    configure(CONN_MAX_AGE=0.2)
    first = await customer.pid("asynchronous")
    await end_of_age()
    configure(CONN_MAX_AGE=600)
    second = await customer.pid("asynchronous")
    assert await customer.pid("asynchronous") == second != first
    assert await backends(1) == [second]


# PostgreSQL killed between two messages -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["function", "method", "asynchronous", "plain sync_to_async"])
async def test_health_checks_hide_that_the_server_dropped_the_connection(configure, customer, kill, backends, way):
    configure(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    first = await customer.pid(way)
    await kill(1)
    second = await customer.pid(way)
    assert second != first
    assert await backends(1) == [second]


@pytest.mark.parametrize("way", ["function", "method", "asynchronous", "plain sync_to_async"])
async def test_without_health_checks_one_query_fails_and_the_next_message_works(configure, customer, kill, way):
    configure(CONN_MAX_AGE=None)
    first = await customer.pid(way)
    await kill(1)
    assert await customer.ask(way) == OperationalError.__name__
    second = await customer.pid(way)
    assert await customer.pid(way) == second != first


async def test_a_failed_connection_is_closed_by_a_message_that_does_not_query(configure, customer, kill, submissions):
    configure(CONN_MAX_AGE=None)
    await customer.pid("asynchronous")
    await kill(1)
    assert await customer.ask("asynchronous") == OperationalError.__name__

    submissions.clear()
    await customer.ask_nothing(1)
    assert len(submissions) == 1
    assert await sync_to_async(lambda: connections[ALIAS].connection)() is None
    submissions.clear()
    await customer.ask_nothing(100)
    assert submissions == []


async def test_a_connection_that_failed_but_is_usable_keeps_its_health_checks(configure, customer, kill):
    configure(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    first = await customer.pid("asynchronous")
    assert await customer.ask("failing") == "ProgrammingError"
    await customer.ask_nothing(1)
    assert await customer.pid("asynchronous") == first
    await kill(1)
    assert await customer.pid("asynchronous") != first


async def test_a_connection_that_failed_but_is_usable_still_reaches_its_age(configure, customer, backends):
    configure(CONN_MAX_AGE=0.5, CONN_HEALTH_CHECKS=True)
    await customer.pid("asynchronous")
    assert await customer.ask("failing") == "ProgrammingError"
    await customer.ask_nothing(1)
    await end_of_age()
    await customer.ask_nothing(1)
    await backends(0)


async def test_a_consumer_that_fails_says_goodbye_and_the_others_go_on(carrier, configure, kill, caplog):
    configure(CONN_MAX_AGE=None)
    doomed, other = Customer(await carrier.connect()), Customer(await carrier.connect())
    first = await doomed.pid("asynchronous")
    await kill(1)

    await doomed.client.send_text("asynchronous!")
    assert (await doomed.client.ended()).code == 1011
    assert await asyncio.wait_for(Clerk.ended.get(), DEADLINE) == 1011
    await carrier.finished(1)

    assert isinstance(carrier.errors[0], OperationalError)
    assert "terminating connection" in str(carrier.errors[0])
    assert await other.pid("asynchronous") != first
    assert Clerk.ended.empty()


# Synchronous consumers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consumer", [SyncClerk, SpreadClerk])
async def test_synchronous_consumers_survive_a_dropped_connection(carrier, configure, kill, consumer):
    configure(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    await carrier.serve(consumer.as_asgi())
    customer = Customer(await carrier.connect())
    first = await customer.pid()
    await kill(1)
    assert await customer.pid() != first


async def test_synchronous_consumers_without_health_checks_fail_once(carrier, configure, kill):
    configure(CONN_MAX_AGE=None)
    await carrier.serve(SyncClerk.as_asgi())
    customer = Customer(await carrier.connect())
    first = await customer.pid()
    await kill(1)
    assert await customer.ask("") == OperationalError.__name__
    assert await customer.pid() != first


@pytest.mark.parametrize("consumer", [SyncClerk, SpreadClerk])
async def test_synchronous_consumers_close_connections_of_no_age_themselves(carrier, configure, backends, consumer):
    configure(CONN_MAX_AGE=0)
    await carrier.serve(consumer.as_asgi())
    await Customer(await carrier.connect()).pid()
    await backends(0)


async def test_a_consumer_without_a_client_looks_after_connections_as_well(configure, backends):
    """What `runworker` serves: messages of a channel, no socket."""
    handled = asyncio.Queue[int]()
    loop = asyncio.get_running_loop()

    class Worker(SyncConsumer):
        def job_done(self, message: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(handled.put_nowait, pid_of_backend())

    configure(CONN_MAX_AGE=0)
    jobs = asyncio.Queue[dict[str, Any]]()

    async def ignore(message: Any) -> None:
        """Nobody is told anything."""

    task = asyncio.create_task(Worker.as_asgi()({"type": "channel", "channel": "jobs"}, jobs.get, ignore))
    jobs.put_nowait({"type": "job.done"})
    await asyncio.wait_for(handled.get(), DEADLINE)
    await backends(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


# Connections of other threads ---------------------------------------------------------------------------------------


async def test_a_connection_of_another_thread_costs_one_visit_and_is_left_to_its_owner(
    carrier, configure, backends, submissions
):
    configure(CONN_MAX_AGE=0)
    pid = await asyncio.wrap_future(elsewhere.submit(pid_of_backend))
    customer = Customer(await carrier.connect())
    await customer.ask_nothing(1)
    submissions.clear()
    await customer.ask_nothing(1000)
    await Customer(await carrier.connect()).ask_nothing(1000)
    assert submissions == []
    assert await backends(1) == [pid]

    await asyncio.wrap_future(elsewhere.submit(close_old_connections))
    await backends(0)


async def test_aclose_closes_in_the_thread_that_queries(configure, backends):
    configure(CONN_MAX_AGE=0)
    await asynchronous_pid()
    await backends(1)
    await aclose_old_connections()
    await backends(0)
