"""Presence over several processes: who joins and leaves, whatever happens to a process or to the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.fairway.layers.doubles import new_member, waiting

from fairway.delivery import Member
from fairway.layers import audiences, presence, registrar
from fairway.layers.audiences import DIFF, STATE
from fairway.layers.background import background
from fairway.layers.backplane import NOTE, NotAble, Presence, Unavailable
from fairway.layers.codec import Kind
from fairway.layers.engine import Engine
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.layer import BackplaneLayer
from fairway.layers.presence_codec import MOST_DATA
from fairway.testing.in_process import InProcessBackplane
from fairway.timing import source

DEADLINE = 20.0
LEASE = 0.25


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (audiences, presence):
        monkeypatch.setattr(module, "GATHER", 0.001)
    monkeypatch.setattr(registrar, "READ_AGAIN", 0.01)


class Site:
    """Processes that share an engine: a layer and a backplane each."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.backplanes: list[InProcessBackplane] = []
        self.layers: list[BackplaneLayer] = []

    def process(self, **options: Any) -> BackplaneLayer:
        def make() -> InProcessBackplane:
            backplane = InProcessBackplane(self.engine)
            self.backplanes.append(backplane)
            return backplane

        layer = BackplaneLayer(make, **{"lease": LEASE, "linger": 0.01, **options})
        self.layers.append(layer)
        return layer

    def processes(self, count: int, **options: Any) -> list[BackplaneLayer]:
        return [self.process(**options) for _ in range(count)]

    def kill(self, layer: BackplaneLayer) -> None:
        """The process can neither renew its lease nor say anything more, for ever."""
        self.backplane_of(layer).lose(Unavailable("killed"))

    def backplane_of(self, layer: BackplaneLayer) -> InProcessBackplane:
        session = layer.node.home.session
        assert session is not None
        assert isinstance(session.backplane, InProcessBackplane)
        return session.backplane


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    for layer in site.layers:
        await layer.close()


class Page:
    """A page of a person: it keeps what it is told, and complains of what cannot be."""

    def __init__(self, layer: BackplaneLayer, name: str, key: str | None = None) -> None:
        self.layer = layer
        self.name = name
        self.key = key or name
        self.member: Member = new_member(layer.hub, f"x.{layer.node.name}!{name}")
        self.people: dict[str, list[Any]] | None = None
        self.events: list[tuple[str, str]] = []

    async def enter(self, group: str = "room", data: Any = None) -> Page:
        await self.layer.presence.track(group, self.member.name, data, self.key, hears=(STATE, DIFF))
        return self

    def look(self) -> dict[str, list[Any]]:
        for event in waiting(self.member):
            if event["type"] == STATE:
                self.people = event["members"]
                continue
            assert self.people is not None, "the state comes first"
            assert not event["joined"].keys() & self.people.keys(), "joined twice"
            assert event["left"].keys() <= self.people.keys(), "left without having joined"
            self.people = {**self.people, **event["joined"], **event["changed"]}
            self.events += [("joined", key) for key in event["joined"]] + [("left", key) for key in event["left"]]
            for key in event["left"]:
                del self.people[key]
        return self.people or {}

    async def alone(self) -> Page:
        """Enter, and wait until the state is there: all others are news."""
        await self.enter()
        await self.sees(self.key)
        return self

    async def sees(self, *keys: str) -> None:
        await until(lambda: set(self.look()) == set(keys))


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_people_of_all_processes_see_each_other(site: Site) -> None:
    one, two = site.processes(2)
    mira = await Page(one, "mira").enter(data={"name": "Mira"})
    await mira.sees("mira")
    tom = await Page(two, "tom").enter(data={"name": "Tom"})
    await tom.sees("mira", "tom")
    await mira.sees("mira", "tom")
    assert mira.people == tom.people == {"mira": [{"name": "Mira"}], "tom": [{"name": "Tom"}]}
    assert await one.presence.members("room") == await two.presence.members("room") == mira.people
    tom.member.detach()
    await mira.sees("mira")
    assert mira.events == [("joined", "tom"), ("left", "tom")]


async def test_a_person_in_two_processes_is_one(site: Site) -> None:
    one, two = site.processes(2)
    mira = await Page(one, "mira").alone()
    first, second = await Page(one, "t1", "tom").enter(), await Page(two, "t2", "tom").enter()
    await second.sees("mira", "tom")
    first.member.detach()
    await Page(two, "mark").enter()
    await mira.sees("mira", "tom", "mark")
    assert await two.presence.count("room") >= 3
    second.member.detach()
    await mira.sees("mira", "mark")
    assert [event for event in mira.events if event[1] == "tom"] == [("joined", "tom"), ("left", "tom")]


async def test_a_reload_that_comes_to_another_process_is_not_noticed(site: Site) -> None:
    one, two = site.processes(2, linger=0.1)
    mira = await Page(one, "mira").alone()
    before = await Page(one, "t1", "tom").enter()
    await mira.sees("mira", "tom")
    before.member.detach()
    after = await Page(two, "t2", "tom").enter()
    await after.sees("mira", "tom")
    await until(lambda: len(one.presence.own.entries("room")) == 1)
    await Page(two, "mark").enter()
    await mira.sees("mira", "tom", "mark")

    assert [event for event in mira.events if event[1] == "tom"] == [("joined", "tom")]


async def test_the_only_page_of_a_process_is_loaded_again_and_hears_of_others_as_before(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairway.layers.interests.LINGER", 0.01)
    one, two = site.processes(2)
    before = await Page(one, "mira").alone()
    before.member.detach()
    mira = await Page(one, "mira again", "mira").alone()
    hall = await Page(one, "mira", "mira").enter("hall")
    hall.member.detach()
    await until(lambda: "h.hall" not in site.backplane_of(one)._subjects)
    tom = await Page(two, "tom").enter()
    await mira.sees("mira", "tom")
    await two.presence.untrack("room", tom.member.name)
    await mira.sees("mira")


async def test_nothing_of_presence_stays_in_the_background_when_another_loop_receives(site: Site) -> None:
    one, two = site.processes(2)
    name = await one.new_channel()
    await one.close()

    async def enter() -> None:
        await one.presence.track("room", name, key="tom")

    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(enter(), background.started()))
    first = one.presence.reach._registrar
    assert background.is_its_own(first.session.loop)
    mira = await Page(one, "mira").enter()
    other = await Page(two, "other").enter()
    await other.sees("mira", "other", "tom")
    await until(lambda: not first._tasks)

    assert one.presence.reach._registrar.session.loop is asyncio.get_running_loop()
    await mira.sees("mira", "other", "tom")


async def test_the_people_of_a_process_that_dies_leave_once(site: Site) -> None:
    one, two, three = site.processes(3)
    mira, other = await Page(one, "mira").enter(), await Page(three, "other").enter()
    for name in ("tom", "ann"):
        await Page(two, name).enter()
    await mira.sees("mira", "other", "tom", "ann")
    await other.sees("mira", "other", "tom", "ann")
    site.kill(two)
    await mira.sees("mira", "other")
    await other.sees("mira", "other")
    await until(lambda: len(site.engine.leases) == 2)

    assert sorted(mira.events[-2:]) == [("left", "ann"), ("left", "tom")]
    assert await one.presence.count("room") == 2


async def test_a_process_that_was_away_for_too_long_comes_back_with_its_people(site: Site) -> None:
    one, two = site.processes(2)
    mira, tom = await Page(one, "mira").alone(), await Page(two, "tom").enter()
    await mira.sees("mira", "tom")
    site.kill(two)
    await mira.sees("mira")
    site.backplane_of(two).recover()
    await mira.sees("mira", "tom")
    await tom.sees("mira", "tom")

    assert mira.events == [("joined", "tom"), ("left", "tom"), ("joined", "tom")]
    assert tom.events == [], "for those who were away themselves, nobody has left"


async def test_a_short_outage_of_all_is_not_noticed(site: Site) -> None:
    layers = site.processes(3, lease=60)
    pages = [await Page(layer, f"p{number}").enter() for number, layer in enumerate(layers)]
    everybody = [page.name for page in pages]
    for page in pages:
        await page.sees(*everybody)
    seen = [len(page.events) for page in pages]
    for backplane in site.backplanes:
        backplane.lose(Unavailable("an outage"))
    newcomer = await Page(layers[0], "new").enter()
    for backplane in site.backplanes:
        backplane.recover()
    for page in (*pages, newcomer):
        await page.sees(*everybody, "new")

    assert [page.events[count:] for page, count in zip(pages, seen, strict=True)] == [[("joined", "new")]] * 3


async def test_a_service_that_lost_everything_is_told_again_and_nobody_notices(site: Site) -> None:
    layers = site.processes(3)
    pages = [await Page(layer, f"p{number}").enter() for number, layer in enumerate(layers)]
    everybody = [page.name for page in pages]
    for page in pages:
        await page.sees(*everybody)
    seen = [len(page.events) for page in pages]
    for backplane in site.backplanes:
        backplane.lose(Unavailable("a restart"))
    site.engine.leases.clear()
    for backplane in site.backplanes:
        backplane.recover()

    async def is_told() -> bool:
        return set(await layers[0].presence.members("room")) == set(everybody)

    async with asyncio.timeout(DEADLINE):
        while not await is_told():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    await asyncio.sleep(LEASE)  # in which they could be missed
    for page in pages:
        await page.sees(*everybody)
    assert [page.events[count:] for page, count in zip(pages, seen, strict=True)] == [[]] * 3


async def test_a_service_that_stood_still_takes_nobody_for_dead(site: Site) -> None:
    """When it goes on, the leases of all have ended. Whoever renews first must not judge the others by that."""
    one, two = site.processes(2)
    mira = await Page(one, "mira").alone()
    await Page(two, "tom").enter()
    await mira.sees("mira", "tom")
    leases = site.engine.leases
    reaches = [layer.presence.reach for layer in (one, two)]
    await until(lambda: all(source.monotonic() > reach._registrar._lease.judges_from for reach in reaches))
    for lease in leases._leases.values():
        lease.until = 0.0

    await until(lambda: [found.term for found in leases.present("h.room", source.monotonic())] == [2, 2])
    await Page(two, "ann").enter()
    await mira.sees("mira", "tom", "ann")
    assert mira.events == [("joined", "tom"), ("joined", "ann")]


async def test_a_lost_difference_is_noticed_with_the_next_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = site.processes(2)
    mira = await Page(one, "mira").enter()
    tom = await Page(two, "tom").enter()
    await mira.sees("mira", "tom")
    reach: Any = one.presence.reach
    heard = reach.heard
    lost: list[Any] = []
    monkeypatch.setattr(reach, "heard", lambda session, subject, body: lost.append(body))
    await Page(two, "ann").enter()
    await until(lambda: lost)
    monkeypatch.setattr(reach, "heard", heard)
    tom.member.detach()

    await mira.sees("mira", "ann")


async def test_a_process_that_ends_in_order_leaves_after_a_while(site: Site) -> None:
    one, two = site.processes(2)
    mira = await Page(one, "mira").alone()
    await Page(two, "tom").enter()
    await mira.sees("mira", "tom")
    await two.close()
    await mira.sees("mira")

    assert mira.events == [("joined", "tom"), ("left", "tom")]


async def test_nobody_waits_for_an_outage(site: Site) -> None:
    one, two = site.processes(2)
    mira = await Page(one, "mira").enter()
    await mira.sees("mira")
    site.backplane_of(one).lose(Unavailable("an outage"))
    await Page(one, "tom").enter()
    await mira.sees("mira", "tom")
    with pytest.raises(Unavailable, match="the engine is away"):
        await one.presence.members("room")
    site.backplane_of(one).recover()
    ann = await Page(two, "ann").enter()
    await ann.sees("mira", "tom", "ann")


async def test_what_is_in_the_store_is_encrypted_with_everything_else(site: Site) -> None:
    pytest.importorskip("cryptography")
    one, two = (site.process(symmetric_encryption_keys=["a secret key"]) for _ in range(2))
    await Page(one, "mira").enter(data="a private matter")
    tom = await Page(two, "tom").enter()
    await tom.sees("mira", "tom")
    entries = [data for found in site.engine.leases.present("h.room", 0.0) for data in found.entries.values()]

    assert len(entries) == 4, "and two notes"
    assert not any(b"private" in data or b"mira" in data for data in entries)


async def test_what_others_say_is_checked(site: Site) -> None:
    one = site.process()
    mira = await Page(one, "mira").enter()
    await mira.sees("mira")
    codec = one.node._codec
    backplane = InProcessBackplane(site.engine)
    bodies: list[tuple[Kind, Any]] = [
        (Kind.PRESENCE, []),
        (Kind.PRESENCE, ["p", 1, 0, 1, {"x": ["+x"]}, []]),
        (Kind.PRESENCE, ["p", 1, 0, 1, {"x": ["+x", "no bytes"]}, []]),
        (Kind.PRESENCE, ["p", 1, 0, 1, {"x": ["+x", b"x" * (MOST_DATA + 1)]}, []]),
        (Kind.PRESENCE, ["p", 1, 0, 1, {"x": ["", b""]}, []]),
        (Kind.PRESENCE, ["p", 1, 0, 1, {NOTE: ["+x", b""]}, []]),
        (Kind.PRESENCE, ["p", 1, 0, 1, 7, []]),
        (Kind.PRESENCE, ["p", 1, 0, 1, {}, [7]]),
        (Kind.PRESENCE, ["p", "1", 0, 1, {}, []]),
        (Kind.PRESENCE, [7, 1, 0, 1, {}, []]),
        (Kind.DEPARTED, ["p"]),
        (Kind.DEPARTED, ["p", "1"]),
        (Kind.ENTRY, ["+x", b""]),
    ]
    for kind, body in bodies:
        site.engine.publish("h.room", codec.encode(kind, body, "h.room"))
    await until(lambda: one.node.statistics.undecodable == len(bodies))

    assert mira.look() == {"mira": [None]}
    site.engine.leases.begin("p", 1, 1e9)
    site.engine.leases.enter("p", 1, "h.room", {"x": b"garbage", "y": codec.encode(Kind.EVENT, {}, "h.room")})
    assert await one.presence.members("room") == {"mira": [None]}
    assert one.node.statistics.undecodable == len(bodies) + 2
    await backplane.close()


async def test_data_has_a_bound(site: Site) -> None:
    one = site.process()
    with pytest.raises(ValueError, match=r"takes 5,\d+ bytes, and may take 4,096: give a reference"):
        await one.presence.track("room", "m", "x" * 5000)
    with pytest.raises(TypeError, match="a object cannot be sent"):
        await one.presence.track("room", "m", {"it": object()})

    assert await one.presence.count("room") == 0


async def test_differences_that_are_too_large_for_a_message_are_read(site: Site) -> None:
    one, two = site.processes(2, max_message_size=5000)
    mira = await Page(one, "mira").enter()
    await mira.sees("mira")
    pages = [Page(two, f"p{number}") for number in range(5)]
    await asyncio.gather(*(page.enter(data="x" * 2000) for page in pages))

    await mira.sees("mira", *(page.name for page in pages))


async def test_a_backplane_without_presence_says_so(site: Site) -> None:
    class Less(InProcessBackplane):
        def __init__(self) -> None:
            super().__init__(site.engine)
            self.presence = Presence()

    one = BackplaneLayer(Less)
    site.layers.append(one)
    for call in (
        lambda: one.presence.track("room", "m"),
        lambda: one.presence.members("room"),
        lambda: one.presence.count("room"),
    ):
        with pytest.raises(NotAble, match="keeps no presence"):
            await call()
    assert one.presence.own.groups == []


@pytest.mark.parametrize("lease", [0, -1, 1e9, float("nan")])
def test_a_lease_has_bounds(lease: float) -> None:
    with pytest.raises(InvalidChannelLayerError, match=r"lease is .*: use 0.01 to 3600 seconds"):
        BackplaneLayer(lambda: InProcessBackplane(Engine()), lease=lease)


async def test_what_could_not_be_stored_is_stored_without_an_outage(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service was only too slow, to store and then to tell: the connection stands."""
    one, two = site.processes(2, lease=3.0)
    await one.presence.track("hall", "m", key="m")
    stored = site.backplane_of(one).presence
    enter, failures = stored.enter, [Unavailable("it has not answered in time")] * 2

    async def slow(subject: str, entries: Any, term: int) -> None:
        if failures:
            raise failures.pop()
        await enter(subject, entries, term)

    monkeypatch.setattr(stored, "enter", slow)
    mira = await Page(two, "mira").alone()
    await one.presence.track("room", "m", key="m")
    await mira.sees("mira", "m")
    assert await two.presence.count("room") == 2
    assert not failures


async def test_many_groups_are_entered_again_after_an_outage(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar, "SPREAD", 0.02)
    monkeypatch.setattr(registrar, "AT_ONCE", 20)
    one, two = site.processes(2)
    await asyncio.gather(*(one.presence.track(f"user-{number}", "m", key="m") for number in range(110)))
    site.backplane_of(one).lose(Unavailable("a restart"))
    site.engine.leases.clear()
    site.backplane_of(one).recover()

    async def counts() -> int:
        return sum([await two.presence.count(f"user-{number}") for number in range(110)])

    async with asyncio.timeout(DEADLINE):
        while await counts() < 110:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_flush_forgets_everybody_in_all_processes(site: Site) -> None:
    one, two = site.processes(2, lease=60)
    pages = [await Page(one, "mira").alone(), await Page(two, "tom").enter()]
    await pages[0].sees("mira", "tom")
    await two.flush()
    assert [await layer.presence.members("room") for layer in (one, two)] == [{}, {}]
    # Whoever is tracked after it is listed at once, although the leases have ended.
    await two.presence.track("room", pages[1].member.name, None, "tom", hears=(STATE, DIFF))
    assert await one.presence.members("room") == {"tom": [None]}
    await pages[1].sees("tom")
    assert await one.presence.members("hall") == {}
    await until(lambda: not one.presence.audiences.groups)
    await pages[0].enter()
    await pages[0].sees("mira", "tom")
    await pages[1].sees("mira", "tom")
