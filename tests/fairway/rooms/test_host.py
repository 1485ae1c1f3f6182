"""A room in several processes: one of them runs it, and another one goes on with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import pytest
from tests.fairway.layers.doubles import new_member, waiting

from fairway.delivery import Member
from fairway.layers import audiences, presence, registrar
from fairway.layers.backplane import Unavailable
from fairway.layers.engine import Engine
from fairway.layers.layer import BackplaneLayer
from fairway.layers.memory import MemoryChannelLayer
from fairway.logs import FaultLog
from fairway.rooms import Room, host, runner
from fairway.rooms.counters import counters
from fairway.rooms.host import ENDED, FAILED, Host
from fairway.rooms.waiting import MOST_WAITING
from fairway.testing.in_process import InProcessBackplane

DEADLINE = 20.0
LEASE = 0.25


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (audiences, presence):
        monkeypatch.setattr(module, "GATHER", 0.001)
    monkeypatch.setattr(registrar, "READ_AGAIN", 0.01)
    monkeypatch.setattr(host, "LOOK_EVERY", 0.05)


class Tally(Room):
    """Counts ticks and messages. `living` has the rooms that run, in whichever process."""

    step = 0.01
    save_every = 0.02
    living: ClassVar[list[Tally]] = []

    async def begin(self, saved: Any) -> None:
        self.count, self.heard = (saved["count"], saved["heard"]) if saved else (0, [])
        self.saved = saved
        Tally.living.append(self)
        assert len(Tally.living) == 1, "there is one in all processes"

    async def tick(self, seconds: float) -> None:
        self.count += 1

    async def receive(self, message: Any) -> None:
        if message == "fail":
            self.step_fails = True
        self.heard.append(message)

    async def publish(self) -> None:
        if "fail" in self.heard:
            Tally.living.clear()
            raise ZeroDivisionError("as it was told")

    def save(self) -> Any:
        if self in Tally.living:
            return {"count": self.count, "heard": self.heard}
        return None

    async def end(self) -> None:
        Tally.living.remove(self)


class Ending(Tally):
    on_error = "end"


class Lingering(Tally):
    linger = 0.1


class Site:
    """Processes that share an engine."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.history: Any = None
        self.layers: list[BackplaneLayer] = []
        self.hosts: list[Host] = []

    def process(self) -> BackplaneLayer:
        layer = BackplaneLayer(lambda: InProcessBackplane(self.engine), lease=LEASE, linger=LEASE, history=self.history)
        self.layers.append(layer)
        return layer

    def host(self, room: type[Room] = Tally, layer: BackplaneLayer | None = None) -> Host:
        """A process with one visitor."""
        found = Host(room, "room", layer or self.process())
        found.add("visitor", [])
        self.hosts.append(found)
        return found

    def cut(self, one: Host) -> InProcessBackplane:
        """The process cannot reach the service any more."""
        session = one.layer.node.home.session  # type: ignore[attr-defined]
        session.backplane.lose(Unavailable("cut"))
        backplane: InProcessBackplane = session.backplane
        return backplane


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    Tally.living.clear()
    site = Site()
    yield site
    for one in site.hosts:
        one.remove("visitor")
    for one in site.hosts:
        await asyncio.wait([one.task])
    for layer in site.layers:
        await layer.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def runs(one: Host) -> bool:
    return one._runner is not None and bool(Tally.living)


def messages(one: Host) -> int:
    return len(Tally.living[0].heard) if Tally.living else 0


async def test_the_first_one_runs_the_room_and_messages_of_all_reach_it(site: Site) -> None:
    one = site.host()
    await until(lambda: runs(one))
    others = [site.host() for _ in range(3)]
    for number, other in enumerate(others):
        await other.send(number)
    await until(lambda: messages(one) == 3)
    assert [runs(other) for other in (one, *others)] == [True, False, False, False]
    assert Tally.living[0].saved is None


async def test_of_several_that_begin_together_one_runs_the_room(site: Site) -> None:
    for _ in range(6):
        site.host()
    await until(lambda: any(map(runs, site.hosts)))
    await asyncio.sleep(0.2)  # `Tally` itself fails if there is another
    assert sum(map(runs, site.hosts)) == 1


async def test_who_leaves_hands_over_and_nothing_is_lost(site: Site) -> None:
    one = site.host()
    await until(lambda: runs(one))
    two = site.host()
    await two.send("before")
    await until(lambda: messages(one) == 1 and one._contest.others)
    await one.send("at the end")
    await until(lambda: messages(one) == 2)
    count = Tally.living[0].count
    one.remove("visitor")
    await until(lambda: runs(two))
    assert Tally.living[0].heard == ["before", "at the end"]
    assert Tally.living[0].saved["count"] >= count


KEPT = {"*.clock": {"size": 1, "seconds": 60}}


async def heard_and_saved(site: Site) -> Host:
    one = site.host()
    await one.send("before")
    await until(lambda: messages(one) == 1)
    await until(lambda: one._restarts.saved is not None and one._restarts.saved["heard"])
    return one


@pytest.mark.parametrize("history", [KEPT, None], ids=["kept", "not kept"])
async def test_the_layer_may_keep_what_nobody_else_knows(site: Site, history: Any) -> None:
    site.history = history
    one = await heard_and_saved(site)
    site.cut(one)
    await until(lambda: not runs(one))
    Tally.living.clear()
    two = site.host()
    await until(lambda: runs(two))
    assert Tally.living[0].heard == (["before"] if history else [])


async def test_a_process_that_stops_leaves_what_was_saved(site: Site) -> None:
    site.history = KEPT
    one = await heard_and_saved(site)
    one.task.cancel()
    await asyncio.wait([one.task])
    assert Tally.living == []
    two = site.host()
    await until(lambda: runs(two))
    assert Tally.living[0].heard == ["before"]


async def test_a_room_that_everybody_has_left_begins_with_nothing(site: Site) -> None:
    site.history = KEPT
    one = await heard_and_saved(site)
    one.remove("visitor")
    await asyncio.wait([one.task])
    two = site.host()
    await until(lambda: runs(two))
    assert Tally.living[0].saved is None


class Careless(Tally):
    save_every = 3600


async def test_whoever_comes_knows_soon_what_was_saved(site: Site) -> None:
    one = site.host(Careless)
    await one.send("before")
    await until(lambda: messages(one) == 1)
    two = site.host(Careless)
    await until(lambda: two._restarts.saved is not None)
    assert two._restarts.saved["heard"] == ["before"]
    assert one._restarts.saved == two._restarts.saved


async def test_whoever_writes_knows_what_was_saved_before_the_list_is_read_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "GATHER", 3600)
    monkeypatch.setattr(host, "LOOK_EVERY", 3600)
    one = site.host(Careless)
    await until(lambda: runs(one))
    two = site.host(Careless)
    for text in ("first", "second"):
        await two.send(text)
    await until(lambda: two._restarts.saved is not None)
    assert two._restarts.saved["heard"][0] == "first"
    # It is saved for each process once, and not for each message.
    await until(lambda: messages(one) == 2)
    saved = two._restarts.saved
    await two.send("third")
    await until(lambda: messages(one) == 3)
    count = Tally.living[0].count
    await until(lambda: Tally.living[0].count > count + 2)
    assert one._restarts.saved == two._restarts.saved == saved


class Chess(Careless):
    """Tells its moves, and nothing else."""

    step = 3600

    async def receive(self, message: Any) -> None:
        await super().receive(message)
        self.changed()

    async def publish(self) -> None:
        await self.send({"type": "move", "number": len(self.heard)})


async def test_who_has_seen_a_change_knows_what_to_go_on_with(site: Site) -> None:
    one = site.host(Chess)
    await until(lambda: runs(one))
    two = site.host(Chess)
    channel = await two.layer.new_channel()
    await two.layer.group_add("room", channel)
    for number in range(1, 6):
        await two.send(number)
        async with asyncio.timeout(DEADLINE):
            assert (await two.layer.receive(channel))["number"] == number
        assert two._restarts.saved["heard"] == list(range(1, number + 1))


async def test_whoever_was_there_before_the_room_began_knows_soon_what_was_saved(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "LOOK_EVERY", 3600)
    hosts = [site.host(Careless) for _ in range(2)]
    await until(lambda: all(one._restarts.saved is not None for one in hosts))


@pytest.mark.slow
async def test_who_is_cut_off_stops_before_another_one_begins(site: Site) -> None:
    one = site.host()
    await until(lambda: runs(one))
    two = site.host()
    await two.send("before")
    await until(lambda: two._restarts.saved is not None and two._restarts.saved["heard"])
    backplane = site.cut(one)
    await until(lambda: not runs(one))
    Tally.living.clear()
    await until(lambda: runs(two))
    assert Tally.living[0].heard == ["before"]
    backplane.recover()
    await asyncio.sleep(3 * LEASE)
    assert (runs(one), runs(two)) == (False, True)
    await one.send("from the one who is back")
    await until(lambda: messages(two) == 2)


async def test_an_outage_for_all_stops_the_room_and_it_goes_on_afterwards(site: Site) -> None:
    one = site.host()
    await until(lambda: runs(one) and Tally.living[0].count > 5)
    backplane = site.cut(one)
    await until(lambda: not runs(one))
    Tally.living.clear()
    backplane.recover()
    await until(lambda: runs(one))
    assert Tally.living[0].saved["count"] > 5


async def test_messages_wait_for_somebody_who_runs_the_room(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "_faults", FaultLog(runner.logger, per_second=1))
    one = site.host()
    dropped = counters.dropped_messages
    for number in range(MOST_WAITING + 3):
        await one.send(number)
    await until(lambda: messages(one) == MOST_WAITING)
    assert Tally.living[0].heard == list(range(MOST_WAITING))
    assert counters.dropped_messages - dropped == 3
    assert caplog.text.count("Room room has dropped a message: it is behind, or no process runs it") == 1


async def test_messages_that_waited_come_first_and_an_outage_loses_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = site.host()
    await until(lambda: runs(one))
    two = site.host()
    for number in range(3):
        await two.send(number)
    send, tries = two.layer.send, 0

    async def send_slowly(channel: str, message: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise Unavailable("cut")
        if tries == 1:
            await two.send(3)  # the consumer goes on while those before it are on their way
        await send(channel, message)

    monkeypatch.setattr(two.layer, "send", send_slowly)
    await until(lambda: messages(one) == 4)
    assert Tally.living[0].heard == [0, 1, 2, 3]


async def test_a_message_that_no_layer_carries_holds_up_no_other(site: Site) -> None:
    one = site.host()
    await until(lambda: runs(one))
    dropped = counters.dropped_messages
    two = site.host()
    await two.send(object())
    await two.send("behind")
    await until(lambda: messages(one) == 1)
    assert Tally.living[0].heard == ["behind"]
    assert counters.dropped_messages - dropped == 1


async def test_messages_to_a_room_that_nobody_ran_are_counted_in_the_end(site: Site) -> None:
    dropped = counters.dropped_messages
    one = site.host()
    await one.send("too early")
    one.remove("visitor")
    await asyncio.wait([one.task])
    assert messages(one) + counters.dropped_messages - dropped == 1


async def test_a_message_is_not_passed_on_for_ever(site: Site) -> None:
    one = site.host()
    await until(lambda: runs(one))
    two = site.host()
    await until(lambda: two._contest.first == one._contest.channel)
    dropped = counters.dropped_messages
    await two.send("late", hops=host.MOST_HOPS)
    assert counters.dropped_messages - dropped == 1


async def test_a_room_goes_on_for_a_while_without_visitors(site: Site) -> None:
    one = site.host(Lingering)
    await until(lambda: runs(one))
    room = Tally.living[0]
    one.remove("visitor")
    await asyncio.sleep(0.05)
    one.add("visitor", [])
    await asyncio.sleep(0.15)
    assert Tally.living == [room]
    one.remove("visitor")
    await asyncio.wait([one.task])
    assert Tally.living == []
    assert await one.layer.presence.count("room.clock") == 0


async def told(visitor: Member) -> list[Any]:
    async with asyncio.timeout(DEADLINE):
        while not (messages := waiting(visitor)):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    return messages


async def test_visitors_of_all_processes_are_told_that_the_room_has_failed(site: Site) -> None:
    visitors = []
    for _ in range(2):
        one = site.host()
        one.add("visitor", [FAILED])
        visitors.append(new_member(one.layer.hub, "visitor"))
        await until(lambda: any(map(runs, site.hosts)))
    await until(lambda: site.hosts[0]._contest.others)
    await site.hosts[1].send("fail")
    for visitor in visitors:
        assert await told(visitor) == [{"type": FAILED, "group": "room", "again_in": 0.5}]
    await until(lambda: any(map(runs, site.hosts)))


async def test_a_room_that_has_ended_ends_in_all_processes(site: Site) -> None:
    one = site.host(Ending)
    await until(lambda: runs(one))
    two = site.host(Ending)
    two.add("visitor", [ENDED])
    visitor = new_member(two.layer.hub, "visitor")
    await until(lambda: one._contest.others)
    await one.send("fail")
    await asyncio.wait([one.task, two.task])
    assert (one.has_ended, two.has_ended) == (True, True)
    dropped = counters.dropped_messages
    for each in (one, two):
        await each.send("too late")
    assert counters.dropped_messages - dropped == 2
    assert await told(visitor) == [{"type": ENDED, "group": "room"}]


async def test_a_host_survives_an_error_of_the_layer(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    one = site.host()
    await until(lambda: runs(one))
    two = site.host()
    await until(lambda: two._contest.first == one._contest.channel)
    send = two.layer.send

    async def failing(*args: Any) -> None:
        two.layer.send = send  # type: ignore[method-assign]
        raise ZeroDivisionError("once")

    two.layer.send = failing  # type: ignore[method-assign]
    for number in range(2):
        message = {"type": "room.message", "from": one._contest.channel, "message": number, "hops": 1}
        await one.layer.send(two._contest.channel, message)
    await until(lambda: messages(one) == 1)
    assert Tally.living[0].heard == [1]
    assert "Room room has a fault" in caplog.text
    assert caplog.text.count("ZeroDivisionError: once") == 1


async def test_a_room_begins_again_even_if_nobody_can_be_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(self: Host, pause: float | None) -> None:
        raise ZeroDivisionError("cannot tell")

    monkeypatch.setattr(Host, "_tell", failing)
    one = site.host()
    await one.send("fail")
    await until(lambda: one._restarts.saved is None and not Tally.living)
    await until(lambda: runs(one))


async def test_what_was_saved_does_not_change_afterwards(site: Site) -> None:
    one = site.host(Careless)
    await until(lambda: runs(one))
    site.host(Careless)
    await until(lambda: one._restarts.saved is not None)
    await one.send("later")
    await until(lambda: messages(one) == 1)
    assert one._restarts.saved["heard"] == []


async def test_in_memory_the_one_process_runs_the_room_at_once() -> None:
    Tally.living.clear()
    one = Host(Tally, "room", MemoryChannelLayer())
    one.add("visitor", [])
    await one.send("hello")
    await until(lambda: messages(one) == 1)
    one.remove("visitor")
    await asyncio.wait([one.task])
    assert Tally.living == []
