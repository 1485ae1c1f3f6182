"""What stops a coroutine that an event loop was made for; its whole life is tested in `server/test_process.py`."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from fairway.running import cancel, first, handling_signals


def test_signals_are_handled_inside_the_block_and_as_before_after_it():
    seen: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    with handling_signals({signal.SIGUSR1: lambda number, frame: seen.append(number)}):
        signal.raise_signal(signal.SIGUSR1)
    assert seen == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_signals_are_as_before_after_an_error():
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(LookupError, match=r"^inside$"), handling_signals({signal.SIGUSR1: print}):
        raise LookupError("inside")
    assert signal.getsignal(signal.SIGUSR1) == before


def test_in_another_thread_no_signal_is_handled():
    before = signal.getsignal(signal.SIGUSR1)
    inside: list[object] = []

    def enter() -> None:
        with handling_signals({signal.SIGUSR1: print}):
            inside.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert inside == [before]


async def test_whichever_comes_first():
    event, future = asyncio.Event(), asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(first(future, event))
    event.set()
    assert await waiting is True
    assert not future.done()
    future.set_exception(LookupError("its own"))
    # It is the caller who asks for its error.
    assert await first(future, asyncio.Event()) is False
    assert str(future.exception()) == "its own"


async def test_what_is_cancelled_has_ended_and_its_error_is_not_reported():
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    async def fail_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("at the end")

    tasks = [asyncio.create_task(fail_at_the_end()), asyncio.create_task(asyncio.Event().wait())]
    await asyncio.sleep(0)
    await cancel(*tasks)
    assert [task.done() for task in tasks] == [True, True]
    assert tasks[1].cancelled()
    del tasks
    assert reported == []


async def test_nothing_may_be_cancelled():
    await cancel()
