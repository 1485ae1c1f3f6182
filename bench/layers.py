"""Measure channel layers between processes: CPU time of sender, service and receivers for each delivery.

    python bench/layers.py [--rounds 5] [--members 50] [--readers] [--bursts 20] [--sends 20] [--redis redis-server]

Two processes with so many members each receive what a third one sends in bursts. Ours and channels_redis' two layers
take turns, in fresh processes over one Redis, so that whatever else the machine does meets all of them. What is printed
is the median over the rounds, and how many times ours the others need.

    python bench/layers.py --scenario local|broadcast|sync

`local`: one sender and four processes with a member each, over the local broker and over Redis in turn. `broadcast`: to
1,000 sockets of each of two servers over Redis, and to 1,000 of one server over the layer in memory. Both say the CPU
time of all processes together, the service included, for each delivery, and the ratio. `sync`: a process without an
event loop, as a WSGI worker is, sends to one member by `fairway.layers.sync`, and by `async_to_sync` over
channels_redis. The CPU time of the process that sends and that of Redis stand apart, for each send.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REQUIREMENTS = ["channels==4.3.2", "channels_redis==4.3.0", "redis==7.4.1", "hiredis==3.5.0", "uvloop==0.23.0"]
ENVIRONMENT = peers.CACHE / "layers"

LAYERS = {
    "fairway": (Path(sys.executable), "fairway.layers.redis.RedisChannelLayer"),
    "fairway local": (Path(sys.executable), "fairway.layers.local.LocalChannelLayer"),
    "fairway memory": (Path(sys.executable), "channels.layers.InMemoryChannelLayer"),
    "channels_redis core": (ENVIRONMENT / "bin/python", "channels_redis.core.RedisChannelLayer"),
    "channels_redis pubsub": (ENVIRONMENT / "bin/python", "channels_redis.pubsub.RedisPubSubChannelLayer"),
}

COMPARED = ["fairway", "channels_redis core", "channels_redis pubsub"]


class Redis:
    """A server of its own, and what it says of itself."""

    def __init__(self, binary: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory(prefix="fairway-bench-")
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder.name]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                self._socket = socket.create_connection(("127.0.0.1", self.port))
                break
            except OSError:
                time.sleep(0.05)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._socket.close()
        self.process.terminate()
        self.process.wait()
        self._folder.cleanup()

    def command(self, *words: str) -> str:
        self._socket.sendall((" ".join(words) + "\r\n").encode())
        data = self._socket.recv(65536)
        if data[:1] == b"$":
            head, _, rest = data.partition(b"\r\n")
            while len(rest) < int(head[1:]) + 2:
                rest += self._socket.recv(65536)
            data = rest
        return data.decode()

    def cpu(self) -> float:
        lines = dict(line.split(":", 1) for line in self.command("INFO", "cpu").splitlines() if ":" in line)
        return float(lines["used_cpu_sys"]) + float(lines["used_cpu_user"])

    def calls(self) -> dict[str, int]:
        lines = self.command("INFO", "commandstats").splitlines()
        pairs = (line.removeprefix("cmdstat_").split(":calls=") for line in lines if line.startswith("cmdstat_"))
        return {name: int(rest.split(",")[0]) for name, rest in pairs}


class Broker:
    """A local one, with the CPU time that the kernel has counted for it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fairway-bench-")
        self.url = f"{self._folder.name}/broker.sock"
        command = [sys.executable, "-m", "fairway.layers.local", "--socket", self.url]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        self.process.stderr.readline()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._folder.cleanup()

    def cpu(self) -> float:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


class Nothing:
    """The service of the layer in memory."""

    url = "-"

    def cpu(self) -> float:
        return 0.0


class Node:
    def __init__(self, layer: str, role: str, url: str, members: int, reading: str) -> None:
        python, backend = LAYERS[layer]
        self.start([python, HERE / "apps/layer_node.py", role, backend, url, str(members), reading])

    def start(self, command: list[str | Path]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.wait_for("ready")

    def wait_for(self, word: str) -> None:
        line = self.process.stdout.readline().strip()
        if line != word:
            raise SystemExit(f"a process of the benchmark said {line!r}, not {word!r}")

    def ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


class SyncSender(Node):
    """A process without an event loop."""

    def __init__(self, layer: str, url: str) -> None:
        python, backend = LAYERS[layer]
        way = "sync" if layer.startswith("fairway") else "async_to_sync"
        self.start([python, HERE / "apps/sync_sender.py", way, backend, url])


def send_without_a_loop(redis: Redis, rounds: int, sends: int = 300) -> None:
    """Each side has a receiver with a member, and a sender; they take turns, in blocks of so many sends."""
    ours = COMPARED[0]
    receivers = [Node(layer, "receive", redis.url, 1, "consumers") for layer in COMPARED]
    senders = {layer: SyncSender(layer, redis.url) for layer in COMPARED}
    figures: list[dict[str, tuple[float, float]]] = []
    try:
        for number in range(rounds):
            figures.append({})
            for layer in COMPARED if number % 2 == 0 else COMPARED[::-1]:
                service = redis.cpu()
                cpu = senders[layer].ask(f"send {sends}")["cpu"]
                figures[-1][layer] = cpu / sends * 1e6, (redis.cpu() - service) / sends * 1e6
    finally:
        for node in (*senders.values(), *receivers):
            node.stop()
    print(f"{'CPU in µs for each send':24} {'sender':>8} {'Redis':>8}")
    for layer in COMPARED:
        sender, service = (statistics.median(each[layer][index] for each in figures) for index in (0, 1))
        print(f"{layer:24} {sender:8.1f} {service:8.1f}")
    for layer in COMPARED[1:]:
        for index, words in enumerate(("sender", "Redis")):
            ratios = sorted(each[layer][index] / each[ours][index] for each in figures)
            middle = statistics.median(ratios)
            print(f"{layer}, {words}: {middle:.1f} times ours ({ratios[0]:.1f} to {ratios[-1]:.1f})")


def together(service: Redis | Broker | Nothing, layer: str, roles: list[str], members: int, sends: int) -> float:
    """CPU time of all of it for each delivery, in µs. The last of the processes sends."""
    nodes = [Node(layer, role, service.url, members, "consumers") for role in roles]
    bursts = 20
    try:
        nodes[-1].ask(f"send 2 {sends} 0.05")
        time.sleep(0.3)
        for node in nodes:
            node.ask("begin")
        before = service.cpu()
        sending = nodes[-1].ask(f"send {bursts} {sends} 0.1")
        time.sleep(0.5)
        used = service.cpu() - before + sending["cpu"]
        ends = [node.ask("end") for node in nodes[:-1]]
        used += sum(end["cpu"] for end in ends)
        if roles[-1] == "send":
            arrived = sum(end["deliveries"] for end in ends)
            if arrived != bursts * sends * len(ends) * members:
                print(f"{layer}: {arrived} deliveries of {bursts * sends * len(ends) * members}")
        return used / (bursts * sends * sum(role != "send" for role in roles) * members) * 1e6
    finally:
        for node in nodes:
            node.stop()


def compare(redis: Redis, scenario: str, rounds: int) -> None:
    if scenario == "local":
        other, words = "fairway local", "local, of Redis"
        roles, members, sends = ["receive"] * 4 + ["send"], 1, 100
        sides = {"fairway": roles, other: roles}
    else:
        other, words = "fairway", "Redis and two servers, of one in memory"
        members, sends = 1000, 5
        sides = {"fairway memory": ["serve"], other: ["serve", "serve"]}
    broker = Broker()
    services = {"fairway": redis, "fairway local": broker, "fairway memory": Nothing()}
    figures = []
    try:
        for number in range(rounds):
            order = list(sides) if number % 2 == 0 else list(reversed(sides))
            figures.append({layer: together(services[layer], layer, sides[layer], members, sends) for layer in order})
            print({layer: round(value, 3) for layer, value in figures[-1].items()}, flush=True)
    finally:
        broker.stop()
    base = next(iter(sides))
    ratios = sorted(each[other] / each[base] for each in figures)
    lowest = {layer: min(each[layer] for each in figures) for layer in sides}
    print(f"{words}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); "
          f"of the lowest {lowest[other] / lowest[base]:.2f}")  # fmt: skip


def measure(redis: Redis, layer: str, options: argparse.Namespace) -> dict:
    redis.command("FLUSHALL")
    url = redis.url
    reading = "readers" if options.readers else "consumers"
    receivers = [Node(layer, "receive", url, options.members, reading) for _ in range(2)]
    sender = Node(layer, "send", url, 0, reading)
    try:
        sender.ask("send 2 5 0.05")
        time.sleep(0.3)
        redis.command("CONFIG", "RESETSTAT")
        for node in receivers:
            node.ask("begin")
        service = redis.cpu()
        sending = sender.ask(f"send {options.bursts} {options.sends} {options.pause}")
        time.sleep(0.5)
        service = redis.cpu() - service
        calls = redis.calls()
        received = [node.ask("end") for node in receivers]
    finally:
        for node in (*receivers, sender):
            node.stop()
    sends = options.bursts * options.sends
    arrived = sum(answer["deliveries"] for answer in received)
    reading_cpu = sum(answer["cpu"] for answer in received)
    return {
        "sender": sending["cpu"] / sends * 1e6,
        "service": service / sends * 1e6,
        "receivers": reading_cpu / max(1, arrived) * 1e6,
        "all": (sending["cpu"] + service + reading_cpu) / max(1, arrived) * 1e6,
        "arrived": arrived / (sends * 2 * options.members),
        "publishes": calls.get("publish", 0) / sends,
        "commands": (sum(calls.values()) - calls.get("info", 0)) / sends,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--members", type=int, default=50, help="in each of the two processes")
    parser.add_argument("--bursts", type=int, default=20)
    parser.add_argument("--sends", type=int, default=20, help="in a burst")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds after each burst")
    parser.add_argument("--readers", action="store_true", help="members call receive() instead of being consumers")
    parser.add_argument("--redis", default="redis-server")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument(
        "--scenario", choices=("channels_redis", "local", "broadcast", "sync"), default="channels_redis"
    )
    options = parser.parse_args()
    if options.scenario in ("local", "broadcast"):
        redis = Redis(options.redis)
        try:
            compare(redis, options.scenario, options.rounds)
        finally:
            redis.stop()
        return
    peers.CACHE.mkdir(exist_ok=True)
    peers.make_environment(ENVIRONMENT, REQUIREMENTS)
    redis = Redis(options.redis)
    rounds = []
    try:
        if options.scenario == "sync":
            send_without_a_loop(redis, options.rounds)
            return
        for number in range(options.rounds):
            order = COMPARED if number % 2 == 0 else COMPARED[::-1]
            rounds.append({layer: measure(redis, layer, options) for layer in order})
    finally:
        redis.stop()
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), "rounds": rounds}, indent=1, default=str))
    report(rounds)


def report(rounds: list[dict]) -> None:
    print(
        f"{'CPU in µs':24} {'sender':>8} {'service':>8} {'receivers':>10} {'all':>8} {'arrived':>8} {'publishes':>10}"
    )
    print(f"{'':24} {'/send':>8} {'/send':>8} {'/delivery':>10} {'/delivery':>8} {'':>6} {'/send':>10} {'commands':>9}")
    for layer in COMPARED:
        middle = {key: statistics.median(each[layer][key] for each in rounds) for key in rounds[0][layer]}
        print(
            f"{layer:24} {middle['sender']:8.1f} {middle['service']:8.1f} {middle['receivers']:10.2f}"
            f" {middle['all']:8.2f} {middle['arrived']:8.1%} {middle['publishes']:10.2f} {middle['commands']:8.2f}"
        )
    for layer in COMPARED[1:]:
        ratios = sorted(each[layer]["all"] / each["fairway"]["all"] for each in rounds)
        print(f"{layer}: {statistics.median(ratios):.1f} times ours ({ratios[0]:.1f} to {ratios[-1]:.1f})")


if __name__ == "__main__":
    main()
