"""The lifespan protocol: what the application is told, what its answers do, and that its task always ends."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fairway.asgi.lifespan import Lifespan, LifespanFailed

NEVER = 3600.0
AT_ONCE = 0.001


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="fairway.server")
    return caplog


class Recorder:
    """An application that keeps a connection open and records what it is told."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        for phase in ("startup", "shutdown"):
            message = await receive()
            self.events.append(message["type"])
            if phase == "startup":
                scope["state"]["pool"] = "open"
            await send({"type": f"lifespan.{phase}.complete"})
        self.events.append("returned")


async def unsupporting(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"Django can only handle ASGI/HTTP connections, not {scope['type']}.")


async def test_application_is_started_and_stopped():
    app = Recorder()
    lifespan = Lifespan(app, "auto", NEVER)

    state = await lifespan.startup()
    assert app.events == ["lifespan.startup"]
    await lifespan.shutdown()

    assert app.events == ["lifespan.startup", "lifespan.shutdown", "returned"]
    assert state == {"pool": "open"}
    assert app.scope["type"] == "lifespan"
    assert app.scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert app.scope["state"] is state


async def test_mode_off_does_not_call_the_application():
    app = Recorder()
    lifespan = Lifespan(app, "off", NEVER)

    assert await lifespan.startup() is None
    await lifespan.shutdown()

    assert app.scope == {}


async def test_unsupporting_application_is_served_without(log: pytest.LogCaptureFixture):
    lifespan = Lifespan(unsupporting, "auto", NEVER)

    assert await lifespan.startup() is None
    await lifespan.shutdown()

    assert [(record.levelname, record.getMessage()) for record in log.records if record.name == "fairway.server"] == [
        ("DEBUG", "lifespan is not used: the application does not support it")
    ]


async def test_application_that_returns_at_once_is_served_without():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    assert await Lifespan(app, "auto", NEVER).startup() is None


async def test_error_after_asking_for_the_event_is_shown(log: pytest.LogCaptureFixture):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        raise KeyError(message["type"])

    assert await Lifespan(app, "auto", NEVER).startup() is None

    [record] = [record for record in log.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == (
        "lifespan is not used: the application raised KeyError: 'lifespan.startup' at start-up "
        "(--lifespan on shows where)"
    )


async def test_mode_on_makes_an_error_fatal(log: pytest.LogCaptureFixture):
    with pytest.raises(LifespanFailed, match=r"^the application raised an exception in its lifespan call$") as caught:
        await Lifespan(unsupporting, "on", NEVER).startup()

    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.exit_code == 3
    [record] = log.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None


async def test_mode_on_wants_an_answer():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    with pytest.raises(LifespanFailed, match=r"returned from its lifespan call without completing the start-up$"):
        await Lifespan(app, "on", NEVER).startup()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"message": "no database"}, "the application refused to start: no database"),
        ({}, "the application refused to start: it gave no reason"),
    ],
)
@pytest.mark.parametrize("then", ["return", "raise", "wait"])
async def test_refusal_stops_the_server(message: dict[str, str], text: str, then: str, log: pytest.LogCaptureFixture):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", **message})
        if then == "raise":
            raise RuntimeError("the same again")
        if then == "wait":
            await receive()
            await receive()

    with pytest.raises(LifespanFailed, match=f"^{text}$"):
        await Lifespan(app, "auto", AT_ONCE if then == "wait" else NEVER).startup()

    assert [record.getMessage() for record in log.records if record.levelno > logging.DEBUG] == [text]


async def test_slow_start_is_a_failed_one():
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(LifespanFailed, match=r"^the application did not finish its lifespan start-up within 0\.001 s$"):
        await Lifespan(app, "auto", AT_ONCE).startup()
    assert ended.is_set()


async def test_cancelling_the_start_ends_the_application():
    begun, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(Lifespan(app, "auto", NEVER).startup())
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_error_in_between_is_logged_once(log: pytest.LogCaptureFixture):
    fail = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await fail.wait()
        raise LookupError("lost")

    lifespan = Lifespan(app, "auto", NEVER)
    assert await lifespan.startup() == {}
    fail.set()
    await lifespan.shutdown()

    [record] = [record for record in log.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "the application's lifespan raised an exception"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "lost"


async def test_error_at_shutdown_is_logged_once(log: pytest.LogCaptureFixture):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise LookupError("lost")

    lifespan = Lifespan(app, "auto", NEVER)
    await lifespan.startup()
    await lifespan.shutdown()
    await lifespan.shutdown()

    assert [record.levelname for record in log.records if record.levelno > logging.DEBUG] == ["ERROR"]


async def test_failed_shutdown_is_logged_in_its_own_words(log: pytest.LogCaptureFixture):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "queue not empty"})
        raise LookupError("the same again")

    lifespan = Lifespan(app, "auto", NEVER)
    await lifespan.startup()
    await lifespan.shutdown()

    assert [record.getMessage() for record in log.records if record.levelno > logging.DEBUG] == [
        "the application's shutdown failed: queue not empty"
    ]


async def test_slow_shutdown_is_cut():
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    lifespan = Lifespan(app, "auto", NEVER)
    await lifespan.startup()
    lifespan._timeout = AT_ONCE
    await lifespan.shutdown()

    assert ended.is_set()


async def test_application_that_loops_over_receive_does_not_delay_the_stop():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})

    lifespan = Lifespan(app, "auto", NEVER)
    await lifespan.startup()

    await asyncio.wait_for(lifespan.shutdown(), 5)


async def test_application_that_ends_after_its_start_is_fine(log: pytest.LogCaptureFixture):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    lifespan = Lifespan(app, "auto", NEVER)
    assert await lifespan.startup() == {}
    await lifespan.shutdown()

    assert not [record for record in log.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        (["lifespan.hello"], ValueError, "unknown lifespan message 'lifespan.hello'"),
        (["http.response.start"], ValueError, "unknown lifespan message 'http.response.start'"),
        (["lifespan.shutdown.complete"], RuntimeError, "lifespan.shutdown.complete was not expected now"),
        (
            ["lifespan.startup.complete", "lifespan.startup.complete"],
            RuntimeError,
            "lifespan.startup.complete was not expected now",
        ),
    ],
)
async def test_wrong_message_is_raised_to_the_application(messages: list[str], error: type[Exception], text: str):
    seen: list[Exception] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            for kind in messages:
                await send({"type": kind})
        except Exception as raised:
            seen.append(raised)

    await Lifespan(app, "auto", NEVER).startup()

    assert [(type(raised), str(raised)) for raised in seen] == [(error, text)]


async def test_application_runs_in_a_context_of_its_own():
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("the server's")
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())

    await Lifespan(app, "auto", NEVER).startup()

    assert seen == ["unset"]
