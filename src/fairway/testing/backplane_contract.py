"""The suite that every backplane has to pass, for pytest with pytest-asyncio::

    class TestMyBackplane(BackplaneContract):
        @pytest.fixture
        def service(self):
            return MyService()      # with backplane(prefix="...") -> Backplane, new and not started

Each test starts several backplanes, as if each were in a process of its own, and closes them. `OutageContract` has
further tests, for a service with two more methods: `lose()` cuts its connections and refuses new ones, and `recover()`
accepts connections again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import pytest

from fairway.layers.backplane import FOLLOWERS, PRESENCE, STREAMS, Backplane, Keep, NotAble, QueueFull, Unavailable

DEADLINE = 20.0


class Service(Protocol):
    """The service that the backplanes under test connect to."""

    def backplane(self, prefix: str = "suite") -> Backplane:
        """Make a new backplane, not started yet."""


class FallibleService(Service, Protocol):
    """A service that can have an outage."""

    async def lose(self) -> None:
        """Cut all connections, and refuse new ones."""

    async def recover(self) -> None:
        """Accept connections again."""


class Recorder:
    """Records what a backplane reports. (`fairway.layers.backplane.Events`)"""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.ups = self.downs = 0
        self.gate: Callable[[], Awaitable[None] | None] = lambda: None
        self._changed = asyncio.Event()

    def message(self, subject: str, data: bytes) -> Awaitable[None] | None:
        self.messages.append((subject, data))
        self._changed.set()
        return self.gate()

    def up(self) -> None:
        self.ups += 1
        self._changed.set()

    def down(self, error: Exception) -> None:
        self.downs += 1
        self._changed.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until the condition is true. It is checked after every event."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def received(self, count: int) -> list[tuple[str, bytes]]:
        await self.until(lambda: len(self.messages) >= count)
        return self.messages


class Process:
    """A backplane, and a record of its reports."""

    def __init__(self, backplane: Backplane) -> None:
        self.backplane = backplane
        self.events = Recorder()
        backplane.start(self.events)

    def is_down(self, times: int = 0) -> bool:
        """Whether the backplane has reported more than this number of outages."""
        return self.events.downs > times

    def is_up_again(self) -> bool:
        return self.events.ups == 2

    def is_up(self) -> bool:
        return self.backplane.is_up

    async def marked(self, sender: Process, count: int) -> list[tuple[str, bytes]]:
        """Return the messages received so far, once marker messages of the sender have arrived.

        The markers are sent last, so no message that the sender sent earlier can still arrive.
        """
        marks = [f"mark.{number}" for number in range(12)]  # so many that each shard gets some
        await self.backplane.subscribe(marks)
        for mark in marks:
            await sender.backplane.publish(mark, b"")
        await self.events.until(lambda: {(mark, b"") for mark in marks} <= set(self.events.messages))
        messages = [message for message in self.events.messages if message[0] not in marks]
        assert len(messages) == count
        return messages


@contextlib.asynccontextmanager
async def processes(service: Service, count: int, prefix: str = "suite") -> AsyncIterator[list[Process]]:
    """Start this number of processes, each with a backplane, and close them at the end."""
    started = [Process(service.backplane(prefix)) for _ in range(count)]
    try:
        yield started
    finally:
        for process in started:
            await process.backplane.close()


@pytest.mark.asyncio
class BackplaneContract:
    """Subjects and queues, while the service can be reached."""

    # Subjects -------------------------------------------------------------------------------------------------

    async def test_what_is_sent_reaches_every_process_that_has_subscribed(self, service: Service) -> None:
        async with processes(service, 3) as (sender, other, stranger):
            await sender.backplane.subscribe(["g.room"])
            await other.backplane.subscribe(["g.room"])
            await sender.backplane.publish("g.room", b"hello")
            assert await sender.events.received(1) == [("g.room", b"hello")]
            assert await other.events.received(1) == [("g.room", b"hello")]
            await stranger.marked(sender, 0)

    async def test_a_publisher_learns_how_many_processes_it_reached_if_that_is_known(self, service: Service) -> None:
        async with processes(service, 2) as (sender, other):
            assert await sender.backplane.publish("g.room", b"") in (0, None)
            await other.backplane.subscribe(["g.room"])
            assert await sender.backplane.publish("g.room", b"") in (1, None)

    async def test_messages_of_a_sender_keep_their_order(self, service: Service) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(["g.room"])
            for number in range(3000):
                waiting = sender.backplane.post("g.room", b"%d" % number)
                if waiting is not None:
                    await waiting
            assert await other.events.received(3000) == [("g.room", b"%d" % number) for number in range(3000)]

    async def test_all_receivers_see_the_same_order(self, service: Service) -> None:
        async with processes(service, 4) as (one, two, three, four):
            everybody = (one, two, three, four)
            for process in everybody:
                await process.backplane.subscribe(["g.room"])

            async def send(process: Process, name: bytes) -> None:
                for number in range(100):
                    waiting = process.backplane.post("g.room", name + b"%d" % number)
                    if waiting is not None:
                        await waiting
                    if not number % 10:
                        await asyncio.sleep(0)

            await asyncio.gather(send(one, b"a"), send(two, b"b"))
            orders = [await process.events.received(200) for process in everybody]
            assert all(order == orders[0] for order in orders)

    async def test_a_subscription_stands_when_it_is_acknowledged(self, service: Service) -> None:
        async with processes(service, 2) as (sender, other):
            for number in range(50):
                await other.backplane.subscribe([f"g.{number}"])
                await sender.backplane.publish(f"g.{number}", b"")
            assert {subject for subject, _ in await other.events.received(50)} == {f"g.{n}" for n in range(50)}

    async def test_nothing_comes_after_unsubscribing(self, service: Service) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(["g.room", "g.hall"])
            await other.backplane.unsubscribe(["g.room"])
            await sender.backplane.publish("g.room", b"no")
            await sender.backplane.publish("g.hall", b"yes")
            assert await other.marked(sender, 1) == [("g.hall", b"yes")]

    async def test_what_was_asked_last_holds(self, service: Service) -> None:
        async with processes(service, 2) as (sender, other):
            for _ in range(20):
                await other.backplane.subscribe(["g.room"])
                await asyncio.gather(other.backplane.unsubscribe(["g.room"]), other.backplane.subscribe(["g.room"]))
            await sender.backplane.publish("g.room", b"")
            await other.marked(sender, 1)

    async def test_thousands_of_subjects(self, service: Service) -> None:
        names = [f"g.user-{number}" for number in range(3000)]
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(names)
            for name in names:
                waiting = sender.backplane.post(name, b"")
                if waiting is not None:
                    await waiting
            assert sorted(subject for subject, _ in await other.events.received(3000)) == sorted(names)
            await other.backplane.unsubscribe(names)
            await sender.backplane.publish(names[0], b"")
            await other.marked(sender, 3000)

    @pytest.mark.parametrize(
        "data", [b"", b"\0\r\n$3\r\n\xff", bytes(range(256)), b"x" * 1024 * 1024], ids=["empty", "RESP", "all", "1MiB"]
    )
    async def test_bytes_arrive_as_they_were(self, service: Service, data: bytes) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(["g.room"])
            await sender.backplane.publish("g.room", data)
            assert await other.events.received(1) == [("g.room", data)]

    async def test_every_name_of_a_group_can_be_a_subject(self, service: Service) -> None:
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
        names = ["g.a..b", "g..a", "g.a.", "g.-", f"g.{letters}", "g." + "x" * 99, "g.A", "g.a"]
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(names)
            for name in names:
                await sender.backplane.publish(name, name.encode())
            received = await other.marked(sender, len(names))
            assert sorted(received) == sorted((name, name.encode()) for name in names)

    @pytest.mark.parametrize(
        ("prefix", "another"), [("a", "ag."), ("a", "a:0"), ("a:", "a"), ("a%3A", "a:"), ("a*", "ab")]
    )
    async def test_prefixes_see_nothing_of_each_other(self, service: Service, prefix: str, another: str) -> None:
        async with processes(service, 1, prefix) as (one,), processes(service, 1, another) as (two,):
            for process in (one, two):
                await process.backplane.subscribe(["g.room", ".room", "room"])
            for subject in ("g.room", ".room", "room"):
                await one.backplane.publish(subject, b"one")
            await one.backplane.push("work", b"one", 10, 60)
            await two.backplane.push("work", b"two", 10, 60)
            await one.backplane.flush()
            assert await two.backplane.pull("work") == b"two"
            await two.marked(two, 0)

    async def test_no_message_is_handed_over_before_the_last_one_is_handled(self, service: Service) -> None:
        async with processes(service, 2) as (sender, slow):
            handled: list[int] = []

            async def handle() -> None:
                count = len(slow.events.messages)
                await asyncio.sleep(0.001)
                assert len(slow.events.messages) == count
                handled.append(count)

            slow.events.gate = handle
            await slow.backplane.subscribe(["g.room"])
            for number in range(50):
                await sender.backplane.publish("g.room", b"%d" % number)
            assert await slow.events.received(50) == [("g.room", b"%d" % number) for number in range(50)]
            assert handled[:49] == list(range(1, 50))

    # Queues ---------------------------------------------------------------------------------------------------

    async def test_a_queue_keeps_the_order(self, service: Service) -> None:
        async with processes(service, 2) as (sender, reader):
            for number in range(20):
                await sender.backplane.push("work", b"%d" % number, 100, 60)
            assert [await reader.backplane.pull("work") for _ in range(20)] == [b"%d" % n for n in range(20)]

    async def test_a_reader_waits(self, service: Service) -> None:
        async with processes(service, 2) as (sender, reader):
            for number in range(20):
                pulling = asyncio.ensure_future(reader.backplane.pull("work"))
                await asyncio.sleep(0)
                await sender.backplane.push("work", b"%d" % number, 100, 60)
                async with asyncio.timeout(DEADLINE):
                    assert await pulling == b"%d" % number

    async def test_each_message_goes_to_one_of_several_readers(self, service: Service) -> None:
        async with processes(service, 4) as (sender, *readers):
            taken: list[bytes] = []
            done = asyncio.Event()

            async def read(process: Process) -> None:
                while True:
                    taken.append(await process.backplane.pull("work"))
                    if len(taken) == 300:
                        done.set()

            reading = [asyncio.ensure_future(read(process)) for process in readers for _ in range(2)]
            for number in range(300):
                await sender.backplane.push("work", b"%d" % number, 1000, 60)
            async with asyncio.timeout(DEADLINE):
                await done.wait()
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
            assert sorted(taken, key=int) == [b"%d" % number for number in range(300)]

    async def test_a_pull_that_is_cancelled_loses_nothing(self, service: Service) -> None:
        chance = random.Random(7)
        async with processes(service, 2) as (sender, reader):
            taken: list[bytes] = []
            for number in range(60):
                pulling = asyncio.ensure_future(reader.backplane.pull("work"))
                pushing = asyncio.ensure_future(sender.backplane.push("work", b"%d" % number, 1000, 60))
                await asyncio.sleep(chance.choice([0, 0, 0.0003, 0.001, 0.003]))
                pulling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    taken.append(await pulling)
                await pushing
            async with asyncio.timeout(DEADLINE):
                while len(taken) < 60:
                    taken.append(await reader.backplane.pull("work"))
            assert sorted(taken, key=int) == [b"%d" % number for number in range(60)]

    async def test_a_full_queue_takes_nothing(self, service: Service) -> None:
        async with processes(service, 2) as (sender, reader):
            await sender.backplane.push("work", b"one", 2, 60)
            await sender.backplane.push("work", b"two", 2, 60)
            with pytest.raises(QueueFull, match="the queue work holds 2 messages"):
                await sender.backplane.push("work", b"three", 2, 60)
            assert await reader.backplane.pull("work") == b"one"
            await sender.backplane.push("work", b"four", 2, 60)
            assert [await reader.backplane.pull("work") for _ in range(2)] == [b"two", b"four"]

    async def test_a_message_that_has_expired_is_not_read_and_takes_no_room(self, service: Service) -> None:
        async with processes(service, 1) as (process,):
            await process.backplane.push("work", b"old", 1, 0.01)
            async with asyncio.timeout(DEADLINE):
                while True:
                    with contextlib.suppress(QueueFull):
                        await process.backplane.push("work", b"new", 1, 60)
                        break
                    await asyncio.sleep(0.01)
            assert await process.backplane.pull("work") == b"new"

    async def test_a_queue_has_nothing_to_do_with_a_subject_of_its_name(self, service: Service) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(["work"])
            await sender.backplane.push("work", b"queued", 10, 60)
            await sender.backplane.publish("work", b"published")
            assert await other.marked(sender, 1) == [("work", b"published")]
            assert await other.backplane.pull("work") == b"queued"

    async def test_flush_empties_the_queues(self, service: Service) -> None:
        async with processes(service, 1) as (process,):
            await process.backplane.push("work", b"old", 10, 60)
            await process.backplane.push("more", b"old", 10, 60)
            await process.backplane.flush()
            for queue in ("work", "more"):
                await process.backplane.push(queue, b"new", 10, 60)
                assert await process.backplane.pull(queue) == b"new"

    # Abilities ------------------------------------------------------------------------------------------------

    async def test_which_queues_follow_which_groups_is_kept(self, service: Service) -> None:
        async with processes(service, 2) as (one, two):
            if FOLLOWERS not in one.backplane.abilities:
                pytest.skip("it cannot have queues in groups")
            for group, queue in (("room", "work"), ("room", "log"), ("hall", "work"), ("hall", "work")):
                await one.backplane.followers.add(group, queue, 60)
            await one.backplane.followers.add("room", "brief", 0.001)
            await two.backplane.followers.remove("room", "log")
            await two.backplane.followers.remove("room", "nobody")
            await asyncio.sleep(0.01)
            rows = await two.backplane.followers.all()
            assert sorted((group, queue) for group, queue, _ in rows) == [("hall", "work"), ("room", "work")]
            assert all(50 < seconds <= 60 for _, _, seconds in rows)
            await one.backplane.flush()
            assert list(await two.backplane.followers.all()) == []

    async def test_an_ability_that_is_lacking_says_so(self, service: Service) -> None:
        async with processes(service, 1) as (one,):
            await one.events.until(lambda: one.events.ups)
            backplane = one.backplane
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                FOLLOWERS: lambda: backplane.followers.all(),
                STREAMS: lambda: backplane.streams.append("g.room", b"", Keep(10, 60)),
                PRESENCE: lambda: backplane.presence.enter("g.room", {"me": b""}, 1),
            }
            for ability, call in calls.items():
                if ability not in backplane.abilities:
                    with pytest.raises(NotAble, match=r"^the backplane of this channel layer "):
                        await call()

    # Beginning and end ----------------------------------------------------------------------------------------

    async def test_what_was_posted_is_sent_before_the_end(self, service: Service) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(["g.room"])
            await sender.backplane.publish("g.room", b"")
            for number in range(100):
                sender.backplane.post("g.room", b"%d" % number)
            await sender.backplane.close()
            assert len(await other.events.received(101)) == 101

    async def test_it_says_that_it_is_up(self, service: Service) -> None:
        async with processes(service, 1) as (process,):
            await process.events.until(lambda: process.events.ups)
            assert process.backplane.is_up
            assert process.events.downs == 0

    async def test_a_closed_one_does_nothing_more(self, service: Service) -> None:
        async with processes(service, 1) as (process,):
            await process.backplane.publish("g.room", b"")
            await process.backplane.close()
            with pytest.raises(Unavailable, match="closed"):
                await process.backplane.publish("g.room", b"")


@pytest.mark.asyncio
class OutageContract:
    """What a backplane does during an outage of its service, and afterwards. Sending raises after some seconds."""

    async def test_subscriptions_stand_again_afterwards(self, service: FallibleService) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(["g.room", "g.hall"])
            await sender.backplane.publish("g.room", b"before")
            await service.lose()
            for process in (sender, other):
                await process.events.until(process.is_down)
                assert not process.backplane.is_up
            await service.recover()
            for process in (sender, other):
                await process.events.until(process.is_up_again)
            await sender.backplane.publish("g.hall", b"after")
            assert sorted(await other.marked(sender, 2)) == [("g.hall", b"after"), ("g.room", b"before")]

    async def test_calls_fail_in_time_and_then_at_once(self, service: FallibleService) -> None:
        async with processes(service, 1) as (process,):
            await process.backplane.publish("g.room", b"")
            await service.lose()
            await process.events.until(lambda: process.events.downs)
            backplane = process.backplane
            calls: list[Callable[[], Awaitable[Any] | None]] = [
                lambda: backplane.publish("g.room", b""),
                lambda: backplane.post("g.room", b""),
                lambda: backplane.subscribe(["g.hall"]),
                lambda: backplane.push("work", b"", 10, 60),
                lambda: backplane.flush(),
            ]
            for call in calls:
                with pytest.raises(Unavailable, match="away"):
                    async with asyncio.timeout(DEADLINE):
                        await (call() or asyncio.sleep(0))
            began = asyncio.get_running_loop().time()
            for _ in range(2000):
                with pytest.raises(Unavailable):
                    await backplane.publish("g.room", b"")
            assert asyncio.get_running_loop().time() - began < 5
            assert backplane.statistics.unavailable >= 2005
            await service.recover()
            await process.events.until(lambda: process.events.ups == 2)
            await backplane.publish("g.room", b"")

    async def test_one_that_cannot_connect_says_so_and_goes_on_trying(self, service: FallibleService) -> None:
        await service.lose()
        async with processes(service, 1) as (process,):
            with pytest.raises(Unavailable, match="away"):
                async with asyncio.timeout(DEADLINE):
                    await process.backplane.publish("g.room", b"")
            assert process.events.ups == 0
            await service.recover()
            await process.events.until(lambda: process.events.ups == 1)
            await process.backplane.publish("g.room", b"")

    async def test_a_subscription_that_failed_is_none(self, service: FallibleService) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.publish("g.room", b"")
            await service.lose()
            await other.events.until(lambda: other.events.downs)
            with pytest.raises(Unavailable):
                await other.backplane.subscribe(["g.room"])
            await service.recover()
            for process in (sender, other):
                await process.events.until(process.is_up)
            await sender.backplane.publish("g.room", b"")
            await other.marked(sender, 0)

    async def test_a_reader_waits_through_it(self, service: FallibleService) -> None:
        async with processes(service, 2) as (sender, reader):
            pulling = asyncio.ensure_future(reader.backplane.pull("work"))
            await sender.backplane.push("another", b"", 10, 60)
            await service.lose()
            await sender.events.until(lambda: sender.events.downs)
            await service.recover()
            await sender.events.until(lambda: sender.backplane.is_up)
            await sender.backplane.push("work", b"after", 10, 60)
            async with asyncio.timeout(DEADLINE):
                assert await pulling == b"after"

    async def test_ten_outages_under_load(self, service: FallibleService) -> None:
        async with processes(service, 2) as (sender, other):
            await other.backplane.subscribe(["g.room"])
            sent: list[bytes] = []

            async def send() -> None:
                for number in range(1_000_000):
                    data = b"%d" % number
                    try:
                        await (sender.backplane.post("g.room", data) or asyncio.sleep(0))
                    except Unavailable:  # at once, so that others must be let run
                        await asyncio.sleep(0.001)
                    else:
                        sent.append(data)

            sending = asyncio.ensure_future(send())
            for outage in range(10):
                await service.lose()
                for process in (sender, other):
                    await process.events.until(partial(process.is_down, outage))
                await service.recover()
                for process in (sender, other):
                    await process.events.until(process.is_up)
            sending.cancel()
            await asyncio.wait([sending])
            await sender.backplane.publish("g.room", b"last")
            await other.events.until(lambda: ("g.room", b"last") in other.events.messages)
            numbers = [int(data) for _, data in other.events.messages[:-1]]
            assert numbers == sorted(set(numbers)), "nothing is doubled, nothing is overtaken"
            assert sender.backplane.statistics.outages == 10
