"""What the connections of a server share: tasks in contexts of their own, the clock, the wheel's timer."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fairway.delivery import process_statistics
from fairway.server.access import AccessLog
from fairway.server.config import Config
from fairway.server.context import ServerContext
from fairway.server.limits import Limits

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


def context_of(app: Any = nothing, **limits: Any) -> ServerContext:
    config = Config(limits=Limits(**limits))
    return ServerContext(app, config, asyncio.get_running_loop(), AccessLog(False))


@pytest.fixture
async def context() -> AsyncIterator[ServerContext]:
    context = context_of()
    yield context
    context.close()


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
    await asyncio.wait_for(waiting, 20.0)


async def test_what_responses_have_in_common_is_made_once_a_second(context: ServerContext) -> None:
    defaults = context.defaults()
    assert defaults.lines.startswith(b"server: fairway\r\ndate: ")
    assert defaults.lines.endswith(b" GMT\r\n")
    assert [name for name, _ in defaults.fields] == [b"server", b"date"]
    context.now += 60
    later = context.defaults()
    assert later is not defaults
    assert context.defaults() is later  # a clock that is ahead stands still


async def test_an_error_of_the_application_is_logged_with_what_it_served(
    context: ServerContext, caplog: pytest.LogCaptureFixture
) -> None:
    scope = {"path": "/x", "client": ("::1", 7)}
    with caplog.at_level(logging.ERROR, logger="fairway.server"):
        context.application_error("HTTP", scope, ArithmeticError("on purpose"))
    (record,) = caplog.records
    assert record.getMessage() == "exception in application for HTTP /x from [::1]:7"
    assert record.exc_info is not None


async def test_requests_are_open_until_their_responses_are_counted(context: ServerContext) -> None:
    counters = context.counters
    assert not counters.has_open_requests
    counters.requests += 2
    counters.responses[2] += 1
    assert counters.has_open_requests
    counters.responses[0] += 1
    assert not counters.has_open_requests


async def test_what_a_server_counts_is_among_the_statistics_of_the_process(context: ServerContext) -> None:
    gc.collect()  # servers of other tests, which would go meanwhile
    before = process_statistics().counters["server"]
    context.counters.requests += 2

    after = process_statistics().counters["server"]

    assert after["requests"] - before["requests"] == 2
    assert after.keys() == {
        "address_refusals", "connections", "dropped_frames", "errors", "faults", "memory_drops", "messages_received",
        "rate_excesses", "refused",
        "requests",
        "responses_1xx", "responses_2xx", "responses_3xx", "responses_4xx", "responses_5xx", "responses_none",
        "slow_consumers", "slow_senders", "websockets",
    }  # fmt: skip
