"""Measure what rooms cost their process: processor time for each tick, and memory, with rooms that do nothing.

    python bench/rooms.py [--rooms 500] [--seconds 5]

Each room ticks twenty times a second over the in-memory layer, publishes nothing and saves nothing. The time includes
what a host does every other second: it reads who else has visitors.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time

import uvloop

from fairway.layers.memory import MemoryChannelLayer
from fairway.rooms import Room
from fairway.rooms.counters import counters
from fairway.rooms.host import Host


def kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def measure(rooms: int, seconds: float) -> None:
    layer = MemoryChannelLayer()
    before = kilobytes()
    hosts = [Host(Room, f"room.{number}", layer) for number in range(rooms)]
    for host in hosts:
        host.add("visitor", [])
    while counters.running < rooms:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    memory = kilobytes() - before
    ticks, missed, used, began = counters.ticks, counters.missed_ticks, time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    ticks, missed, used = counters.ticks - ticks, counters.missed_ticks - missed, time.process_time() - used
    share = used / (time.monotonic() - began)
    print(f"{rooms} rooms, {ticks} ticks in {seconds:g} s, {missed} left out: {1e6 * used / ticks:.1f} µs a tick")
    print(f"{100 * share:.1f} % of a core, {memory / rooms:.1f} KB a room")
    for host in hosts:
        host.remove("visitor")
    await asyncio.wait([host.task for host in hosts])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(given.rooms, given.seconds))
