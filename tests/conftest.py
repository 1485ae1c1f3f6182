"""Fixtures of all tests. Django is set up by pytest-django, with `tests.settings`."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from asgiref.sync import SyncToAsync
from django.db import connections

from tests.services.postgres import postgres  # noqa: F401  # the fixture
from tests.services.redis import redis  # noqa: F401  # the fixture

# `make fast` and `make matrix` look for what broke; `make test` looks longer for what never worked.
# How long an example takes is the machine's affair: what hangs ends by pytest's time-out.
hypothesis.settings.register_profile("fast", max_examples=20, deadline=None)
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.load_profile("default")


HERE = Path(__file__).parent
# Where processes are started, forked and ended, by Python and by Django's commands.
PROCESSES = [
    HERE / folder for folder in ("fairway/server", "fairway/testing", "channels/management", "channels/testing")
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in PROCESSES):
            item.add_marker(pytest.mark.processes)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing that is made while tests are collected is garbage, and all of it lives as long as the process: no full
    collection has to look at it, of which some tests make many.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


class _Thawed:
    """Whether somebody has thawed what is frozen here, as a server does when it ends: from then on each collection
    walks a million objects of tests that were collected, which takes half a second.
    """

    def __init__(self) -> None:
        self.is_thawed = False
        self._unfreeze = gc.unfreeze
        gc.unfreeze = self.unfreeze

    def unfreeze(self) -> None:
        self.is_thawed = True
        self._unfreeze()


_thawed = _Thawed()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if _thawed.is_thawed:
        _thawed.is_thawed = False
        gc.freeze()
    if item.get_closest_marker("django_db"):
        # What consumers do in the thread for synchronous code opens a connection there, which stays. A consumer of a
        # later test would look at it, and only tests with this marker may.
        SyncToAsync.single_thread_executor.submit(connections.close_all).result()


class Hops:
    """Counts how often code left the event loop for a thread, from the moment it is asked for."""

    def __init__(self) -> None:
        self.count = 0

    def watch(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        run_in_executor = loop.run_in_executor

        def counted(executor: Any, function: Callable[..., Any], *args: Any) -> Any:
            self.count += 1
            return run_in_executor(executor, function, *args)

        monkeypatch.setattr(loop, "run_in_executor", counted)


@pytest.fixture
async def hops(monkeypatch: pytest.MonkeyPatch) -> Hops:
    counter = Hops()
    counter.watch(asyncio.get_running_loop(), monkeypatch)
    return counter
