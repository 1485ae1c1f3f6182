"""`channels.middleware`: the base class, and entering applications without a frame for each."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from channels.auth import AuthMiddlewareStack
from channels.middleware import BaseMiddleware, TailCall, enter_application
from tests.channels.applications import Recorder


async def test_base_middleware_hands_on_a_copy_of_the_scope():
    application = Recorder("answer")
    scope = {"type": "websocket"}

    assert await BaseMiddleware(application)(scope, None, None) == "answer"
    assert application.scope == scope
    assert application.scope is not scope


async def test_subclass_changes_its_copy_and_calls_super():
    class Greeting(BaseMiddleware):
        async def __call__(self, scope, receive, send):
            scope = dict(scope, greeting="hello")
            return await super().__call__(scope, receive, send)

    application = Recorder()
    scope = {"type": "websocket"}
    await Greeting(application)(scope, None, None)

    assert application.scope == {"type": "websocket", "greeting": "hello"}
    assert scope == {"type": "websocket"}


def test_base_middleware_shows_what_it_wraps():
    application = Recorder()
    assert BaseMiddleware(application).inner is application
    assert inspect.iscoroutinefunction(BaseMiddleware(application).__call__)


class Handing(TailCall):
    def __init__(self, inner):
        self.inner = inner

    def enter(self, scope, receive, send):
        return enter_application(self.inner, scope, receive, send)


async def test_tail_calling_application_adds_no_frame_of_its_own():
    async def application(scope, receive, send):
        return scope

    entered = enter_application(Handing(Handing(application)), {"type": "http"}, None, None)
    assert entered.cr_code is application.__code__
    assert await entered == {"type": "http"}


async def test_subclass_with_a_call_of_its_own_is_called():
    class Doubling(Handing):
        async def __call__(self, scope, receive, send):
            return 2 * await super().__call__(scope, receive, send)

    assert await enter_application(Doubling(Recorder(21)), {}, None, None) == 42
    assert await Handing(Doubling(Recorder(21)))({}, None, None) == 42


async def test_application_that_imitates_attributes_is_called():
    class Imitating:
        def __init__(self, wrapped):
            self.wrapped = wrapped

        def __getattr__(self, name):
            return getattr(self.wrapped, name)

        async def __call__(self, scope, receive, send):
            return "its own"

    assert await enter_application(Imitating(Handing(Recorder("inner"))), {}, None, None) == "its own"


@pytest.mark.parametrize("middleware", [BaseMiddleware, Handing, AuthMiddlewareStack])
async def test_suspended_middleware_keeps_no_scope_alive(middleware):
    """Each inner application has a scope of its own; those further out are not kept for its whole life."""
    leave = asyncio.Event()

    async def application(scope, receive, send):
        await leave.wait()

    running = middleware(application)({"type": "websocket", "headers": []}, None, None)
    task = asyncio.create_task(running)
    await asyncio.sleep(0)
    while running.cr_code is not application.__code__:
        assert "scope" not in running.cr_frame.f_locals
        running = running.cr_await
    leave.set()
    await task


def test_tail_calling_has_to_be_filled_in():
    with pytest.raises(NotImplementedError):
        TailCall().enter({}, None, None)
