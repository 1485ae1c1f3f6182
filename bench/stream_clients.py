"""The clients of `soak_streams.py`: people with several tabs, who come and go, and talkers whom nobody may miss.

A tab keeps its last position. When its connection ends, it comes back with it, to whichever worker there is. So from
the first number of a talker that it must see, every number comes to it once and in order, whatever happens to workers
and to their connections among each other. A talker says a number until the service has it, always with the same key.

Each tab also keeps the list of people that it is told of. Nobody joins who is there, and nobody leaves who is not; and
everybody who has been there, or away, for a while is in the list of every tab, or is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from urllib.parse import quote

from soak_site import PATIENCE, NotOpened, Site, Talker, received

ROOMS, RESIDENTS, TABS, VISITORS, TALKERS = 4, 3, 2, 4, 2
"""In each room: people who stay, with so many tabs each, people who come and go, and people who talk."""

PAUSE = 0.25
"""Seconds between two numbers of a talker."""

SETTLED = 15.0
"""Seconds after which everybody knows who has come or gone: the lease of a killed process, and time to spare."""

SHORT = 2.0
"""Seconds for which somebody may be away without leaving: less than a lease, and less than the layer's `linger`."""


class StreamSite(Site):
    """One server with its rooms."""

    def __init__(self, name: str, port: int, rate: float):
        super().__init__(name, port, rate)
        self.rooms = [Room(self, number) for number in range(ROOMS)]


class Person:
    """Who is there, with how many tabs, and since when that is so. Some more tabs may be `coming`."""

    def __init__(self, name: str):
        self.name = name
        self.tabs = self.coming = 0
        self.changed_at = -SETTLED
        self.was_away_for = 0.0

    def comes(self) -> None:
        self.tabs += 1
        if self.tabs == 1:
            self.was_away_for = time.monotonic() - self.changed_at
            self.changed_at = time.monotonic()

    def goes(self) -> None:
        self.tabs -= 1
        if not self.tabs:
            self.changed_at = time.monotonic()

    def is_settled(self, now: float) -> bool:
        """Whether everybody should know by now if this person is there."""
        return now - self.changed_at > SETTLED and bool(self.tabs or not self.coming)


class Speaker(Talker):
    """`number` is the last that the service has, and `asked` the last that it was asked to take."""

    asked = 0


class Tab:
    """One tab of a person, over all its connections."""

    def __init__(self, room: Room, person: Person):
        self.room = room
        self.site = room.site
        self.person = person
        self.position = ""
        self.seen: dict[str, int] = {}
        self.must_see: dict[str, int] = {}
        self.people: set[str] | None = None
        self.since: float | None = None  # when it was told everything that it had missed
        self.tracked = False

    @property
    def name(self) -> str:
        return f"a tab of {self.person.name} in room {self.room.number}"

    @property
    def path(self) -> str:
        query = f"?since={quote(self.position)}" if self.position else ""
        return f"/stream/{self.room.number}/{self.person.name}/{query}"

    def last(self, talker: str) -> int:
        """Up to which number it has seen all that it must."""
        return self.seen.get(talker, self.must_see.get(talker, 0))

    def hear(self, message: dict) -> None:
        getattr(self, f"hear_{message.pop('kind')}")(**message)

    def hear_joined(self, recovered: bool, count: int, position: str) -> None:
        self.since = time.monotonic()
        if not self.position:
            self.position = position
            self.must_see = {talker.name: talker.asked for talker in self.room.talkers}
        elif not recovered:
            self.site.fault(f"{self.name} came back and has missed something")
        self.site.counts["caught up"] += count

    def hear_tracked(self) -> None:
        self.tracked = True
        self.person.comes()

    def hear_said(self, talker: str, number: int, position: str) -> None:
        self.site.counts["deliveries"] += 1
        last, is_first = self.last(talker), talker not in self.seen
        if number != last + 1 and not (is_first and number <= last):
            self.site.fault(f"{self.name}: {number} of {talker} came after {last}")
        self.seen[talker] = number
        self.position = position

    def hear_gap(self, gap: dict) -> None:
        self.site.fault(f"{self.name} was told of a gap: {gap}")

    def hear_state(self, members: list[str]) -> None:
        self.people = set(members)

    def hear_diff(self, joined: list[str], left: list[str]) -> None:
        people = self.people
        if people is None or people & set(joined) or not people >= set(left):
            self.site.fault(f"{self.name}: {joined} joined and {left} left, where there were {people}")
            return
        self.people = (people | set(joined)) - set(left)
        self.site.counts["joined"] += len(joined)
        self.site.counts["left"] += len(left)
        for name in left:
            person = self.room.people[name]
            if person.tabs and time.monotonic() - person.changed_at > SETTLED:
                self.site.fault(f"{self.name}: {name} has left, and was there all the time")
            elif person.tabs and person.was_away_for < SHORT:
                self.site.counts["left in a short absence"] += 1

    def end(self) -> None:
        self.people = self.since = None
        if self.tracked:
            self.tracked = False
            self.person.goes()
        else:  # nobody knows whether others have been told that this person was there
            self.person.changed_at = time.monotonic()


class Room:
    def __init__(self, site: StreamSite, number: int):
        self.site = site
        self.number = number
        self.talkers = [Speaker(f"talker{number}-{one}", 0) for one in range(TALKERS)]
        names = [f"resident{one}" for one in range(RESIDENTS)], [f"visitor{one}" for one in range(VISITORS)]
        self.people = {name: Person(name) for name in itertools.chain(*names)}
        self.residents = [Tab(self, self.people[name]) for name in names[0] for _ in range(TABS)]
        self.visitors = [Tab(self, self.people[name]) for name in names[1]]

    @property
    def tabs(self) -> list[Tab]:
        return [*self.residents, *self.visitors]

    def check(self) -> None:
        now = time.monotonic()
        for tab in self.tabs:
            if tab.since is None or now - tab.since < PATIENCE:
                continue
            for talker in self.talkers:
                if tab.last(talker.name) < (due := talker.due(now)):
                    self.site.fault(f"{tab.name}: {due} of {talker.name} is missing: {tab.last(talker.name)} came")
                    tab.seen[talker.name] = due  # one fault is enough
            if tab.people is not None and now - tab.since > SETTLED:
                self.check_people(tab, tab.people, now)

    def check_people(self, tab: Tab, people: set[str], now: float) -> None:
        settled = {one.name: bool(one.tabs) for one in self.people.values() if one.is_settled(now)}
        wrong = [name for name, is_here in settled.items() if is_here != (name in people)]
        self.site.counts["people checked"] += len(settled)
        if wrong:
            self.site.fault(f"{tab.name}: {wrong} should be {[settled[name] for name in wrong]}, people: {people}")
            tab.people = None


async def sit(tab: Tab, seconds: float | None = None) -> None:
    """Be connected, for so long, or until the connection ends."""
    tab.person.coming += 1
    try:
        async with tab.site.socket(tab.path) as (connection, _):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    async for text in connection:
                        tab.hear(json.loads(text))
                    raise ConnectionResetError("closed by the server")
            if random.random() < 0.5:
                connection.transport.abort()
    finally:
        tab.end()
        tab.person.coming -= 1


async def visit(tab: Tab) -> None:
    await sit(tab, random.uniform(2.0, 40.0))
    await asyncio.sleep(random.uniform(0.2, 40.0))


async def talk(site: Site, room: Room, talker: Speaker) -> None:
    async with site.socket(f"/say/{room.number}/{talker.name}/") as (connection, _):
        while True:
            talker.asked = number = talker.number + 1
            await connection.send(str(number))
            if await received(connection) == "again":
                site.counts["said again"] += 1
                await asyncio.sleep(0.02)
                continue
            talker.number = number
            talker.said.append((time.monotonic(), number))
            site.counts["said"] += 1
            await site.pause(PAUSE)


async def cut_a_link(site: Site) -> None:
    """Cut the connection of one process to the others."""
    with contextlib.suppress(NotOpened):
        async with site.socket("/cut/") as (connection, _):
            await connection.send("cut")
            await received(connection)
            site.counts["links cut"] += 1


async def present(site: Site) -> int:
    """How many are present in all rooms, as any process says; -1 if it does not answer."""
    found = 0
    for number in range(ROOMS):
        count = -1
        with contextlib.suppress(NotOpened):
            async with site.socket(f"/present/{number}/") as (connection, _):
                await connection.send("?")
                count = int(await received(connection))
        found += count
    return found


async def load(site: StreamSite) -> None:
    """The whole load, until it is cancelled."""
    async with asyncio.TaskGroup() as clients:
        for room in site.rooms:
            for tab in room.residents:
                clients.create_task(site.again(sit, tab))
            for tab in room.visitors:
                clients.create_task(site.again(visit, tab))
            for talker in room.talkers:
                clients.create_task(site.again(talk, site, room, talker))
        while True:
            await asyncio.sleep(1.0)
            for room in site.rooms:
                room.check()
