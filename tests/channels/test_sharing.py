"""`channels.sharing`: calls that come together share a visit to the database thread, and the query for their rows."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext
from django.contrib.auth import get_user_model
from django.contrib.auth.models import UserManager
from django.contrib.sessions.models import Session
from django.db import connection, connections
from django.db.models import Manager, QuerySet
from django.db.utils import ConnectionDoesNotExist
from hypothesis import given
from hypothesis import strategies as st

from channels.db import database_sync_to_async
from channels.sharing import MAX_PASSES, Row, SharedQueries, SharedVisit, shared_database

pytestmark = pytest.mark.django_db(transaction=True)


# One visit for many calls --------------------------------------------------------------------------------------------


class Visited:
    """Counts visits to the thread, by the looks at its connections that come before each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        monkeypatch.setattr("channels.db.close_old_connections", self.look)

    def look(self) -> None:
        self.looks += 1

    @property
    def count(self) -> int:
        return self.looks // 2


async def test_calls_that_come_together_share_visits(monkeypatch: pytest.MonkeyPatch):
    visited = Visited(monkeypatch)
    threads = set()

    def double(number: int) -> int:
        threads.add(threading.get_ident())
        return 2 * number

    shared = SharedVisit(double)
    many = 2 * SharedVisit.max_calls_per_visit
    assert await asyncio.gather(*map(shared, range(many))) == [2 * number for number in range(many)]
    assert visited.count <= 3
    assert await shared(7) == 14
    assert threads == {await database_sync_to_async(threading.get_ident)()}


async def test_a_visit_waits_while_each_pass_of_the_loop_brings_more_calls(monkeypatch: pytest.MonkeyPatch):
    visited = Visited(monkeypatch)
    shared = SharedVisit(str)
    calls = []
    for number in range(MAX_PASSES):
        calls.append(asyncio.ensure_future(shared(number)))
        await asyncio.sleep(0)
    assert await asyncio.gather(*calls) == list(map(str, range(MAX_PASSES)))
    assert visited.count == 1


async def test_each_call_has_its_own_error_and_its_own_context(monkeypatch: pytest.MonkeyPatch):
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    def look(number: int) -> int:
        if number == 1:
            raise LookupError("on purpose")
        return variable.get()

    shared = SharedVisit(look)

    async def call(number: int) -> int:
        variable.set(number)
        return await shared(number)

    outcomes = await asyncio.gather(*map(call, range(3)), return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == (0, 2)
    assert isinstance(outcomes[1], LookupError)


async def test_a_cancelled_call_does_not_disturb_the_others():
    entered, go_on = threading.Event(), threading.Event()
    seen = []

    def wait(number: int) -> int:
        seen.append(number)
        entered.set()
        assert go_on.wait(10)
        return number

    shared = SharedVisit(wait)
    calls = [asyncio.ensure_future(shared(0))]
    await asyncio.get_running_loop().run_in_executor(None, entered.wait, 10)
    calls += [asyncio.ensure_future(shared(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    calls[0].cancel()
    calls[1].cancel()
    go_on.set()
    assert await calls[2] == 2
    assert seen == [0, 2]
    assert [call.cancelled() for call in calls] == [True, True, False]


async def test_a_context_with_a_thread_of_its_own_keeps_it():
    shared = SharedVisit(lambda _: threading.get_ident())
    outside = await shared(0)
    async with ThreadSensitiveContext():
        inside = await shared(0)
        assert inside == await database_sync_to_async(threading.get_ident)()
    assert inside != outside


async def test_nothing_is_left_of_a_call_that_fails():
    class Mistake(Exception):
        pass

    def fail(_: int) -> None:
        raise Mistake

    shared, alive = SharedVisit(fail), weakref.WeakSet[Any]()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            try:
                await shared(0)
            except Mistake as error:
                alive.add(error)
        await database_sync_to_async(int)()
        assert list(alive) == []
    finally:
        gc.enable()


# One query for many calls --------------------------------------------------------------------------------------------


class Table:
    """Rows by key, and the queries for them: each the keys that it asked for."""

    def __init__(self, rows: Mapping[str, Any]) -> None:
        self.rows = rows
        self.queries: list[tuple[str, list[str]]] = []

    def fetch(self, database: str, keys: Sequence[str]) -> Mapping[str, Any]:
        assert len(set(keys)) == len(keys)
        self.queries.append((database, sorted(keys)))
        return {key: f"{database}: {self.rows[key]}" for key in keys if key in self.rows}


class BrokenTable(Table):
    def fetch(self, database: str, keys: Sequence[str]) -> Mapping[str, Any]:
        super().fetch(database, keys)
        raise LookupError("no such table")


Steps = Generator[Row, Any, list[Any]]


async def gathered(shared: Any, arguments: Sequence[Any]) -> list[Any]:
    return await asyncio.gather(*map(shared, arguments), return_exceptions=True)


async def test_calls_that_come_together_share_one_query_for_each_kind_of_row():
    fruit, colours = Table({"apple": "red", "pear": "green"}), Table({"one: red": 1, "one: green": 2})

    def price(name: str) -> Steps:
        colour = yield Row(fruit.fetch, "one", name)
        number = yield Row(colours.fetch, "two", colour)
        return [colour, number]

    assert await gathered(SharedQueries(price), ["apple", "pear", "apple"]) == [
        ["one: red", "two: 1"],
        ["one: green", "two: 2"],
        ["one: red", "two: 1"],
    ]
    assert fruit.queries == [("one", ["apple", "pear"])]
    assert colours.queries == [("two", ["one: green", "one: red"])]


async def test_databases_and_kinds_of_rows_are_kept_apart():
    one, other = Table({"key": "one's"}), Table({"key": "the other's"})

    def row(where: tuple[Table, str]) -> Steps:
        table, database = where
        return [(yield Row(table.fetch, database, "key"))]

    found = await gathered(SharedQueries(row), [(one, "a"), (other, "a"), (one, "b"), (other, "a")])

    assert found == [["a: one's"], ["a: the other's"], ["b: one's"], ["a: the other's"]]
    assert one.queries == [("a", ["key"]), ("b", ["key"])]
    assert other.queries == [("a", ["key"])]


async def test_a_key_that_is_not_answered_and_a_query_that_fails_leave_the_question_to_the_call(
    caplog: pytest.LogCaptureFixture,
):
    table, broken = Table({"a": 1}), BrokenTable({"a": 1})

    def rows(key: str) -> Steps:
        return [(yield Row(table.fetch, "db", key)), (yield Row(broken.fetch, "db", key))]

    with caplog.at_level(logging.DEBUG, "channels.sharing"):
        assert await gathered(SharedQueries(rows), ["a", "b"]) == [["db: 1", None], [None, None]]
    (record,) = caplog.records
    assert record.getMessage() == "One query for 2 rows failed; they are asked for one by one"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


async def test_a_lone_call_fetches_nothing_together():
    table = Table({"a": 1})

    def row(key: str) -> Steps:
        return [(yield Row(table.fetch, "db", key))]

    shared = SharedQueries(row)
    assert await shared("a") == [None]
    assert await database_sync_to_async(shared.func)("a") == [None]
    async with ThreadSensitiveContext():
        assert await gathered(shared, ["a", "a"]) == [[None], [None]]
    assert table.queries == []


async def test_calls_end_apart_each_with_its_own_result_error_and_context():
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    table = Table(dict.fromkeys("abcdef"))
    threads = set()

    def steps(number: int) -> Steps:
        seen = []
        for key in "abcdef"[:number]:
            yield Row(table.fetch, "db", key)
            threads.add(threading.get_ident())
            seen.append(variable.get())
            if number == 3:
                raise LookupError(f"on purpose, in {variable.get()}")
        return seen

    shared = SharedQueries(steps)

    async def call(number: int) -> list[Any]:
        variable.set(number)
        return await shared(number)

    outcomes = await gathered(call, range(6))
    error = outcomes[3]
    assert outcomes == [[number] * number for number in range(3)] + [error] + [[4] * 4, [5] * 5]
    assert isinstance(error, LookupError)
    assert str(error) == "on purpose, in 3"
    assert threads == {await database_sync_to_async(threading.get_ident)()}
    assert [len(keys) for _, keys in table.queries] == [1] * 5


async def test_a_query_is_for_so_many_calls_and_no_more():
    table = Table({})

    def row(number: int) -> Steps:
        return [(yield Row(table.fetch, "db", str(number)))]

    most = SharedQueries.max_calls_per_visit
    # A SQLite before 3.32 takes so many variables; one more may stand in a condition.
    assert most < 999
    await gathered(SharedQueries(row), range(2 * most))
    assert max(len(keys) for _, keys in table.queries) == most


async def test_no_call_waits_for_others_for_long():
    table = Table({})

    def row(number: int) -> Steps:
        return [(yield Row(table.fetch, "db", f"{number:02}"))]

    shared = SharedQueries(row)
    calls = []
    for number in range(3 * MAX_PASSES):
        calls.append(asyncio.ensure_future(shared(number)))
        await asyncio.sleep(0)
    await asyncio.gather(*calls)
    assert len(table.queries[0][1]) <= MAX_PASSES + 1


async def test_nothing_is_left_of_a_shared_call_that_fails():
    class Mistake(Exception):
        pass

    table = Table({})

    def fail(key: str) -> Steps:
        yield Row(table.fetch, "db", key)
        raise Mistake

    shared, alive = SharedQueries(fail), weakref.WeakSet[Any]()

    async def call(key: str) -> None:
        try:
            await shared(key)
        except Mistake as error:
            alive.add(error)

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await asyncio.gather(call("a"), call("b"))
        await database_sync_to_async(int)()
        assert len(table.queries) == 3
        assert list(alive) == []
    finally:
        gc.enable()


KEYS = st.text("abcd", min_size=1, max_size=1)


@given(st.dictionaries(KEYS, st.integers()), st.lists(st.lists(st.tuples(st.booleans(), KEYS)), min_size=2, max_size=9))
def test_each_call_sees_the_rows_of_its_own_keys_in_its_own_order(
    rows: dict[str, int], programs: list[list[tuple[bool, str]]]
):
    tables = [Table(rows), Table({key: -number for key, number in rows.items()})]

    def steps(program: list[tuple[bool, str]]) -> Steps:
        found = []
        for which, key in program:
            found.append((yield Row(tables[which].fetch, "db", key)))
        return found

    async def run() -> list[Any]:
        return await gathered(SharedQueries(steps), programs)

    assert asyncio.run(run()) == [
        [f"db: {tables[which].rows[key]}" if key in rows else None for which, key in program] for program in programs
    ]


# Whose queries may be shared -----------------------------------------------------------------------------------------


class Choosy(QuerySet[Any]):
    pass


class Hiding(UserManager[Any]):
    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset().filter(is_active=True)


class Caching(Manager[Any]):
    def get(self, *args: Any, **kwargs: Any) -> Any:
        return super().get(*args, **kwargs)


class Creating(UserManager[Any]):
    def create_user(self, *args: Any, **kwargs: Any) -> Any:
        return super().create_user(*args, **kwargs)


def manager_of(kind: Any) -> Any:
    manager = kind()
    manager.model = get_user_model()
    return manager


def test_queries_of_djangos_managers_are_shared_and_those_of_others_that_change_no_query():
    for manager in (Session.objects, get_user_model()._default_manager, manager_of(Creating)):
        assert shared_database(manager) == "default"


@pytest.mark.parametrize("kind", [Hiding, Caching, Manager.from_queryset(Choosy)])
def test_queries_of_managers_that_choose_themselves_are_not_shared(kind: Any):
    assert shared_database(manager_of(kind)) is None


def test_queries_through_another_backend_are_not_shared(monkeypatch: pytest.MonkeyPatch):
    class DatabaseWrapper(type(connections["default"])):  # type: ignore[misc]
        """As of a package that gives each tenant a schema."""

    monkeypatch.setattr(connections["default"], "__class__", DatabaseWrapper)
    assert shared_database(Session.objects) is None


def test_queries_that_somebody_wraps_are_not_shared():
    with connection.execute_wrapper(lambda execute, *rest: execute(*rest)):
        assert shared_database(Session.objects) is None
    assert shared_database(Session.objects) == "default"


def test_a_database_that_does_not_exist_is_the_callers_error():
    with pytest.raises(ConnectionDoesNotExist):
        shared_database(manager_of(Manager).db_manager("nowhere"))
