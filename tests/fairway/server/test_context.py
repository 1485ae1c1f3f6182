"""What the connections of a server share: tasks in contexts of their own, the clock, the wheel's timer."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fairway.server.access import AccessLog
from fairway.server.config import Config
from fairway.server.context import Context
from fairway.server.limits import Limits

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


def context_of(app: Any = nothing, **limits: Any) -> Context:
    config = Config(limits=Limits(**limits))
    return Context(app, config, asyncio.get_running_loop(), AccessLog(False))


@pytest.fixture
async def context() -> AsyncIterator[Context]:
    context = context_of()
    yield context
    context.close()


class Entry:
    def __init__(self, answer: float | None = None) -> None:
        self.wheel_slot: int | None = None
        self.called = asyncio.Event()
        self._answer = answer

    def handle_deadline(self, now: float) -> float | None:
        self.called.set()
        return self._answer


class Connection:
    def drain(self) -> None: ...

    def abort(self) -> None: ...


async def test_a_task_sees_no_variable_of_who_started_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["seen"] = variable.get(None)
        variable.set(2)

    variable.set(1)
    scope: dict[str, Any] = {}
    context = context_of(app)
    await context.run(scope, None, None, None, context.forget)
    assert (scope["seen"], variable.get()) == (None, 1)


async def test_the_call_itself_runs_in_the_context_of_its_task() -> None:
    seen: list[int | None] = []

    def app(scope: Any, receive: Any, send: Any) -> Any:
        variable.set(5)
        return rest()

    async def rest() -> None:
        seen.append(variable.get(None))

    context = context_of(app)
    await context.run({}, None, None, None, context.forget)
    assert seen == [5]


async def test_an_application_may_return_any_awaitable() -> None:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    context = context_of(app)
    task = context.run({}, None, None, None, context.forget)
    assert list(context.tasks) == [task]
    await task
    await asyncio.sleep(0)
    assert context.tasks == {}


async def test_a_deadline_is_handled_and_the_timer_rests_when_there_is_none(context: Context) -> None:
    entry = Entry()
    context.schedule(entry, context.touch() + 0.01)
    assert context._timer is not None
    async with asyncio.timeout(5.0):
        await entry.called.wait()
    assert context._timer is None
    assert len(context.wheel) == 0


async def test_a_handler_that_raises_stops_neither_the_others_nor_the_clock(context: Context) -> None:
    class Raising(Entry):
        def handle_deadline(self, now: float) -> float | None:
            raise ArithmeticError("on purpose")

    reported: list[Any] = []
    context.loop.set_exception_handler(lambda _, details: reported.append(details["exception"]))
    entries = [Raising(), Entry()]
    for entry in entries:
        context.schedule(entry, context.touch() + 0.01)
    async with asyncio.timeout(5.0):
        await entries[1].called.wait()
    later = Entry()
    context.schedule(later, context.touch() + 0.01)
    async with asyncio.timeout(5.0):
        await later.called.wait()
    assert len(reported) == 1


async def test_a_closed_context_arms_no_timer(context: Context) -> None:
    context.close()
    context.schedule(Entry(), context.touch() + 1.0)
    assert context._timer is None


async def test_waiting_for_the_last_connection() -> None:
    context = context_of()
    await context.wait_no_connections()
    connections = [Connection(), Connection()]
    for connection in connections:
        context.add(connection)
    waiting = asyncio.ensure_future(context.wait_no_connections())
    context.remove(connections[0])
    await asyncio.sleep(0)
    assert not waiting.done()
    context.remove(connections[1])
    await asyncio.wait_for(waiting, 1.0)


@pytest.mark.parametrize(
    ("limit", "count", "refusing", "full"), [(0, 9, 0, False), (2, 2, 0, False), (2, 3, 0, True), (2, 4, 2, False)]
)
async def test_when_there_are_too_many_connections(limit: int, count: int, refusing: int, full: bool) -> None:
    context = context_of(max_connections=limit)
    for _ in range(count):
        context.add(Connection())
    context.refusing = refusing
    assert context.is_full is full


async def test_default_headers_are_made_once_a_second(context: Context) -> None:
    headers = context.default_headers()
    assert headers.startswith(b"server: fairway\r\ndate: ")
    assert headers.endswith(b" GMT\r\n")
    context._block_time -= 1
    assert context.default_headers() is not headers


async def test_an_error_of_the_application_is_logged_with_what_it_served(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    scope = {"path": "/x", "client": ("::1", 7)}
    with caplog.at_level(logging.ERROR, logger="fairway.server"):
        context.application_error("HTTP", scope, ArithmeticError("on purpose"))
    (record,) = caplog.records
    assert record.getMessage() == "exception in application for HTTP /x from [::1]:7"
    assert record.exc_info is not None
