"""`HandlerGroup`: who may begin, who is waited for, what an error does. Consumers are tested in `tests/contracts`."""

from __future__ import annotations

import asyncio

import pytest

from fairway.consumers.handlers import HandlerGroup
from fairway.delivery import Inbox, statistics


class Work:
    """A handler that ends when it is told to."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.has_begun = self.was_cancelled = False

    async def __call__(self) -> None:
        self.has_begun = True
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def fail() -> None:
    raise LookupError("nothing there")


@pytest.fixture
async def inbox() -> Inbox:
    return Inbox(asyncio.get_running_loop())


async def passes(awaitable: asyncio.Future[object]) -> None:
    """Let everything that can run do so; the awaitable must still wait after it."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not awaitable.done()


async def test_a_handler_has_begun_when_start_returns(inbox: Inbox):
    handlers, work = HandlerGroup(inbox, 2), Work()
    await handlers.start(work())
    assert work.has_begun
    await handlers.cancel()


async def test_next_gives_what_waits_and_what_comes(inbox: Inbox):
    handlers = HandlerGroup(inbox, 2)
    inbox.put_client("first")
    assert await handlers.next() == "first"
    coming = asyncio.ensure_future(handlers.next())
    await passes(coming)
    inbox.put_layer({"type": "event"}, capacity=1)
    assert await coming == {"type": "event"}


async def test_next_waits_for_a_free_slot(inbox: Inbox):
    handlers, work = HandlerGroup(inbox, 1), Work()
    await handlers.start(work())
    inbox.put_client("second")
    coming = asyncio.ensure_future(handlers.next())
    await passes(coming)
    work.end.set()
    assert await coming == "second"


async def test_the_end_of_the_client_is_not_waited_for(inbox: Inbox):
    before = statistics.unhandled
    handlers, work = HandlerGroup(inbox, 1), Work()
    await handlers.start(work())
    inbox.put_client("lost")
    coming = asyncio.ensure_future(handlers.next())
    await passes(coming)
    inbox.put_disconnect({"type": "websocket.disconnect"})
    assert await coming == {"type": "websocket.disconnect"}
    assert statistics.unhandled - before == 1
    await handlers.cancel()


async def test_what_can_be_handled_before_the_end_is(inbox: Inbox):
    handlers = HandlerGroup(inbox, 2)
    inbox.put_client("kept")
    inbox.put_disconnect({"type": "websocket.disconnect"})
    assert [await handlers.next(), await handlers.next()] == ["kept", {"type": "websocket.disconnect"}]


@pytest.mark.parametrize("limit", [1, 2], ids=["full", "parked"])
async def test_an_error_comes_out_of_next_once(inbox: Inbox, limit: int):
    handlers = HandlerGroup(inbox, limit)
    coming = asyncio.ensure_future(handlers.next())
    await handlers.start(fail())
    with pytest.raises(LookupError, match=r"^nothing there$"):
        await coming
    await handlers.finish(0)


async def test_a_handler_that_was_cancelled_from_elsewhere_is_an_error(inbox: Inbox):
    async def cancelled() -> None:
        raise asyncio.CancelledError

    handlers = HandlerGroup(inbox, 1)
    await handlers.start(cancelled())
    with pytest.raises(asyncio.CancelledError):
        await handlers.next()


async def test_finish_waits_then_cancels_then_says_so(inbox: Inbox, caplog):
    handlers, quick, slow = HandlerGroup(inbox, 2), Work(), Work()
    await handlers.start(quick())
    await handlers.start(slow())
    quick.end.set()
    await handlers.finish(0.02)
    assert (quick.was_cancelled, slow.was_cancelled) == (False, True)
    assert caplog.messages == ["1 handlers were cancelled: they still ran after 0.02 s"]


async def test_finish_raises_what_a_late_handler_raised(inbox: Inbox):
    handlers = HandlerGroup(inbox, 1)
    await handlers.start(fail())
    with pytest.raises(LookupError, match=r"^nothing there$"):
        await handlers.finish(1)


async def test_finish_cancels_the_handlers_when_it_is_cancelled_itself(inbox: Inbox):
    handlers, work = HandlerGroup(inbox, 1), Work()
    await handlers.start(work())
    finishing = asyncio.ensure_future(handlers.finish(60))
    await passes(finishing)
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    assert work.was_cancelled
