"""`Pump`: messages of a foreign source, one after the other."""

from __future__ import annotations

import asyncio

import pytest
from tests.fairway.delivery.doubles import waiting
from tests.fairway.loops import passes

from fairway.delivery import Pump, SourceFailed

DEADLINE = 20


class Messages:
    """A source that gives its messages one by one; an exception is raised; at the end it waits."""

    def __init__(self, *messages):
        self.messages = list(messages)
        self.calls = 0
        self.cleaned_up = asyncio.Event()

    async def __call__(self):
        self.calls += 1
        if not self.messages:
            try:
                await asyncio.Event().wait()
            finally:
                self.cleaned_up.set()
        message = self.messages.pop(0)
        if isinstance(message, BaseException):
            raise message
        return message


@pytest.mark.parametrize("for_layer", [False, True])
async def test_a_pump_fetches_the_next_message_only_after_the_last_was_dispatched(inbox, for_layer):
    source = Messages({"type": "a"}, {"type": "b"})
    pump = Pump(source, inbox, for_layer)
    async with asyncio.timeout(DEADLINE):
        assert await inbox.get() == {"type": "a"}
        task = await waiting(inbox)
        assert source.calls == 1
        pump.proceed_if_taken()
        assert await task == {"type": "b"}
        assert source.calls == 2
        await pump.stop()


@pytest.mark.parametrize("for_layer", [False, True])
async def test_a_pump_does_not_go_on_while_its_message_waits(inbox, for_layer):
    source = Messages({"type": "a"}, {"type": "b"})
    pump = Pump(source, inbox, for_layer)
    async with asyncio.timeout(DEADLINE):
        await passes()
        assert inbox.client_waiting or inbox.layer_size
        pump.proceed_if_taken()  # something of another source was dispatched
        await asyncio.sleep(0)
        assert source.calls == 1
        await pump.stop()


@pytest.mark.parametrize("for_layer", [False, True])
@pytest.mark.parametrize("consumer", ["waits", "is busy"])
async def test_the_error_of_a_source_reaches_the_inbox(inbox, for_layer, consumer):
    error = ValueError("broken")
    task = await waiting(inbox) if consumer == "waits" else None
    pump = Pump(Messages(error), inbox, for_layer)
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait([pump._task])
        item = await (task or inbox.get())
    assert type(item) is SourceFailed
    assert item.error is error
    assert pump._task.exception() is None


@pytest.mark.parametrize("kind", ["websocket.disconnect", "http.disconnect"])
async def test_a_pump_ends_after_a_disconnect(inbox, kind):
    source = Messages({"type": kind}, {"type": "never"})
    pump = Pump(source, inbox)
    async with asyncio.timeout(DEADLINE):
        assert await inbox.get() == {"type": kind}
        pump.proceed_if_taken()
        await asyncio.wait([pump._task])
        await pump.stop()
    assert source.calls == 1


async def test_stopping_a_pump_lets_its_source_clean_up(inbox):
    source = Messages()
    pump = Pump(source, inbox)
    async with asyncio.timeout(DEADLINE):
        await passes()
        assert source.calls == 1
        await pump.stop()
    assert source.cleaned_up.is_set()
    assert inbox.take_nowait() is None
