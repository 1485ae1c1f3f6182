"""`channels.utils`: the plain dispatch loop and the label of a thing."""

from __future__ import annotations

import asyncio

import pytest

from channels.utils import await_many_dispatch, name_that_thing


class Enough(Exception):
    pass


class Source:
    """Gives its messages one by one, then waits for ever."""

    def __init__(self, *messages):
        self.messages = list(messages)
        self.cancelled = False
        self.calls = 0
        self.asked = asyncio.Event()

    async def __call__(self):
        self.calls += 1
        self.asked.set()
        if self.messages:
            return self.messages.pop(0)
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled = True


class Dispatch:
    def __init__(self, limit):
        self.limit = limit
        self.seen = []

    async def __call__(self, message):
        self.seen.append(message)
        if len(self.seen) == self.limit:
            raise Enough


async def test_sources_take_turns_in_their_order():
    dispatch = Dispatch(4)
    with pytest.raises(Enough):
        await await_many_dispatch([Source("a", "b"), Source(1, 2)], dispatch)
    assert dispatch.seen == ["a", 1, "b", 2]


async def test_one_message_is_dispatched_at_a_time():
    running = 0

    async def dispatch(message):
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        if message == "end":
            raise Enough

    with pytest.raises(Enough):
        await await_many_dispatch([Source("a", "end"), Source(1, 2, 3)], dispatch)


async def test_source_is_asked_again_only_after_dispatch():
    source = Source("a", "b")

    async def dispatch(message):
        assert source.calls == {"a": 1, "b": 2}[message]
        if message == "b":
            raise Enough

    with pytest.raises(Enough):
        await await_many_dispatch([source], dispatch)


async def test_pending_sources_are_cancelled_at_the_end():
    waiting = Source()
    with pytest.raises(Enough):
        await await_many_dispatch([Source("a"), waiting], Dispatch(1))
    assert waiting.cancelled


async def test_error_of_a_source_ends_the_loop():
    async def failing():
        raise ConnectionError("the layer is away")

    waiting = Source()
    with pytest.raises(ConnectionError, match="the layer is away"):
        await await_many_dispatch([waiting, failing], Dispatch(1))
    assert waiting.cancelled


async def test_cancelling_the_loop_cancels_the_sources():
    waiting = Source()
    task = asyncio.create_task(await_many_dispatch([waiting], Dispatch(1)))
    await waiting.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiting.cancelled


async def test_source_may_return_a_future():
    def source():
        future = asyncio.get_running_loop().create_future()
        future.set_result("from a future")
        return future

    dispatch = Dispatch(1)
    with pytest.raises(Enough):
        await await_many_dispatch([source], dispatch)
    assert dispatch.seen == ["from a future"]


class Thing:
    def method(self): ...


def application(): ...


application.consumer_class = Thing


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Thing, "Thing"),
        (Thing(), "Thing"),
        (Thing().method, "Thing.method"),
        (application, "Thing"),
        (test_source_may_return_a_future, "test_source_may_return_a_future"),
    ],
)
def test_things_have_names(thing, name):
    assert name_that_thing(thing) == f"{__name__}.{name}"
