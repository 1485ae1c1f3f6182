"""Measure what keeping and publishing a message costs Redis, against a script that does it the usual way.

    python bench/keep.py [--rounds 7] [--messages 20000] [--redis redis-server] [--json results/keep-DATE.json]

*Ours* is one function (a script below Redis 7): an epoch that ends with its server, an offset, the message with its
time in a stream, a count of changes, and the message with its position to subscribers. *Usual* is a script that we have
written from what Centrifugo documents about its broker: a hash with epoch and offset, a stream with a bound, both given
another time of expiry with each message, and the message with offset and epoch in front to subscribers. It is called as
a script, as there. Its times are whole seconds, and it does not notice that another server has taken over.

All take turns over one connection to one server, with many in flight. It passes each message on to one subscriber.
What is printed is the server's CPU time for each message, all that its connections cost included, as medians of the
rounds, with the median of the rounds' ratios; and what each command of ours takes inside Redis, by its own count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import threading
from pathlib import Path
from typing import Any

from fairway.layers.backplane import Keep
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from layers import Redis

DATA = b"x" * 256
KEEP = Keep(100, 300)
IN_FLIGHT = 100

# Keys: stream, hash, what was answered for an idempotency key. Arguments: data, messages, seconds, channel, seconds of
# the hash, epoch to begin with, seconds of the answer ("" without a key).
USUAL = """
if ARGV[7] ~= '' then
  local answer = redis.call('HMGET', KEYS[3], 'e', 's')
  if answer[1] then return {answer[2], answer[1]} end
end
local epoch = redis.call('HGET', KEYS[2], 'e')
if not epoch then
  epoch = ARGV[6]
  redis.call('HSET', KEYS[2], 'e', epoch)
end
local offset = redis.call('HINCRBY', KEYS[2], 's', 1)
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], offset, 'd', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], '__p1:' .. offset .. ':' .. epoch .. '__' .. ARGV[1])
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[3], 'e', epoch, 's', offset)
  redis.call('EXPIRE', KEYS[3], ARGV[7])
end
return {offset, epoch}
"""


class Events:
    def message(self, subject: str, data: bytes) -> None: ...
    def up(self) -> None: ...
    def down(self, error: Exception) -> None: ...


class Ways:
    """Sends messages in one way or another, to some groups in turn."""

    def __init__(self, redis: Redis, backplane: RedisBackplane, messages: int, groups: int) -> None:
        self.redis = redis
        self.backplane = backplane
        self.messages = messages
        self.groups = groups
        self.round = 0

    async def nothing(self) -> None:
        """What a call over the connection costs."""
        shard = self.backplane._shards[0]
        await self._each(lambda number: shard.call(b"ECHO", DATA))

    async def publish(self) -> None:
        """A message that is not kept."""
        shard = self.backplane._shards[0]
        await self._each(lambda number: shard.call(b"PUBLISH", f"bench:0:g.{number % self.groups}", DATA))

    async def ours(self) -> None:
        streams = self.backplane.streams
        await self._each(lambda number: streams.append(f"g.{number % self.groups}", DATA, KEEP))

    async def ours_with_key(self) -> None:
        streams = self.backplane.streams
        await self._each(lambda number: streams.append(f"g.{number % self.groups}", DATA, KEEP, self._key(number)))

    async def usual(self) -> None:
        await self._usual(lambda number: "")

    async def usual_with_key(self) -> None:
        await self._usual(self._key)

    async def _usual(self, key_of: Any) -> None:
        shard = self.backplane._shards[0]
        digest: Any = await shard.call("SCRIPT", "LOAD", USUAL)

        def send(number: int) -> Any:
            group, key = number % self.groups, key_of(number)
            keys = (f"usual:s:{group}", f"usual:m:{group}", f"usual:r:{group}:{key}")
            arguments = (DATA, KEEP.size, int(KEEP.seconds), f"usual:{group}", 86400, "abcdefgh", 300 if key else "")
            return shard.call(b"EVALSHA", digest, 3, *keys, *arguments)

        await self._each(send)

    def _key(self, number: int) -> str:
        return f"{self.round}-{number:08d}"

    async def _each(self, send: Any) -> None:
        for begin in range(0, self.messages, IN_FLIGHT):
            await asyncio.gather(*map(send, range(begin, min(begin + IN_FLIGHT, self.messages))))

    async def cost(self, way: str) -> float:
        """Microseconds of the server's CPU for each message."""
        self.redis.command("FLUSHALL")
        self.round += 1
        cpu = self.redis.cpu()
        await getattr(self, way)()
        return (self.redis.cpu() - cpu) / self.messages * 1e6


def listen(redis: Redis, groups: int) -> socket.socket:
    """One subscriber to all groups of all ways."""
    listener = socket.create_connection(("127.0.0.1", redis.port))
    names = [f"{prefix}{group}" for prefix in ("bench:0:g.", "usual:") for group in range(groups)]
    listener.sendall(("SUBSCRIBE " + " ".join(names) + "\r\n").encode())

    def drain() -> None:
        while listener.recv(1 << 18):
            pass

    threading.Thread(target=drain, daemon=True).start()
    return listener


def times(redis: Redis) -> dict[str, tuple[int, float]]:
    """How often each command was called, and the microseconds that it took each time."""
    lines = [line.removeprefix("cmdstat_") for line in redis.command("INFO", "commandstats").splitlines()]
    pairs = (line.split(":", 1) for line in lines if ":calls=" in line)
    fields = {name: dict(field.split("=") for field in rest.split(",")) for name, rest in pairs}
    return {name: (int(found["calls"]), float(found["usec_per_call"])) for name, found in fields.items()}


async def measure(redis: Redis, rounds: int, messages: int, groups: int) -> dict[str, Any]:
    backplane = RedisBackplane(addresses([redis.url]), "bench")
    backplane.start(Events())
    listener = listen(redis, groups)
    ways = ("nothing", "publish", "ours", "usual", "ours_with_key", "usual_with_key")
    try:
        run = Ways(redis, backplane, messages, groups)
        for way in ways:
            await run.cost(way)
        costs: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds):
            for way in ways if number % 2 else reversed(ways):
                costs[way].append(await run.cost(way))
        redis.command("CONFIG", "RESETSTAT")
        await run.cost("ours")
        inside = times(redis)
    finally:
        await backplane.close()
        listener.shutdown(socket.SHUT_RDWR)
    ratios = {
        name: statistics.median(ours / usual for ours, usual in zip(costs[name], costs[f"usual{end}"], strict=True))
        for name, end in (("ours", ""), ("ours_with_key", "_with_key"))
    }
    return {
        "groups": groups,
        "cpu_us": {way: round(statistics.median(found), 2) for way, found in costs.items()},
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "inside": {name: found for name, found in inside.items() if found[0] >= messages / 10},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--redis", default="redis-server")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    results = []
    for groups in (1, 1000):
        redis = Redis(options.redis)
        try:
            results.append(found := asyncio.run(measure(redis, options.rounds, options.messages, groups)))
        finally:
            redis.stop()
        print(f"\n{options.messages} messages of {len(DATA)} B, {IN_FLIGHT} in flight, to {groups} groups in turn")
        for way, cpu in found["cpu_us"].items():
            ratio = found["ratios"].get(way)
            print(f"  {way:16} {cpu:6.2f} us of Redis" + (f", {ratio:.2f} of the usual" if ratio is not None else ""))
        print("  inside: " + ", ".join(f"{name} {us:.2f}" for name, (_, us) in found["inside"].items()))
    if options.json:
        options.json.write_text(json.dumps({"messages": options.messages, "runs": results}, indent=1))


if __name__ == "__main__":
    main()
