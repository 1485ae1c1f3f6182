"""Measure presence over Redis: what a join costs the server, and what many groups cost when nothing happens.

    python bench/presence.py [--rounds 5] [--entries 20000] [--groups 20000] [--redis redis-server]

*Joins.* Ours keeps a lease for each process, and enters somebody with one plain command. The usual way keeps a lease
for each member: a hash and a sorted set in one script, renewed for as long as the member stays. Both run over the same
connection in turns, on one server. What is printed is the server's CPU time for each join, without what its connection
costs, and its memory for each member, as medians, with the ratio. Members are in one group, or in a group each.

*Groups.* One process tracks somebody in so many groups, and then nothing happens: memory of the process and of Redis
for each group, and the CPU time of both while idle.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any

from fairway.layers.backplane import NOTE
from fairway.layers.redis import RedisChannelLayer
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from layers import Redis

DATA = b'{"name": "Somebody", "avatar": "x7"}'
IN_FLIGHT = 200
IDLE = 10.0

# The usual way: what a member is, and until when it counts; whoever is late is removed by the next that comes.
LEASE_PER_MEMBER = """
local now = tonumber(redis.call('TIME')[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""


class Events:
    def message(self, subject: str, data: bytes) -> None: ...
    def up(self) -> None: ...
    def down(self, error: Exception) -> None: ...


class Joins:
    """Enters members in one way or the other, over one connection."""

    def __init__(self, redis: Redis, backplane: RedisBackplane, count: int, in_one_group: bool) -> None:
        self.redis = redis
        self.backplane = backplane
        self.numbers = range(count)
        self.in_one_group = in_one_group

    async def ours(self) -> None:
        presence = self.backplane.presence
        term = (await presence.renew(600)).term
        if self.in_one_group:
            await presence.enter("h.room", {"0": DATA, NOTE: b"00000000"}, term)
        await self._spread(
            lambda number: presence.enter(
                "h.room" if self.in_one_group else f"h.user-{number}", {str(number): DATA, NOTE: b"%08d" % number}, term
            )
        )

    async def usual(self) -> None:
        shard = self.backplane._shards[0]
        digest: Any = await shard.call("SCRIPT", "LOAD", LEASE_PER_MEMBER)

        async def enter(number: int) -> None:
            group = "room" if self.in_one_group else f"user-{number}"
            keys = (f"usual:h:{group}", f"usual:z:{group}")
            await shard.call(b"EVALSHA", digest, 2, *keys, f"member-{number:016x}", DATA, 60)

        await self._spread(enter)

    async def nothing(self) -> None:
        """What the connection costs: a command that does nothing."""
        shard = self.backplane._shards[0]
        await self._spread(lambda number: shard.call(b"ECHO", DATA))

    async def _spread(self, enter: Any) -> None:
        for begin in range(0, len(self.numbers), IN_FLIGHT):
            await asyncio.gather(*map(enter, self.numbers[begin : begin + IN_FLIGHT]))

    async def cost(self, way: str) -> tuple[float, float]:
        """Microseconds of the server's CPU, and bytes, for each member."""
        self.redis.command("FLUSHALL")
        memory, cpu = memory_of(self.redis), self.redis.cpu()
        await getattr(self, way)()
        count = len(self.numbers)
        return (self.redis.cpu() - cpu) / count * 1e6, (memory_of(self.redis) - memory) / count


def memory_of(redis: Redis) -> int:
    lines = dict(line.split(":", 1) for line in redis.command("INFO", "memory").splitlines() if ":" in line)
    return int(lines["used_memory"])


async def joins(redis: Redis, rounds: int, entries: int) -> None:
    backplane = RedisBackplane(addresses([redis.url]), "bench")
    backplane.start(Events())
    try:
        for in_one_group in (True, False):
            run = Joins(redis, backplane, entries, in_one_group)
            found: dict[str, list[tuple[float, float]]] = {"nothing": [], "ours": [], "usual": []}
            for _ in range(rounds):
                for way, costs in found.items():
                    costs.append(await run.cost(way))
            base = statistics.median(cpu for cpu, _ in found["nothing"])
            print(f"\n{entries} members in {'one group' if in_one_group else 'a group each'}")
            figures = {}
            for way in ("ours", "usual"):
                cpu = statistics.median(cpu for cpu, _ in found[way]) - base
                memory = statistics.median(memory for _, memory in found[way])
                figures[way] = cpu, memory
                print(f"  {way:6} {cpu:6.2f} us of the server's CPU, {memory:6.0f} bytes")
            ratios = [ours / usual for ours, usual in zip(figures["ours"], figures["usual"], strict=True)]
            print(f"  ratio  {ratios[0]:6.2f}, {ratios[1]:6.2f}")
    finally:
        await backplane.close()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def many_groups(redis: Redis, count: int) -> None:
    redis.command("FLUSHALL")
    layer = RedisChannelLayer([redis.url], prefix="bench")
    channel = await layer.new_channel()
    await layer.presence.track("warm-up", channel, {"name": "Somebody"}, key="0")
    before, before_redis = resident(), memory_of(redis)
    began, cpu = time.monotonic(), own_cpu()
    for begin in range(0, count, IN_FLIGHT):
        part = range(begin, min(begin + IN_FLIGHT, count))
        await asyncio.gather(
            *(layer.presence.track(f"user-{number}", channel, {"name": "Somebody"}, key=str(number)) for number in part)
        )
    await asyncio.sleep(2)
    print(f"\n{count} groups of one member in one process, tracked in {time.monotonic() - began - 2:.1f} s")
    print(f"  joining: {(own_cpu() - cpu) / count * 1e6:.0f} us of the process's CPU for each")
    print(f"  memory: {(resident() - before) / count:.0f} bytes of the process for each, ", end="")
    print(f"{(memory_of(redis) - before_redis) / count:.0f} bytes of Redis")
    cpu, cpu_redis = own_cpu(), redis.cpu()
    await asyncio.sleep(IDLE)
    print(f"  idle: {(own_cpu() - cpu) / IDLE * 1e3:.2f} ms of CPU a second, ", end="")
    print(f"Redis {(redis.cpu() - cpu_redis) / IDLE * 1e3:.2f} ms")
    await layer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--groups", type=int, default=20_000)
    parser.add_argument("--redis", default="redis-server")
    options = parser.parse_args()
    redis = Redis(options.redis)
    try:
        asyncio.run(joins(redis, options.rounds, options.entries))
        asyncio.run(many_groups(redis, options.groups))
    finally:
        redis.stop()


if __name__ == "__main__":
    main()
