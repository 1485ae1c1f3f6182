"""Connections that have been read ahead of take turns, and share what may be inflated."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from tests.fairway.protocols.websocket.wire import compressed, deflated, frame

from fairway.delivery import NEXT_PASS
from fairway.protocols.websocket.decoder import Decoder
from fairway.protocols.websocket.deflate import SHORT_MESSAGE
from fairway.protocols.websocket.frames import TEXT
from fairway.server.backlog import (
    DECODED_PER_PASS,
    INFLATED_AHEAD,
    INFLATED_BESIDE_REQUESTS,
    INFLATED_PER_PASS,
    JOINED_REST,
    LARGE_READ,
    LARGEST_READ,
    MEASURED_FROM,
    READ_PER_PASS,
    READERS_BESIDE_REQUESTS,
    READERS_PER_PASS,
    Backlog,
)

DEADLINE = 20.0


class Reader:
    """Goes on so many times."""

    def __init__(self, backlog: Backlog, turns: list[str], name: str, times: int) -> None:
        self.backlog, self.turns, self.name, self.times = backlog, turns, name, times

    def go_on_reading(self) -> bool:
        self.turns.append(self.name)
        self.times -= 1
        if self.times:
            self.backlog.add(self)
        return False


@pytest.fixture
async def backlog() -> Backlog:
    return Backlog(asyncio.get_running_loop(), cpu_time=lambda: 0.0)


@pytest.mark.parametrize(("is_asked", "most"), [(False, READERS_PER_PASS), (True, READERS_BESIDE_REQUESTS)])
async def test_a_few_go_on_in_each_pass_and_all_have_their_turn(is_asked: bool, most: int) -> None:
    backlog = Backlog(asyncio.get_running_loop(), lambda: is_asked, lambda: 0.0)
    turns: list[str] = []
    names = "abcdefg"
    for name in names:
        backlog.add(Reader(backlog, turns, name, 2))
    assert turns == []
    seen = []
    async with asyncio.timeout(DEADLINE):
        while len(turns) < 2 * len(names):
            await NEXT_PASS
            seen.append(len(turns))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) == most
    assert "".join(turns) == names + names


async def test_one_that_is_added_again_keeps_its_one_turn(backlog: Backlog) -> None:
    turns: list[str] = []
    first, second = Reader(backlog, turns, "a", 1), Reader(backlog, turns, "b", 1)
    for reader in (first, second, first, second, first):
        backlog.add(reader)
    for _ in range(5):
        await NEXT_PASS
    assert turns == ["a", "b"]
    first.times = 1
    backlog.add(first)
    for _ in range(5):
        await NEXT_PASS
    assert turns == ["a", "b", "a"]


async def test_one_that_fails_does_not_stop_the_others(backlog: Backlog) -> None:
    turns: list[str] = []
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context["exception"]))

    class Failing:
        def go_on_reading(self) -> bool:
            raise ValueError("a fault of ours")

    backlog.add(Failing())
    backlog.add(Reader(backlog, turns, "a", 1))
    async with asyncio.timeout(DEADLINE):
        while not turns:
            await NEXT_PASS
    assert [str(failure) for failure in failures] == ["a fault of ours"]


class Inflating(Reader):
    """Uses up the allowance each time."""

    def go_on_reading(self) -> bool:
        super().go_on_reading()
        self.backlog.spend(INFLATED_PER_PASS)
        return self.times > 0


async def test_who_was_interrupted_while_inflating_goes_on_before_others_begin(backlog: Backlog) -> None:
    turns: list[str] = []
    for name in "abc":
        backlog.add(Inflating(backlog, turns, name, 4))
    async with asyncio.timeout(DEADLINE):
        while len(turns) < 12:
            before = len(turns)
            await NEXT_PASS
            assert len(turns) - before <= 1, "a whole allowance was used, and another one had a turn in the same pass"
    assert "".join(turns) == "aaaabbbbcccc"


class Client:
    """Decodes what one client has sent, as a connection does."""

    def __init__(self, backlog: Backlog, data: bytes) -> None:
        self.backlog, self.decoder = backlog, Decoder(inflation=backlog)
        self.decoder.keep(data)
        self.messages = 0
        backlog.add(self)

    def go_on_reading(self) -> bool:
        self.messages += len(self.decoder.decode(b"", DECODED_PER_PASS))
        if self.decoder.pending:
            self.backlog.add(self)
        return self.decoder.is_inflating


async def test_a_client_with_many_long_messages_leaves_others_their_turn(backlog: Backlog) -> None:
    # None of them ends where an allowance does: each pass would finish one and begin another.
    flood = Client(backlog, compressed(bytes(300_000)) * 20)
    other = Client(backlog, compressed(b"hello") * 3)
    async with asyncio.timeout(DEADLINE):
        while not other.messages:
            await NEXT_PASS
        assert flood.messages <= 1
        while flood.messages < 20:
            await NEXT_PASS
    assert other.messages == 3


async def test_a_megabyte_is_inflated_in_consecutive_passes_and_more_at_a_rate(backlog: Backlog) -> None:
    turns: list[str] = []
    ahead = INFLATED_AHEAD // INFLATED_PER_PASS
    backlog.add(Inflating(backlog, turns, "a", ahead + 3))
    passes = 0
    async with asyncio.timeout(DEADLINE):
        while len(turns) < ahead:
            passes += 1
            await NEXT_PASS
        assert passes <= ahead + 1
        began = asyncio.get_running_loop().time()
        while len(turns) < ahead + 3:
            await NEXT_PASS
    # Three more take the rate 8 ms each; the clock of a loop may be one behind, and some had passed before.
    assert asyncio.get_running_loop().time() - began > 0.012


async def test_blocks_that_give_nothing_count_by_the_time_that_they_take() -> None:
    # What a compressor writes when it is flushed: an empty block. A message may consist of them.
    empty, message = b"\x00\x00\x00\xff\xff", deflated(b"at last")
    ticks = itertools.count()
    backlog = Backlog(asyncio.get_running_loop(), cpu_time=lambda: next(ticks) / 1000)
    decoder = Decoder(inflation=backlog)
    passes = 1
    found = decoder.decode(frame(TEXT, empty * 20_000 + message, reserved=0x40))
    while decoder.pending:
        assert found == []
        assert decoder.is_inflating
        passes += 1
        backlog.left = INFLATED_PER_PASS
        found = decoder.decode(b"")
    assert found == ["at last"]
    # Each piece has taken a millisecond by this clock, and a pass has two.
    assert passes == pytest.approx(100_000 / 4096 / 2, abs=2)


async def test_short_messages_that_give_nothing_count_too() -> None:
    message = b"\x00\x00\x00\xff\xff" * (SHORT_MESSAGE // 5) + deflated(b"")
    assert MEASURED_FROM < len(message) <= SHORT_MESSAGE
    ticks = itertools.count()
    backlog = Backlog(asyncio.get_running_loop(), cpu_time=lambda: next(ticks) / 1000)
    decoder = Decoder(inflation=backlog)
    # Each has taken a millisecond by this clock, and a pass has two.
    assert decoder.decode(frame(TEXT, message, reserved=0x40) * 5, DECODED_PER_PASS) == [""] * 2
    assert decoder.pending


async def test_who_comes_when_the_allowance_is_used_up_waits_for_it(backlog: Backlog) -> None:
    turns: list[str] = []
    backlog.spend(INFLATED_AHEAD + INFLATED_PER_PASS)  # 8 ms too much
    backlog.add(Reader(backlog, turns, "a", 1))
    for _ in range(3):
        await NEXT_PASS
    assert turns == []
    async with asyncio.timeout(DEADLINE):
        while not turns:
            await NEXT_PASS
    assert backlog.left == INFLATED_PER_PASS


async def test_less_is_inflated_in_a_pass_while_a_request_is_under_way_and_as_much_in_a_second() -> None:
    is_asked = True
    backlog = Backlog(asyncio.get_running_loop(), lambda: is_asked, lambda: 0.0)
    turns: list[str] = []
    for number, (left, expected) in enumerate([(INFLATED_PER_PASS, INFLATED_BESIDE_REQUESTS), (0, INFLATED_PER_PASS)]):
        backlog.add(Reader(backlog, turns, "a", 1))
        backlog.spend(left)
        async with asyncio.timeout(DEADLINE):
            while len(turns) <= number:
                await NEXT_PASS
        assert backlog.left == expected
        is_asked = False


async def test_large_reads_are_decoded_until_the_pass_has_had_enough(backlog: Backlog) -> None:
    assert [backlog.may_decode(READ_PER_PASS - LARGE_READ), backlog.may_decode(10 * READ_PER_PASS)] == [True, True]
    assert not backlog.may_decode(LARGE_READ)
    await NEXT_PASS
    assert backlog.may_decode(LARGE_READ)
    assert backlog.may_decode(READ_PER_PASS)
    assert not backlog.may_decode(LARGE_READ)


async def test_after_the_end_of_a_very_long_message_nothing_large_is_decoded_for_a_while(backlog: Backlog) -> None:
    turns: list[str] = []

    class Joining(Reader):
        def go_on_reading(self) -> bool:
            super().go_on_reading()
            backlog.joined(4 << 20)
            return False

    loop = asyncio.get_running_loop()
    for name in "abc":
        backlog.add(Joining(backlog, turns, name, 1))
    began = loop.time()
    async with asyncio.timeout(DEADLINE):
        for count in (1, 2, 3):
            while len(turns) < count:
                await NEXT_PASS
    assert loop.time() - began >= 2 * (4 << 20) * JOINED_REST - 0.003, "the clock of a loop counts milliseconds"


async def test_meanwhile_large_reads_are_kept(backlog: Backlog) -> None:
    assert backlog.may_decode(LARGE_READ)
    backlog.joined(4 << 20)
    assert not backlog.may_decode(LARGE_READ)
    async with asyncio.timeout(DEADLINE):
        while not backlog.may_decode(LARGE_READ):
            await NEXT_PASS


async def test_behind_the_largest_reads_others_are_read_first() -> None:
    is_asked = False
    backlog = Backlog(asyncio.get_running_loop(), lambda: is_asked)
    assert [backlog.has_read(LARGEST_READ - 1), backlog.has_read(LARGEST_READ)] == [False, True]
    assert backlog.may_decode(LARGE_READ)
    is_asked = True
    assert backlog.has_read(4 * LARGEST_READ)
    assert not backlog.may_decode(LARGE_READ), "a request is under way, and has the loop for a while"
    async with asyncio.timeout(DEADLINE):
        while not backlog.may_decode(LARGE_READ):
            await NEXT_PASS


async def test_shorter_messages_need_no_rest(backlog: Backlog) -> None:
    backlog.joined(100_000)
    assert backlog.may_decode(LARGE_READ)
