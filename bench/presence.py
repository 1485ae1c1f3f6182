"""Measure what presence costs Redis, against a lease for each member.

    python bench/presence.py [--rounds 5] [--entries 20000] [--redis redis-server] [--json results/presence-DATE.json]

Ours keeps a lease for each process, and enters people with plain commands, one for all that come in one pass of the
event loop. The usual way keeps a lease for each member: a hash and a sorted set in one script, renewed for as long as
the member stays. Both run over the same connection in turns, on one server, with 200 joins in flight: in one pass, or
each in a pass of its own (*apart*), so that nothing is gathered. What is printed is the server's CPU time for each
join, all that its connection costs included, and its memory for each member, as medians, with the ratios. Members are
in one group, or in a group each. What 20,000 groups cost when nothing happens: `many_groups.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from pathlib import Path
from typing import Any

from fairway.layers.backplane import NOTE
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from layers import Redis

DATA = b'{"name": "Somebody", "avatar": "x7"}'
IN_FLIGHT = 200

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
        await self._spread(await self._entering())

    async def ours_apart(self) -> None:
        await self._spread_apart(await self._entering())

    async def usual(self) -> None:
        await self._spread(await self._entering_usually())

    async def usual_apart(self) -> None:
        await self._spread_apart(await self._entering_usually())

    async def _entering(self) -> Any:
        presence = self.backplane.presence
        term = (await presence.renew(600)).term

        async def enter(number: int) -> None:
            subject = "h.room" if self.in_one_group else f"h.user-{number}"
            await presence.enter(subject, {str(number): DATA, NOTE: b"%08d" % number}, term)

        return enter

    async def _entering_usually(self) -> Any:
        shard = self.backplane._shards[0]
        digest: Any = await shard.call("SCRIPT", "LOAD", LEASE_PER_MEMBER)

        async def enter(number: int) -> None:
            group = "room" if self.in_one_group else f"user-{number}"
            keys = (f"usual:h:{group}", f"usual:z:{group}")
            await shard.call(b"EVALSHA", digest, 2, *keys, f"member-{number:016x}", DATA, 60)

        return enter

    async def _spread(self, enter: Any) -> None:
        for begin in range(0, len(self.numbers), IN_FLIGHT):
            await asyncio.gather(*map(enter, self.numbers[begin : begin + IN_FLIGHT]))

    async def _spread_apart(self, enter: Any) -> None:
        loop = asyncio.get_running_loop()
        for begin in range(0, len(self.numbers), IN_FLIGHT):
            entering = []
            for number in self.numbers[begin : begin + IN_FLIGHT]:
                entering.append(loop.create_task(enter(number)))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await asyncio.gather(*entering)

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


async def measure(redis: Redis, rounds: int, entries: int, in_one_group: bool) -> dict[str, Any]:
    backplane = RedisBackplane(addresses([redis.url]), "bench")
    backplane.start(Events())
    try:
        run = Joins(redis, backplane, entries, in_one_group)
        found: dict[str, list[tuple[float, float]]] = {
            "ours": [], "usual": [], "ours_apart": [], "usual_apart": []
        }  # fmt: skip
        for _ in range(rounds):
            for way, costs in found.items():
                costs.append(await run.cost(way))
    finally:
        await backplane.close()
    figures: dict[str, Any] = {"members_are_in": "one group" if in_one_group else "a group each"}
    for way, costs in found.items():
        cpu, memory = (statistics.median(column) for column in zip(*costs, strict=True))
        pairs = [(ours, usual) for ours, usual in zip(costs, found[way.replace("ours", "usual")], strict=True)]
        ratios = [statistics.median(ours[place] / usual[place] for ours, usual in pairs) for place in (0, 1)]
        figures[way] = {"cpu_us": cpu, "bytes": memory, "cpu_ratio": ratios[0], "bytes_ratio": ratios[1]}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--redis", default="redis-server")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    results = []
    for in_one_group in (True, False):
        redis = Redis(options.redis)
        try:
            results.append(found := asyncio.run(measure(redis, options.rounds, options.entries, in_one_group)))
        finally:
            redis.stop()
        print(f"\n{options.entries} members in {found['members_are_in']}")
        for way in ("ours", "usual", "ours_apart", "usual_apart"):
            print(
                "  {:11} {cpu_us:6.2f} us, {bytes:5.0f} bytes: {cpu_ratio:.2f}, {bytes_ratio:.2f}".format(
                    way, **found[way]
                )
            )
    if options.json:
        options.json.write_text(json.dumps({"entries": options.entries, "runs": results}, indent=1))


if __name__ == "__main__":
    main()
