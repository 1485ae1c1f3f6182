"""The part of the contract suite for backplanes that keep histories (`Backplane.streams`).

    class TestMyBackplane(BackplaneContract, StreamsContract): ...

`FallibleStreamsContract` needs a service that can be cut off, as `OutageContract` does, and
`ForgetfulStreamsContract` one that can lose what it holds, as `PresenceContract` does. Services and fixtures are those
of `fairway.testing.backplane_contract`. With the environment variable FAIRWAY_WHOLE_SUITES, more messages are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import pytest

from fairway.delivery import Inbox, Member, Message
from fairway.layers.backplane import STREAMS, Keep, Kept, Page, Position, Unavailable
from fairway.layers.layer import BackplaneLayer
from fairway.layers.stamps import unstamped
from fairway.testing.backplane_contract import DEADLINE, FallibleService, Process, Service, processes
from fairway.testing.presence_contract import ForgetfulService

T = TypeVar("T")

KEEP = Keep(1000, 60)
SOME = 10_000  # more than any page has


def arrived(process: Process) -> list[Kept[bytes]]:
    """The kept messages that have arrived."""
    return [kept for _, data in process.events.messages if (kept := unstamped(data)) is not None]


async def read_all(process: Process, subject: str, after: Position | None = None) -> list[Kept[bytes]]:
    """Read page by page. Fails if something is missing between two pages."""
    found: list[Kept[bytes]] = []
    while True:
        page = await process.backplane.streams.read(subject, after, SOME)
        assert page.is_complete
        found += page.messages
        if not page.messages or page.messages[-1].position == page.top:
            return found
        after = page.messages[-1].position


def data_of(messages: Sequence[Kept[bytes]]) -> list[bytes]:
    return [kept.data for kept in messages]


async def persistently(call: Callable[[], Awaitable[T]]) -> T:
    """Call again while the service is away."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(Unavailable):
                return await call()
            await asyncio.sleep(0.002)


@pytest.mark.asyncio
class StreamsContract:
    """Histories, while the service can be reached."""

    async def test_it_says_that_it_is_able(self, service: Service) -> None:
        assert STREAMS in service.backplane().abilities

    async def test_a_message_is_delivered_once_with_the_position_that_its_sender_gets(self, service: Service) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(["g.room"])
            before = time.time()
            positions = [await sender.backplane.streams.append("g.room", b"\0%d\n" % n, KEEP) for n in range(20)]
            await sender.backplane.publish("g.room", b"not kept")
            await other.events.received(21)
            kept = arrived(other)
            assert [one.position for one in kept] == positions
            assert data_of(kept) == [b"\0%d\n" % n for n in range(20)]
            assert all(abs(one.at - before) < 60 for one in kept)
            assert other.events.messages[-1] == ("g.room", b"not kept")

    async def test_each_message_names_the_one_before_it_under_four_writers(self, service: Service) -> None:
        async with processes(service, 4) as everybody:
            for process in everybody:
                await process.backplane.subscribe(["g.room", "g.hall"])

            async def write(process: Process, name: bytes) -> None:
                for number in range(50):
                    await process.backplane.streams.append("g.room", name + b"%d" % number, KEEP)

            await asyncio.gather(*(write(process, b"%d:" % index) for index, process in enumerate(everybody)))
            await everybody[0].backplane.streams.append("g.hall", b"", KEEP)
            for process in everybody:
                await process.events.received(201)
                room = [one for one in arrived(process) if one.data]
                assert [one.previous for one in room] == list(range(200))
                assert [one.position.offset for one in room] == list(range(1, 201))
                assert {one.position.epoch for one in room} == {room[0].position.epoch}
            assert data_of(await read_all(everybody[0], "g.room")) == data_of(room)

    async def test_a_history_is_read_from_any_position(self, service: Service) -> None:
        async with processes(service, 2) as (sender, reader):
            streams = reader.backplane.streams
            (empty,) = await streams.tops(["g.room"])
            assert empty.offset == 0
            assert await streams.read("g.room", None, SOME) == Page([], empty, True)
            positions = [await sender.backplane.streams.append("g.room", b"%d" % n, KEEP) for n in range(10)]
            assert list(await streams.tops(["g.room"])) == [positions[-1]]
            for after, expected in ((None, range(10)), (empty, range(10)), (positions[3], range(4, 10))):
                page = await streams.read("g.room", after, SOME)
                assert data_of(page.messages) == [b"%d" % n for n in expected]
                assert [kept.position for kept in page.messages] == positions[expected[0] :]
                assert [kept.previous for kept in page.messages] == list(expected)
                assert (page.is_complete, page.top) == (True, positions[-1])
            assert await streams.read("g.room", positions[-1], SOME) == Page([], positions[-1], True)

    async def test_a_position_that_cannot_be_is_answered_with_all_there_is(self, service: Service) -> None:
        async with processes(service, 1) as (process,):
            streams = process.backplane.streams
            top = await streams.append("g.room", b"1", KEEP)
            for after in (Position(top.epoch, 2), Position("other0", 1), Position("other0", 0), Position("", 0)):
                page = await streams.read("g.room", after, SOME)
                assert (data_of(page.messages), page.top, page.is_complete) == ([b"1"], top, False)

    async def test_as_many_messages_are_kept_as_asked_for(self, service: Service) -> None:
        async with processes(service, 1) as (process,):
            streams = process.backplane.streams
            for size in (1, 3, 150):
                subject, keep = f"g.{size}", Keep(size, 60)
                positions = [await streams.append(subject, b"%d" % n, keep) for n in range(size + 2)]
                page = await streams.read(subject, positions[0], SOME)
                assert not page.is_complete
                assert [kept.position for kept in page.messages] == positions[2:]
                page = await streams.read(subject, positions[1], SOME)
                assert page.is_complete
                assert len(page.messages) == size

    async def test_messages_are_kept_as_long_as_asked_for(self, service: Service) -> None:
        async with processes(service, 1) as (process,):
            streams = process.backplane.streams
            first = await streams.append("g.room", b"old", Keep(10, 0.05))
            async with asyncio.timeout(DEADLINE):
                while (page := await streams.read("g.room", None, SOME)).messages:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert page.top == first
            assert (await streams.read("g.room", first, SOME)).is_complete
            assert not (await streams.read("g.room", Position(first.epoch, 0), SOME)).is_complete
            second = await streams.append("g.room", b"new", Keep(10, 60))
            assert second == Position(first.epoch, 2)
            assert data_of((await streams.read("g.room", first, SOME)).messages) == [b"new"]

    async def test_a_history_is_read_from_a_time(self, service: Service) -> None:
        async with processes(service, 1) as (process,):
            streams = process.backplane.streams
            for number in range(3):
                await streams.append("g.room", b"%d" % number, KEEP)
                await asyncio.sleep(0.005)
            messages = (await streams.read("g.room", None, SOME)).messages
            page = await streams.read("g.room", messages[0].at, SOME)
            assert (data_of(page.messages), page.is_complete) == ([b"1", b"2"], True)
            page = await streams.read("g.room", messages[0].at - 100, SOME)
            assert (data_of(page.messages), page.is_complete) == ([b"0", b"1", b"2"], True)
            await streams.append("g.room", b"3", Keep(2, 60))
            page = await streams.read("g.room", messages[0].at, SOME)
            assert (data_of(page.messages), page.is_complete) == ([b"2", b"3"], False)

    async def test_a_page_is_bounded_in_messages_and_in_bytes(self, service: Service) -> None:
        async with processes(service, 1) as (process,):
            streams = process.backplane.streams
            for number in range(6):
                await streams.append("g.room", b"%d" % number * 400_000, KEEP)
            page = await streams.read("g.room", None, SOME)
            assert 1 <= len(page.messages) < 5
            assert len((await streams.read("g.room", None, 1)).messages) == 1
            assert [data[:1] for data in data_of(await read_all(process, "g.room"))] == [b"%d" % n for n in range(6)]

    async def test_a_key_counts_once_even_if_two_processes_give_it_at_once(self, service: Service) -> None:
        async with processes(service, 3) as (one, two, reader):
            await reader.backplane.subscribe(["g.room"])
            for number in range(10):
                key = f"task {number}"
                positions = await asyncio.gather(
                    *(sender.backplane.streams.append("g.room", b"%d" % number, KEEP, key) for sender in (one, two))
                )
                assert positions[0] == positions[1]
                assert await one.backplane.streams.append("g.room", b"again", KEEP, key) == positions[0]
            repeated = await two.backplane.streams.append_once("g.room", b"again", KEEP, "task 9")
            assert (repeated.position, repeated.is_new) == (positions[0], False)
            other = await one.backplane.streams.append("g.hall", b"another subject", KEEP, "task 0")
            assert other.offset == 1
            assert await one.backplane.streams.append("g.room", b"10", KEEP, "task 10") == Position(
                positions[0].epoch, 11
            )
            await reader.events.received(11)
            assert data_of(arrived(reader)) == [b"%d" % number for number in range(11)]

    async def test_changes_show_that_something_was_appended(self, service: Service) -> None:
        async with processes(service, 2) as (one, two):
            before = await one.backplane.streams.changes()
            assert await two.backplane.streams.changes() == before
            await two.backplane.streams.append("g.room", b"", KEEP)
            after = await one.backplane.streams.changes()
            assert after != before
            await one.backplane.publish("g.room", b"")
            assert await two.backplane.streams.changes() == after

    async def test_tops_of_thousands_of_subjects(self, service: Service) -> None:
        names = [f"g.user-{number}" for number in range(2500)]
        async with processes(service, 1) as (process,):
            streams = process.backplane.streams
            top = await streams.append(names[7], b"", KEEP)
            tops = await streams.tops(names)
            assert [one.offset for one in tops] == [int(name == names[7]) for name in names]
            assert tops[7] == top
            assert len({one.epoch for one in tops}) == len(names)
            assert list(await streams.tops(names[:10])) == list(tops[:10])

    async def test_histories_of_two_prefixes_have_nothing_in_common(self, service: Service) -> None:
        async with processes(service, 1, "a") as (one,), processes(service, 1, "ag.") as (two,):
            for process in (one, two):
                await process.backplane.streams.append("g.room", b"", KEEP, "key")
            await one.backplane.flush()
            assert len(await read_all(two, "g.room")) == 1

    async def test_flush_ends_epochs(self, service: Service) -> None:
        async with processes(service, 2) as (one, two):
            await two.backplane.subscribe(["g.room"])
            old = [await one.backplane.streams.append("g.room", b"%d" % number, KEEP, "key") for number in range(1)]
            await one.backplane.flush()
            new = await one.backplane.streams.append("g.room", b"new", KEEP, "key")
            assert new.epoch != old[0].epoch
            page = await two.backplane.streams.read("g.room", old[0], SOME)
            assert (data_of(page.messages), page.is_complete) == ([b"new"], False)
            await two.events.received(2)
            assert [kept.position for kept in arrived(two)] == [*old, new]


class Client:
    """A member of a group in one process. It collects what the layer delivers to it.

    `heard` has the numbers of messages and the reasons of gaps, in the order in which they came.
    """

    def __init__(self, layer: BackplaneLayer, name: str) -> None:
        self.member = Member(name, Inbox(asyncio.get_running_loop()), capacity=1_000_000)
        layer.hub.attach(self.member)
        layer.hub.gaps.add(self.member)
        self.heard: list[int | str] = []
        self.gaps: list[Message] = []
        self.numbers: list[int] = []
        self.position = ""

    async def until(self, number: int) -> None:
        """Collect until the message with this number has arrived."""
        async with asyncio.timeout(3 * DEADLINE):
            while number not in self.numbers[-1:]:
                event = await self.member.inbox.get()
                if event["type"] == "layer.gap":
                    self.heard.append(event["reason"])
                    self.gaps.append(event)
                else:
                    self.heard.append(event["number"])
                    self.numbers.append(event["number"])
                    self.position = event["layer.position"]


def check_that_gaps_are_told(heard: Sequence[int | str], first: int = 0) -> None:
    """Fails unless each number follows the one before it, from the first on, but where a gap was told in between."""
    expected, is_told = first, False
    for one in heard:
        if isinstance(one, str):
            is_told = True
            continue
        assert is_told or one == expected, f"{one} came instead of {expected}, and nobody was told: {heard}"
        expected, is_told = one + 1, False


@pytest.mark.asyncio
class FallibleStreamsContract:
    """Histories across outages of the service that lose nothing."""

    cuts = 42 if os.environ.get("FAIRWAY_WHOLE_SUITES") else 8
    messages = 4000 if os.environ.get("FAIRWAY_WHOLE_SUITES") else 800

    async def test_each_message_arrives_once_and_in_order_through_many_cuts(self, service: FallibleService) -> None:
        """The sender tries again with the same key until the service has the message. Members come back meanwhile."""
        history = {"*": {"size": 10_000, "seconds": 600}}
        sender, receiver = (BackplaneLayer(service.backplane, history=history) for _ in range(2))
        try:
            client = Client(receiver, await receiver.new_channel())
            await persistently(lambda: receiver.group_join("room", client.member.name))
            late: list[tuple[int, Client]] = []
            for number in range(self.messages):
                if number % (self.messages // self.cuts) == self.messages // self.cuts // 2:
                    await service.lose()
                    await asyncio.sleep(0)
                    await service.recover()
                    since = client.position
                    back = Client(receiver, await receiver.new_channel())
                    joined = await persistently(partial(receiver.group_join, "room", back.member.name, since or "all"))
                    assert joined.recovered
                    late.append((client.numbers[-1] + 1 if since else 0, back))
                event = {"type": "said", "number": number}
                await persistently(partial(sender.group_send, "room", event, key=f"{number}"))
                if number % 50 == 20:
                    await client.until(number)
            for first, one in [(0, client), *late]:
                await one.until(self.messages - 1)
                assert one.numbers == list(range(first, self.messages))
                assert one.gaps == []
        finally:
            await sender.close()
            await receiver.close()

    async def test_what_is_missed_in_an_outage_is_read_afterwards(self, service: FallibleService) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(["g.room"])
            await sender.backplane.streams.append("g.room", b"before", KEEP)
            await other.events.received(1)
            for outage in range(3):
                await service.lose()
                for process in (sender, other):
                    await process.events.until(partial(process.is_down, outage))
                await service.recover()
                for process in (sender, other):
                    await process.events.until(process.is_up)
                await sender.backplane.streams.append("g.room", b"after %d" % outage, KEEP)
            missed = await read_all(other, "g.room", arrived(other)[0].position)
            assert data_of(missed) == [b"after 0", b"after 1", b"after 2"]


@pytest.mark.asyncio
class ForgetfulStreamsContract:
    """Histories in a service that loses what it holds while messages are sent."""

    async def test_what_a_service_forgets_is_told_and_the_rest_comes(self, service: ForgetfulService) -> None:
        history = {"*": {"size": 10_000, "seconds": 600}}
        sender, receiver = (BackplaneLayer(service.backplane, history=history) for _ in range(2))
        losses = 0
        late: list[tuple[Client, int, bool]] = []
        try:
            client = Client(receiver, await receiver.new_channel())
            await persistently(lambda: receiver.group_join("room", client.member.name))
            for number in range(400):
                event = {"type": "said", "number": number}
                await persistently(partial(sender.group_send, "room", event, key=f"{number}"))
                if number % 100 == 50:
                    await client.until(number)
                    since = client.position
                    await service.forget()
                    losses += 1
                    back = Client(receiver, await receiver.new_channel())
                    joined = await persistently(partial(receiver.group_join, "room", back.member.name, since))
                    late.append((back, number, joined.recovered))
                if number % 100 == 60:
                    await client.until(number)
                    back = Client(receiver, await receiver.new_channel())
                    joined = await persistently(partial(receiver.group_join, "room", back.member.name, since))
                    assert not joined.recovered, "messages of another epoch have come since"
            await client.until(399)
            check_that_gaps_are_told(client.heard)
            assert [gap["reason"] for gap in client.gaps] == ["epoch"] * losses
            for back, number, is_recovered in late:
                await back.until(399)
                told: list[int | str] = [] if is_recovered else ["not recovered"]
                check_that_gaps_are_told([*told, *back.heard], number + 1)
        finally:
            await sender.close()
            await receiver.close()
