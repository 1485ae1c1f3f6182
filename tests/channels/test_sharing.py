"""`channels.sharing`: calls that come together share a visit to the database thread."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext

from channels.db import database_sync_to_async
from channels.sharing import SharedVisit

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
