"""The clients of `soak_workers.py`: a mixed load.

In rooms everybody sees what each talker says, numbered. From the first number that a member must see, every number has
to come once and in order. A number of a talker whose worker lives has to come within ten seconds; after its worker has
been killed, the last ones may be missing. `soak_site.py` says which connections may end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from soak_site import LOST, PATIENCE, Site, Talker, received

ROOMS, MEMBERS, TALKERS, ECHOES, VISITORS = 6, 8, 2, 24, 6


class MixedSite(Site):
    """One server with its rooms."""

    def __init__(self, name: str, port: int, rate: float):
        super().__init__(name, port, rate)
        self.rooms = [RoomRecord(self, number) for number in range(ROOMS)]


class Member:
    def __init__(self, pid: int, before: dict[int, int]):
        self.pid = pid
        self.before = before
        self.seen = {}

    def last(self, talker: int) -> int:
        """Up to which number this member has seen all that it must."""
        return self.seen.get(talker, self.before.get(talker, 0))


class RoomRecord:
    """Who talks in a room, who listens, and what has arrived."""

    def __init__(self, site: MixedSite, number: int):
        self.site = site
        self.number = number
        self.names = itertools.count(1)
        self.talkers = {}
        self.members = set()

    def join(self, pid: int) -> Member:
        member = Member(pid, {name: talker.number for name, talker in self.talkers.items()})
        self.members.add(member)
        return member

    def heard(self, member: Member, text: str) -> None:
        name, number = map(int, text.split()[:2])
        self.site.counts["deliveries"] += 1
        last = member.last(name)
        is_first = name not in member.seen
        # What was on its way when the member came may still reach it.
        if number != last + 1 and not (is_first and number <= last):
            self.site.fault(f"room {self.number}: {number} of talker {name} came after {last}")
        member.seen[name] = number

    def check(self) -> None:
        now, killed = time.monotonic(), self.site.killed
        for name, talker in self.talkers.items():
            due = talker.due(now)
            for member in self.members:
                if talker.pid not in killed and member.pid not in killed and member.last(name) < due:
                    self.site.fault(f"room {self.number}: {due} of talker {name} is missing: {member.last(name)} came")
                    member.seen[name] = due  # one fault is enough


async def sit_in_room(room: RoomRecord, is_talker: bool) -> None:
    site = room.site
    async with site.socket(f"/room/{room.number}/") as (connection, pid):
        member = room.join(pid)
        talking = asyncio.create_task(talk(room, connection, pid)) if is_talker else None
        try:
            async for text in connection:
                room.heard(member, text)
        finally:
            room.members.discard(member)
            if talking is not None:
                talking.cancel()
                await asyncio.wait({talking})
        raise ConnectionResetError("closed by the server")


async def talk(room: RoomRecord, connection: ClientConnection, pid: int) -> None:
    talker = Talker(next(room.names), pid)
    room.talkers[talker.name] = talker
    try:
        while True:
            await room.site.pause(0.5)
            talker.number += 1
            await connection.send(f"{talker.name} {talker.number} {'x' * random.randrange(500)}")
            talker.said.append((time.monotonic(), talker.number))
    except ConnectionClosed:
        pass  # whoever reads notices, too
    finally:
        del room.talkers[talker.name]


async def echo(site: MixedSite) -> None:
    async with site.socket("/echo/") as (connection, _):
        for number in itertools.count():
            await exchange(site, connection, f"{number} {'y' * random.randrange(2000)}")
            await site.pause(1.0)


async def come_and_go(site: MixedSite) -> None:
    """A few messages, then a close, or an end without one."""
    async with site.socket("/echo/") as (connection, _):
        for number in range(random.randrange(3)):
            await exchange(site, connection, str(number))
        if random.random() < 0.25:
            connection.transport.abort()
            return
    await site.pause(1.0)


async def exchange(site: MixedSite, connection: ClientConnection, text: str) -> None:
    await connection.send(text)
    answer = await received(connection)
    site.counts["echoes"] += 1
    if answer != text:
        site.fault(f"an echo is wrong: {answer[:40]!r} instead of {text[:40]!r}")


async def visit(site: MixedSite) -> None:
    """A few requests on one connection."""
    pid, writer = None, None
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        for _ in range(random.randrange(1, 5)):
            async with asyncio.timeout(PATIENCE):
                writer.write(b"GET /view/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                pid = json.loads(await reader.readexactly(length))["pid"]
            site.counts["requests"] += 1
            if b" 200 " not in head.split(b"\r\n")[0]:
                site.fault(f"a request was answered {head[:60]!r}")
            await site.pause(0.3)
    except LOST as error:
        site.lost("a request", pid, error)
    finally:
        if writer is not None:
            writer.close()


async def load(site: MixedSite) -> None:
    """The whole load, until it is cancelled."""
    again = site.again
    async with asyncio.TaskGroup() as clients:
        for room in site.rooms:
            for number in range(MEMBERS):
                clients.create_task(again(sit_in_room, room, number < TALKERS))
        for _ in range(ECHOES):
            clients.create_task(again(echo, site))
        for _ in range(VISITORS):
            clients.create_task(again(visit, site))
            clients.create_task(again(come_and_go, site))
        while True:
            await asyncio.sleep(1.0)
            for room in site.rooms:
                room.check()
