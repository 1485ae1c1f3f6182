"""Measure 20,000 groups with one member each in one process, as a site has that sends to each of its users.

    python bench/many_groups.py [groups histories presence] [--groups 20000] [--idle 20] [--redis redis-server]

Plain groups, groups with histories (the last 20 messages), and groups in which their member is tracked. Over Redis and
over the local broker in turn, for the process and for the service: what it takes to join all groups (plain ones all at
once, the others 1,000 at once), what each group takes in memory, the CPU time of an idle minute, one message to each
group, and how long the groups take to stand again after the connection was cut. What is kept of the messages in the
process and in the service counts as `kept`. Of those who are tracked, `missing` are those that are not listed
afterwards. Exits with 1 if a figure is beyond its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import ClassVar

from layers import LAYERS, ROOT, Broker, Node, Redis

# What is shown, its unit, and the bound, which holds on a busy machine, too. The memory of a process is resident: of
# what the storm has taken, the allocator keeps about three quarters for the next one. Redis counts its own.
BOUNDS = {
    "groups": (
        ("join_seconds", "s for all to join at once", 15.0),
        ("join_cpu", "µs of the process for each", 250.0),
        ("join_service_cpu", "µs of the service for each", 25.0),
        ("memory", "bytes of the process for each group, the storm included", 5000.0),
        ("service_memory", "bytes of the service for each group", 500.0),
        ("idle_cpu", "ms of the process in an idle minute", 300.0),
        ("idle_service_cpu", "ms of the service in an idle minute", 300.0),
        ("send_cpu", "µs of the process to send to and hear each", 300.0),
        ("send_service_cpu", "µs of the service for each message", 30.0),
        ("missing", "messages that did not arrive", 0.0),
        ("again_seconds", "s until all groups stand again", 2.0),
    ),
    "histories": (
        ("join_seconds", "s for all to join at once", 30.0),
        ("join_cpu", "µs of the process for each", 600.0),
        ("join_service_cpu", "µs of the service for each", 60.0),
        ("memory", "bytes of the process for each group, the storm included", 5000.0),
        ("service_memory", "bytes of the service for each group", 2000.0),
        ("idle_cpu", "ms of the process in an idle minute", 600.0),
        ("idle_service_cpu", "ms of the service in an idle minute", 600.0),
        ("send_cpu", "µs of the process to keep, send to and hear each", 600.0),
        ("send_service_cpu", "µs of the service for each message", 100.0),
        ("kept", "bytes of the process for each message of 200 B that is kept", 6000.0),
        ("service_kept", "bytes of the service for each", 2000.0),
        ("missing", "messages that did not arrive", 0.0),
        ("again_seconds", "s until all groups stand again", 3.0),
    ),
    "presence": (
        ("join_seconds", "s for all to be tracked at once", 30.0),
        ("join_cpu", "µs of the process for each", 600.0),
        ("join_service_cpu", "µs of the service for each", 30.0),
        ("memory", "bytes of the process for each group, the storm included", 5000.0),
        ("service_memory", "bytes of the service for each group", 900.0),
        ("idle_cpu", "ms of the process in an idle minute", 300.0),
        ("idle_service_cpu", "ms of the service in an idle minute", 300.0),
        ("send_cpu", "µs of the process to list each", 300.0),
        ("send_service_cpu", "µs of the service to list each", 60.0),
        ("missing", "who is not listed", 0.0),
        ("again_seconds", "s until the connection stands again", 2.0),
    ),
}
SERVICES = {"fairway": "Redis", "fairway local": "local"}
SETTLED, PATIENCE = 0.005, 60
"""Seconds of CPU in one second below which a storm is over, and how many seconds are given to that."""


def resident(process: int | str) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()


class Process(Node):
    """The process with the groups."""

    def __init__(self, layer: str, url: str, kind: str, groups: int) -> None:
        self.start([sys.executable, __file__, "--process", LAYERS[layer][1], url, kind, str(groups)])


def memory_of(service: Redis | Broker) -> int:
    if isinstance(service, Broker):
        return resident(service.process.pid)
    lines = dict(line.split(":", 1) for line in service.command("INFO", "memory").splitlines() if ":" in line)
    return int(lines["used_memory"])


def measure(service: Redis | Broker, layer: str, kind: str, groups: int, idle: float) -> dict[str, float]:
    process = Process(layer, service.url, kind, groups)
    try:
        before, cpu = memory_of(service), service.cpu()
        joined = process.ask("join")
        figures = {
            "join_seconds": joined["seconds"],
            "join_cpu": joined["cpu"] / groups * 1e6,
            "join_service_cpu": (service.cpu() - cpu) / groups * 1e6,
            "memory": joined["memory"] / groups,
            "service_memory": (memory_of(service) - before) / groups,
        }
        cpu = service.cpu()
        figures["idle_cpu"] = process.ask(f"idle {idle}")["cpu"] / idle * 60e3
        figures["idle_service_cpu"] = (service.cpu() - cpu) / idle * 60e3
        before, cpu = memory_of(service), service.cpu()
        sent = process.ask("send")
        figures["send_cpu"] = sent["cpu"] / groups * 1e6
        figures["send_service_cpu"] = (service.cpu() - cpu) / groups * 1e6
        figures["kept"] = sent["memory"] / groups
        figures["service_kept"] = (memory_of(service) - before) / groups
        figures["missing"] = groups - sent["arrived"]
        figures["again_seconds"] = process.ask("again")["seconds"]
    finally:
        process.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(BOUNDS), help=" ".join(BOUNDS))
    parser.add_argument("--groups", type=int, default=20_000)
    parser.add_argument("--idle", type=float, default=20, help="seconds that stand for the idle minute")
    parser.add_argument("--redis", default="redis-server")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    beyond = []
    for kind in options.kinds:
        found = results[kind] = {}
        for layer, name in SERVICES.items():
            service = Redis(options.redis) if name == "Redis" else Broker()
            try:
                found[name] = measure(service, layer, kind, options.groups, options.idle)
            finally:
                service.stop()
        print(f"\n{kind:60} {'Redis':>10} {'local':>10} {'bound':>10}")
        for name, unit, bound in BOUNDS[kind]:
            print(f"{unit:60} " + " ".join(f"{each[name]:10.2f}" for each in found.values()) + f" {bound:10.2f}")
            beyond += [f"{kind} over {layer}: {name}" for layer, each in found.items() if each[name] > bound]
    if options.json:
        options.json.write_text(json.dumps({"groups": options.groups, "figures": results}, indent=1))
    if beyond:
        raise SystemExit(f"beyond the bound: {', '.join(beyond)}")


# The process with the groups ----------------------------------------------------------------------------------


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def cut(layer) -> None:
    """End the connection, as a cable does. From this moment on the layer is down."""
    backplane = layer.node.home.session.backplane
    for kept in [backplane._kept] if hasattr(backplane, "_kept") else [shard.kept for shard in backplane._shards]:
        link = kept.link
        link.abort(ConnectionError("cut by the benchmark"))
        await asyncio.wait([link.ended])


async def settled() -> None:
    """What follows a storm is over: others have been told, and timers have run."""
    for _ in range(PATIENCE):
        before = cpu()
        await asyncio.sleep(1)
        if cpu() - before < SETTLED:
            break


async def gathered(calls: list, at_once: int = 1000) -> None:
    """Wait for all, with so many at once."""
    for begin in range(0, len(calls), at_once):
        await asyncio.gather(*calls[begin : begin + at_once])


class Groups:
    """Plain groups, each with a member."""

    options: ClassVar[dict[str, object]] = {}

    def __init__(self, layer, names: list[str], channels: list[str]) -> None:
        self.layer, self.names, self.channels = layer, names, channels

    async def join(self) -> None:
        pairs = zip(self.names, self.channels, strict=True)
        await gathered([self.layer.group_add(name, channel) for name, channel in pairs], len(self.names))

    async def use(self) -> int:
        """Use each group once. Returns for how many that has worked."""
        for name in self.names:
            await self.layer.group_send(name, {"type": "bench.message", "text": "x" * 200})
        return await self.heard()

    async def heard(self) -> int:
        heard = 0
        for begin in range(0, len(self.channels), 1000):
            hearing = [asyncio.wait_for(self.layer.receive(one), 30) for one in self.channels[begin : begin + 1000]]
            heard += sum(isinstance(one, dict) for one in await asyncio.gather(*hearing, return_exceptions=True))
        return heard


class Histories(Groups):
    options: ClassVar = {"history": {"*": {"size": 20, "seconds": 600}}}

    async def join(self) -> None:
        pairs = zip(self.names, self.channels, strict=True)
        await gathered([self.layer.group_join(name, channel) for name, channel in pairs])

    async def use(self) -> int:
        for begin in range(0, len(self.names), 200):
            event = {"type": "bench.message", "text": "x" * 200}
            await gathered([self.layer.group_send(name, event) for name in self.names[begin : begin + 200]])
        return await self.heard()


class Tracked(Groups):
    async def join(self) -> None:
        track = self.layer.presence.track
        await gathered(
            [
                track(name, channel, {"name": "Somebody"}, key=str(number))
                for number, (name, channel) in enumerate(zip(self.names, self.channels, strict=True))
            ]
        )

    async def use(self) -> int:
        listed = 0
        for begin in range(0, len(self.names), 200):
            calls = [self.layer.presence.members(name) for name in self.names[begin : begin + 200]]
            listed += sum(map(len, await asyncio.gather(*calls)))
        return listed


KINDS = {"groups": Groups, "histories": Histories, "presence": Tracked}


async def run(backend: str, url: str, kind: str, count: int) -> None:
    from django.conf import settings

    place = {"socket": url} if url.startswith("/") else {"hosts": [url]}
    config = {**place, **KINDS[kind].options}
    settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": backend, "CONFIG": config}})
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    channels = [await layer.new_channel() for _ in range(count)]
    groups = KINDS[kind](layer, [f"user.{number}" for number in range(count)], channels)
    print("ready", flush=True)
    while words := (await lines.readline()).decode().split():
        gc.collect()
        memory, began, used = resident("self"), time.monotonic(), cpu()
        answer: dict[str, float] = {}
        if words[0] == "join":
            await groups.join()
            answer["seconds"] = time.monotonic() - began
            await settled()
        elif words[0] == "idle":
            await asyncio.sleep(float(words[1]))
        elif words[0] == "send":
            answer["arrived"] = await groups.use()
        else:
            await cut(layer)
            while not layer.is_up():  # noqa: ASYNC110  # layers do not notify anybody
                await asyncio.sleep(0.001)
            answer["seconds"] = time.monotonic() - began
        answer["cpu"] = cpu() - used
        gc.collect()
        answer["memory"] = resident("self") - memory
        print(json.dumps(answer), flush=True)
    await layer.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        import uvloop

        uvloop.run(run(*sys.argv[2:5], int(sys.argv[5])))
    else:
        os.environ.setdefault("PYTHONPATH", str(ROOT / "src"))
        main()
