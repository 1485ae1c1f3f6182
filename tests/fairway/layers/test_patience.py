"""A call waits as long as its service sends something, and no longer."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time

import pytest

from fairway.layers.patience import Patience

pytestmark = pytest.mark.asyncio

SECONDS = 0.2


async def test_silence_ends_the_wait() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with Patience(SECONDS, lambda: 7):
            await asyncio.Event().wait()
    assert time.monotonic() - began >= SECONDS


async def test_signs_of_life_go_on_with_it() -> None:
    signs = itertools.count()
    async with Patience(SECONDS, lambda: next(signs)):
        await asyncio.sleep(3 * SECONDS)


async def test_it_is_counted_from_the_last_sign() -> None:
    loop, began = asyncio.get_running_loop(), time.monotonic()
    with pytest.raises(TimeoutError):
        async with Patience(SECONDS, lambda: loop.time() - began > SECONDS):
            await asyncio.Event().wait()
    assert time.monotonic() - began >= 2 * SECONDS


async def test_a_process_that_stood_still_hears_before_it_judges() -> None:
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    with there:
        async with Patience(SECONDS, lambda: 7):
            there.send(b"x")
            time.sleep(2 * SECONDS)  # noqa: ASYNC251  # that is what it is about
            assert await reader.read(1) == b"x"
    writer.close()


async def test_what_is_answered_is_not_disturbed() -> None:
    async with Patience(SECONDS, lambda: 7):
        answer = await asyncio.sleep(0, "answer")
    await asyncio.sleep(2 * SECONDS)
    assert answer == "answer"


async def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="other"):
        async with Patience(SECONDS, lambda: 7):
            raise ValueError("other")
