"""Measure what keeping and publishing a message costs Redis, against a script that does it the usual way.

    python bench/keep.py [--rounds 7] [--messages 20000] [--redis redis-server] [--centrifugo centrifugo] [--json FILE]

*Ours* is a function (a script below Redis 7) that appends all messages of one pass of the event loop: an epoch that
ends with its server, an offset, the message with its time, a count of changes, and the message with its position to
subscribers. *Usual* is a script that we have written from what Centrifugo documents about its broker: a hash with
epoch and offset, a stream with a bound, both given another time of expiry with each message, and the message with
offset and epoch in front to subscribers. It is called once for each message, as there. Its times are whole seconds, and
it does not notice that another server has taken over. With `--centrifugo` (`go install
github.com/centrifugal/centrifugo/v6@v6.9.1`) Centrifugo itself takes its turn: it publishes batches over its HTTP API,
with the same bounds.

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
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from fairway.layers.backplane import Keep
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from layers import Redis

DATA = b"x" * 256
KEEP = Keep(100, 300)
IN_FLIGHT = 100
PREFIXES = ("bench:0:g.", "usual:", "centrifugo.client.")

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


class Centrifugo:
    """A server of its own over the same Redis."""

    def __init__(self, binary: str, redis: Redis) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory(prefix="fairway-bench-")
        history = {"history_size": KEEP.size, "history_ttl": f"{KEEP.seconds:.0f}s", "force_recovery": True}
        settings = {
            "engine": {"type": "redis", "redis": {"address": redis.url}},
            "channel": {"without_namespace": history},
            "http_api": {"insecure": True},
            "http_server": {"address": "127.0.0.1", "port": self.port},
        }
        place = Path(self._folder.name, "config.json")
        place.write_text(json.dumps(settings))
        self.process = subprocess.Popen([binary, "-c", place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                self._ask("info", {})
                break
            except OSError:
                time.sleep(0.05)

    def publish(self, groups: list[int]) -> None:
        commands = [{"publish": {"channel": str(group), "data": DATA.decode()}} for group in groups]
        replies = self._ask("batch", {"commands": commands, "parallel": True})["replies"]
        assert all("publish" in reply for reply in replies), replies[0]

    def _ask(self, method: str, body: Any) -> Any:
        url, headers = f"http://127.0.0.1:{self.port}/api/{method}", {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
            return json.loads(answer.read())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._folder.cleanup()


class Ways:
    """Sends messages in one way or another, to some groups in turn."""

    def __init__(self, redis: Redis, backplane: RedisBackplane, messages: int, groups: int) -> None:
        self.redis = redis
        self.backplane = backplane
        self.messages = messages
        self.groups = groups
        self.centrifugo_server: Centrifugo | None = None
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

    async def centrifugo(self) -> None:
        server = self.centrifugo_server
        for begin in range(0, self.messages, IN_FLIGHT):
            groups = [number % self.groups for number in range(begin, begin + IN_FLIGHT)]
            await asyncio.to_thread(server.publish, groups)

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
    names = [f"{prefix}{group}" for prefix in PREFIXES for group in range(groups)]
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


async def measure(redis: Redis, rounds: int, messages: int, groups: int, centrifugo: str) -> dict[str, Any]:
    backplane = RedisBackplane(addresses([redis.url]), "bench")
    backplane.start(Events())
    listener = listen(redis, groups)
    ways = ["nothing", "publish", "ours", "usual", "ours_with_key", "usual_with_key"]
    run = Ways(redis, backplane, messages, groups)
    try:
        if centrifugo:
            ways.append("centrifugo")
            run.centrifugo_server = Centrifugo(centrifugo, redis)
        for way in ways:
            await run.cost(way)
        costs: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds):
            for way in ways if number % 2 else ways[::-1]:
                costs[way].append(await run.cost(way))
        redis.command("CONFIG", "RESETSTAT")
        await run.cost("ours")
        inside = times(redis)
    finally:
        if run.centrifugo_server is not None:
            run.centrifugo_server.stop()
        await backplane.close()
        listener.shutdown(socket.SHUT_RDWR)
    compared = {"ours": ("usual", "centrifugo"), "ours_with_key": ("usual_with_key",)}
    ratios = {
        f"{name} / {other}": statistics.median(one / two for one, two in zip(costs[name], costs[other], strict=True))
        for name, others in compared.items()
        for other in others
        if other in costs
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
    parser.add_argument("--centrifugo", default="", help="its binary")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    results = []
    for groups in (1, 1000):
        redis = Redis(options.redis)
        try:
            results.append(
                found := asyncio.run(measure(redis, options.rounds, options.messages, groups, options.centrifugo))
            )
        finally:
            redis.stop()
        print(f"\n{options.messages} messages of {len(DATA)} B, {IN_FLIGHT} in flight, to {groups} groups in turn")
        for way, cpu in found["cpu_us"].items():
            print(f"  {way:16} {cpu:6.2f} us of Redis")
        print("  ratios: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in found["ratios"].items()))
        print("  inside: " + ", ".join(f"{name} {us:.2f}" for name, (_, us) in found["inside"].items()))
    if options.json:
        options.json.write_text(json.dumps({"messages": options.messages, "runs": results}, indent=1))


if __name__ == "__main__":
    main()
