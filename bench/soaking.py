"""What the soaks of a server with several workers share: one is killed every minute, and memory has to stay flat.

A `Soaked` is one server, with its layer and a load. Subclasses say what the load is, what happens every minute, and
what is checked beside memory. `main` runs one for each layer, all at the same time, and writes what was found.

The worker that is never killed, and the supervisor, nursery, broker and Redis, have to keep their memory once they have
warmed up; of the workers that are killed, later ones may not need more than earlier ones. At the end the clients leave,
and what is left in each process is compared with what there was before they came. Then the server is stopped, and
nothing may remain.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import uvloop

import processes
from fairway.server.management.address import parsed
from fairway.server.management.terminal import ask
from servers import end_on_sigterm
from soak_site import Site, what_is_left
from workers import RESULTS, ROOT, served

GROWTH, GROWTH_KB = 0.05, 1024
"""What memory may grow by: a share of it, or so many KB, whichever is more."""

SETTLING = 20.0
BROKER_STAYS = 45.0


class Check:
    """A question with its answer, and the figures that it rests on."""

    def __init__(self, name: str, holds: bool, figures: Any):
        self.name = name
        self.holds = holds
        self.figures = figures

    def __str__(self) -> str:
        return f"{'ok  ' if self.holds else 'FAIL'} {self.name}: {self.figures}"


class Soaked:
    """A server with its layer, and its clients."""

    app: str
    """The module of the application, in `apps/`."""

    config: Mapping[str, Any] = MappingProxyType({})
    """Further options of the layer."""

    warm_up = 300.0
    """Seconds from which on memory is compared."""

    redis: Any = None
    """The server of Redis, if that is the layer."""

    socket = ""
    """Where the local broker listens, if that is the layer."""

    def __init__(self, site: Site, supervisor: int, management: str, service: int | None, options):
        self.name = site.name
        self.site = site
        self.supervisor = supervisor
        self.management = parsed(management)
        self.service = service
        self.options = options
        self.began = time.monotonic()
        self.samples: list[dict[str, Any]] = []
        self.outages: list[float] = []
        self.seen = {supervisor}

    @staticmethod
    def site_at(name: str, port: int, rate: float) -> Site:
        """The server as its clients will see it."""
        raise NotImplementedError

    async def load(self) -> None:
        """All clients, until it is cancelled."""
        raise NotImplementedError

    async def disturb(self, seconds: float) -> None:
        """What happens in each of these spans of time: in the end, a worker is killed."""
        await asyncio.sleep(seconds)
        await self.kill_one()

    def own_checks(self) -> list[Check]:
        """What is asked of the load."""
        raise NotImplementedError

    async def checks_at_the_end(self) -> list[Check]:
        """What is asked once the clients have left."""
        return []

    def status(self) -> dict[str, Any]:
        return dict(ask(self.management, self.name))

    def ready(self) -> dict[int, dict[str, Any]]:
        """The workers that serve, by process."""
        return {one["pid"]: one for one in self.status()["processes"] if one["state"] == "ready" and one["figures"]}

    async def all_ready(self, seconds: float) -> dict[int, dict[str, Any]]:
        deadline = time.monotonic() + seconds
        while len(found := self.ready()) < self.options.workers:
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: only {len(found)} workers are ready")
            await asyncio.sleep(0.1)
        return found

    async def run(self) -> list[Check]:
        workers = await self.all_ready(30)
        self.veteran = min(workers)
        before = await self.quiet()
        clients = asyncio.create_task(self.load())
        end = self.began + 60 * self.options.minutes
        try:
            while time.monotonic() + self.options.kill_every <= end and not clients.done():
                await self.disturb(self.options.kill_every)
            await asyncio.sleep(max(0.0, end - time.monotonic()))
        finally:
            ended_by_itself = clients.done()
            clients.cancel()
            await asyncio.wait({clients}, timeout=SETTLING)
        if ended_by_itself or not clients.done():
            self.site.fault("the load has ended by itself" if ended_by_itself else "the load does not end")
        self.sample()
        left = await self.checks_at_the_end()
        return [*self.checks(), *left, *self.checks_of_what_is_left(before, await self.quiet())]

    async def kill_one(self) -> None:
        workers = await self.all_ready(30)
        self.sample()
        victim = max((pid for pid in workers if pid != self.veteran), key=lambda pid: workers[pid]["uptime"])
        self.site.kills(victim)
        at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        while victim in self.ready():  # noqa: ASYNC110  # nobody tells us
            await asyncio.sleep(0.02)
        await self.all_ready(30)
        self.outages.append(time.monotonic() - at)

    def members(self) -> dict[int, str]:
        """Every process of the server, and of its layer, with its part."""
        workers = self.ready()
        parts = {pid: "worker" for pid in processes.tree(self.supervisor) if pid in workers}
        parts |= {pid: "nursery" for pid in processes.tree(self.supervisor) if pid not in workers}
        parts |= {self.veteran: "veteran", self.supervisor: "supervisor"}
        if service := self.service or broker_of(self.socket):
            parts[service] = self.name
        return parts

    def sample(self) -> None:
        workers = self.ready()
        parts = self.members()
        self.seen |= set(parts)
        found = [
            {
                "part": part,
                "pid": pid,
                "kb": processes.written_kb_of(pid),
                "descriptors": processes.descriptors_of(pid),
                "threads": processes.threads_of(pid),
                "uptime": workers.get(pid, {}).get("uptime"),
            }
            for pid, part in parts.items()
        ]
        seconds = time.monotonic() - self.began
        cpu = processes.cpu_seconds(self.supervisor)
        self.samples.append({"seconds": seconds, "cpu": cpu, "processes": found})
        kb = {part: max(one["kb"] for one in found if one["part"] == part) for part in dict.fromkeys(parts.values())}
        print(
            f"{self.name:<6}{seconds:6.0f} s  "
            + "  ".join(f"{part} {kb[part] / 1024:.1f} MB" for part in sorted(kb))
            + f"  {sum(self.site.counts.values()):,} events, {len(self.site.faults)} faults",
            flush=True,
        )

    async def quiet(self) -> dict[int, dict[str, int]]:
        """What there is in each worker once nobody is connected and nothing has changed for a while."""
        workers, found, deadline = self.options.workers, {}, time.monotonic() + SETTLING
        while time.monotonic() < deadline:
            last, found = found, await what_is_left(self.site, workers)
            if last == found and all(sum(one["figures"]["connections"].values()) == 0 for one in self.ready().values()):
                break
            await asyncio.sleep(1.5)
        for pid, one in self.ready().items():
            figures = one["figures"]
            found[pid] |= {
                "descriptors": processes.descriptors_of(pid),
                "connections": sum(figures["connections"].values()),
                "running": figures["tasks"],
                "memberships": figures["counters"].get("layers", {}).get("memberships", 0),
            }
        return found

    # Verdict ----------------------------------------------------------------------------------------------------

    def checks(self) -> list[Check]:
        found = [
            Check("no message lost, doubled or out of order, no other fault", not self.site.faults, self.site.faults),
            *self.own_checks(),
            Check(
                "a killed worker is replaced within 5 s, as a rule",
                bool(self.outages) and statistics.median(self.outages) < 5.0,
                [round(one, 2) for one in self.outages],
            ),
        ]
        late = [one for one in self.samples if one["seconds"] >= self.warm_up]
        if len(late) < 6:
            return found  # too short to speak of memory
        third = len(late) // 3
        for part in ("supervisor", "nursery", "veteran", "worker", self.name):
            for what in ("kb", "descriptors", "threads"):
                first, last = (self.typical(half, part, what) for half in (late[:third], late[-third:]))
                may_be = max(first * (1 + GROWTH), first + (GROWTH_KB if what == "kb" else 2))
                found.append(Check(f"{part}: {what} as before", last <= may_be, f"{first:.0f} then {last:.0f}"))
        return found

    def typical(self, samples: list[dict[str, Any]], part: str, what: str) -> float:
        """The median. Of workers that are killed, only those that have served for a while: young ones still grow."""
        least = 1.5 * self.options.kill_every if part == "worker" else 0.0
        return statistics.median(
            one[what]
            for sample in samples
            for one in sample["processes"]
            if one["part"] == part and (one["uptime"] or 0.0) >= least
        )

    def checks_of_what_is_left(self, before: dict[int, dict[str, int]], after: dict[int, dict[str, int]]):
        for name in ("tasks", "threads", "descriptors", "connections", "running", "memberships"):
            most_before = max(one[name] for one in before.values())
            values = [one[name] for one in after.values()]
            # The first thread pool of a process stays, and so does what it has open.
            may_be = most_before + {"tasks": 2, "threads": 40, "descriptors": 4}.get(name, 0)
            figures = f"{most_before} before, {values}"
            if name == "tasks" and max(values) > may_be:
                figures += f": {max((one['kinds'] for one in after.values()), key=len)}"
            yield Check(f"{name} after the clients have left", max(values) <= may_be, figures)


def broker_of(socket: str) -> int | None:
    """The process of the local broker that listens there."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes()
            if b"fairway.layers.local" in words and socket.encode() in words:
                return int(path.parent.name)
    return None


@contextlib.contextmanager
def soaked(kind: type[Soaked], name: str, options) -> Iterator[Soaked]:
    """A server that is ready, over the layer of this name."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"soak-{name}-")))
        service = redis = None
        if name == "redis":
            from tests.services.redis import redis_server

            redis = stack.enter_context(redis_server())
            with redis.client() as client:
                service = client.info()["process_id"]
            backend, config = "redis.RedisChannelLayer", {"hosts": [redis.url]}
        else:
            (directory / "broker").mkdir(mode=0o700)
            backend, config = "local.LocalChannelLayer", {"socket": str(directory / "broker" / "broker.sock")}
        layer = {"BACKEND": f"fairway.layers.{backend}", "CONFIG": {**config, **kind.config}}
        environment = {"SOAK_LAYER": json.dumps(layer)}
        management = f"unix:{directory}/management"
        apps = ROOT / "bench" / "apps"
        process, port = stack.enter_context(
            served(
                directory, f"{kind.app}:application", options.workers, apps,
                arguments=["--management", management], environment=environment,
            )
        )  # fmt: skip
        one = kind(kind.site_at(name, port, options.rate), process.pid, management, service, options)
        one.redis = redis
        one.socket = config.get("socket", "")
        yield one
        log = (directory / "log").read_text()
        one.log = [line for line in log.splitlines() if "SIGKILL" not in line]


def remaining(one: Soaked) -> Check:
    """Whether a process of the server is still there. A local broker stays for half a minute."""
    deadline = time.monotonic() + BROKER_STAYS
    while time.monotonic() < deadline and (found := [pid for pid in one.seen if Path(f"/proc/{pid}").exists()]):
        time.sleep(0.5)
    return Check("no process remains", not found, found)


async def both(all_of_them: list[Soaked]) -> list[list[Check]]:
    return await asyncio.gather(*(one.run() for one in all_of_them))


def main(kind: type[Soaked], description: str, minutes: float, prefix: str) -> int:
    """Run one soak of this kind for each layer that the command line names. Returns the exit code."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--kill-every", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=1.0, help="multiplies how often everything happens")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--layers", nargs="+", choices=("local", "redis"), default=["local", "redis"])
    parser.add_argument("--out", default=time.strftime(f"{prefix}-%Y-%m-%d"))
    options = parser.parse_args()
    end_on_sigterm()
    sys.path.insert(0, str(ROOT))
    began, cpu = time.monotonic(), time.process_time()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(soaked(kind, name, options)) for name in options.layers]
        found = uvloop.run(both(servers))
        shares = {one.name: one.samples[-1]["cpu"] / one.samples[-1]["seconds"] for one in servers}
        own = (time.process_time() - cpu) / (time.monotonic() - began)
    document: dict[str, Any] = {**vars(options), "date": time.strftime("%Y-%m-%d %H:%M"), "share_of_a_core": shares}
    document["share_of_the_clients"] = own
    verdict = True
    for one, checks in zip(servers, found, strict=True):
        checks.append(remaining(one))
        print(f"\n{one.name}: {shares[one.name]:.2f} of a core", *checks, sep="\n  ")
        verdict = verdict and all(check.holds for check in checks)
        document[one.name] = {
            "checks": [vars(check) for check in checks],
            "samples": one.samples,
            "log": one.log[:200],
        }
    path = RESULTS / f"{options.out}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(
        f"\n{'every check holds' if verdict else 'NOT every check holds'}; the clients used {own:.2f} of a core\n{path}"
    )
    return 0 if verdict else 1
