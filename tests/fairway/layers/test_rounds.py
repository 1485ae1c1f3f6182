"""Work in rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from fairway.layers.rounds import Rounds


async def test_what_becomes_due_during_a_round_is_the_next_one() -> None:
    done: list[Mapping[str, bool]] = []
    proceed = asyncio.Event()

    async def work(due: Mapping[str, bool]) -> None:
        done.append(due)
        await proceed.wait()

    rounds = Rounds(asyncio.get_running_loop().create_task, work)
    first = rounds.take(["a"])
    assert rounds.take(["b"], is_told=True) is first, "it has not begun"
    await asyncio.sleep(0)
    second = rounds.take(["a"], is_told=True)
    assert rounds.take(["a", "c"]) is second
    assert done == [{"a": False, "b": True}]
    proceed.set()
    await second
    assert done[1:] == [{"a": True, "c": False}], "once it is to be told, it stays so"
    assert first.done()
    await rounds.take(["d"])
    assert done[2:] == [{"d": False}]


async def test_a_round_that_fails_does_not_end_the_others() -> None:
    done: list[str] = []

    async def work(due: Mapping[str, bool]) -> None:
        done.extend(due)
        if "bad" in due:
            raise ValueError

    rounds = Rounds(asyncio.get_running_loop().create_task, work)
    failing = rounds.take(["bad"])
    await asyncio.sleep(0)
    await rounds.take(["good"])
    with pytest.raises(ValueError, match=r"^$"):
        await failing
    assert done == ["bad", "good"]
