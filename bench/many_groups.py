"""Measure 20,000 groups with one member each in one process, as a site has that sends to each of its users.

    python bench/many_groups.py [--groups 20000] [--idle 20] [--redis redis-server]

Over Redis and over the local broker in turn, for the process and for the service: what it takes to join all groups at
once, what each group takes in memory, the CPU time of an idle minute, one message to each group, and how long the
groups take to stand again after the connection was cut. Exits with 1 if a figure is beyond its bound.
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

from layers import LAYERS, ROOT, Broker, Node, Redis

# What is shown, its unit, and the bound, which holds on a busy machine, too. The memory of a process is resident: of
# what the storm has taken, the allocator keeps about three quarters for the next one. Redis counts its own.
BOUNDS = (
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
)


def resident(process: int | str) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()


class Process(Node):
    """The process with the groups."""

    def __init__(self, layer: str, url: str, groups: int) -> None:
        self.start([sys.executable, __file__, "--process", LAYERS[layer][1], url, str(groups)])


def memory_of(service: Redis | Broker) -> int:
    if isinstance(service, Broker):
        return resident(service.process.pid)
    lines = dict(line.split(":", 1) for line in service.command("INFO", "memory").splitlines() if ":" in line)
    return int(lines["used_memory"])


def measure(service: Redis | Broker, layer: str, groups: int, idle: float) -> dict[str, float]:
    process = Process(layer, service.url, groups)
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
        cpu = service.cpu()
        sent = process.ask("send")
        figures["send_cpu"] = sent["cpu"] / groups * 1e6
        figures["send_service_cpu"] = (service.cpu() - cpu) / groups * 1e6
        figures["missing"] = groups - sent["arrived"]
        figures["again_seconds"] = process.ask("again")["seconds"]
    finally:
        process.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=20_000)
    parser.add_argument("--idle", type=float, default=20, help="seconds that stand for the idle minute")
    parser.add_argument("--redis", default="redis-server")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    results = {}
    for layer, make in (("fairway", lambda: Redis(options.redis)), ("fairway local", Broker)):
        service = make()
        try:
            results[layer] = measure(service, layer, options.groups, options.idle)
        finally:
            service.stop()
    print(f"{'':56} {'Redis':>10} {'local':>10} {'bound':>10}")
    for name, unit, bound in BOUNDS:
        print(f"{unit:56} " + " ".join(f"{each[name]:10.2f}" for each in results.values()) + f" {bound:10.2f}")
    if options.json:
        options.json.write_text(json.dumps({"groups": options.groups, "figures": results}, indent=1))
    beyond = [f"{layer}: {name}" for layer, each in results.items() for name, _, bound in BOUNDS if each[name] > bound]
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


async def run(backend: str, url: str, groups: int) -> None:
    from django.conf import settings

    settings.configure(
        CHANNEL_LAYERS={
            "default": {"BACKEND": backend, "CONFIG": {"socket": url} if url.startswith("/") else {"hosts": [url]}}
        }
    )
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    channels = [await layer.new_channel() for _ in range(groups)]
    names = [f"user.{number}" for number in range(groups)]
    print("ready", flush=True)
    while words := (await lines.readline()).decode().split():
        gc.collect()
        memory, began, used = resident("self"), time.monotonic(), cpu()
        answer: dict[str, float] = {}
        if words[0] == "join":
            await asyncio.gather(*(layer.group_add(*pair) for pair in zip(names, channels, strict=True)))
            answer["seconds"], answer["cpu"] = time.monotonic() - began, cpu() - used
            gc.collect()
            answer["memory"] = resident("self") - memory
        elif words[0] == "idle":
            await asyncio.sleep(float(words[1]))
            answer["cpu"] = cpu() - used
        elif words[0] == "send":
            for name in names:
                await layer.group_send(name, {"type": "bench.message", "text": "x" * 200})
            hearing = [asyncio.wait_for(layer.receive(channel), 30) for channel in channels]
            heard = await asyncio.gather(*hearing, return_exceptions=True)
            answer["cpu"], answer["arrived"] = cpu() - used, sum(isinstance(one, dict) for one in heard)
        else:
            await cut(layer)
            while not layer.is_up():  # noqa: ASYNC110  # layers do not notify anybody
                await asyncio.sleep(0.001)
            answer["seconds"] = time.monotonic() - began
        print(json.dumps(answer), flush=True)
    await layer.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        import uvloop

        uvloop.run(run(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        os.environ.setdefault("PYTHONPATH", str(ROOT / "src"))
        main()
