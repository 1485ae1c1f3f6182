"""What is measured, as data: the scenarios, and the targets that some of them have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from databases import Kind

Metric = Literal["rate", "cpu", "p50", "p99"]

FIXED_RATE = 2000
"""Messages a second of the open loop that every server is given: less than half of what the slowest can do."""


@dataclass(frozen=True)
class Target:
    """A bound of the paired ratio, ours to the peer's: lower for a rate, upper for what should be small."""

    metric: Metric
    peer: str
    least: float
    aim: float

    @property
    def more_is_better(self) -> bool:
        return self.metric == "rate"


@dataclass(frozen=True)
class Scenario:
    """`kind` is the path that is used, and what a server must be able to do (see apps/site_app.py).

    `rate`: messages a second of an open loop, or "half": of what the slower of the two can do in a closed one.
    `watch`: a bystander's echo is timed next to the load. `control`: ours is measured twice in every round (A/A).
    `more_pairs`: so many times as many as usual, where a ratio lies so near to what is asked that noise would decide.
    """

    name: str
    what: str
    mode: Literal["echo", "broadcast", "connect", "http"]
    kind: str
    load: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    rate: float | Literal["half"] | None = None
    watch: bool = False
    control: bool = False
    survey: bool = True
    more_pairs: int = 1
    database: Kind = "sqlite"

    @property
    def members(self) -> int:
        """Receivers of one message."""
        return int(self.load[self.load.index("-n") + 1]) if self.mode == "broadcast" else 1

    @property
    def deflate(self) -> bool:
        return "-z" in self.load


def _echo(size: str, padding: int, text: str, window: int, deflate: bool) -> Scenario:
    load = ["-n", "100", "-w", str(window)]
    load += ["-s", str(padding)] if padding else []
    load += ["-L"] if text == "Chinese" else []
    load += ["-z"] if deflate else []
    name = f"echo-{size}-{'zh' if text == 'Chinese' else 'ascii'}-w{window}{'-deflate' if deflate else ''}"
    what = f"echo, {size}, {text}, 100 connections, {window} in flight{', permessage-deflate' if deflate else ''}"
    return Scenario(name, what, "echo", "echo", tuple(load))


def _group(kind: str, what: str, members: int, window: int) -> Scenario:
    load = ("-n", str(members), "-w", str(window))
    return Scenario(
        f"{kind}-{members}-w{window}",
        f"{what}, {members:,} members, {window} in flight",
        "broadcast",
        kind,
        load,
        watch=True,
    )


_SIZES = (("40", 0), ("1K", 1024), ("16K", 16384))
# 40 bytes with padding would be 12 Chinese characters: as long as there is room for.
_ECHOES = [
    _echo(size, padding or (64 if text == "Chinese" else 0), text, window, deflate)
    for (size, padding), text, window, deflate in product(_SIZES, ("ASCII", "Chinese"), (1, 8), (False, True))
]
_GROUPS = [
    *(_group("room", "handler fan-out", 1000, window) for window in (1, 4)),
    *(_group("wrapped", "handler fan-out behind a middleware that wraps send", 1000, window) for window in (1, 4)),
    *(_group("hall", "broadcast", members, window) for members, window in product((100, 1000, 5000), (1, 4))),
]
_OTHERS = [
    Scenario("connect", "new connections, no cookie", "connect", "echo", ("-n", "64", "-k", "8")),
    Scenario(
        "connect-cookie", "new connections, signed in", "connect", "member", ("-n", "64", "-k", "8", "-c", "{cookies}")
    ),
    Scenario(
        "connect-cookie-postgres",
        "new connections, signed in, sessions and users in PostgreSQL",
        *("connect", "member", ("-n", "64", "-k", "8", "-c", "{cookies}")),
        survey=False,
        database="postgres",
    ),
    Scenario("lone", "a lone echo: 1 connection, 1 in flight", "echo", "echo", ("-n", "1")),
    Scenario(
        "latency", f"echo at {FIXED_RATE:,} a second, 100 connections", "echo", "echo", ("-n", "100"), rate=FIXED_RATE
    ),
    Scenario(
        "latency-half",
        "echo, 100 connections, at half of the slower server's peak",
        *("echo", "echo", ("-n", "100", "-w", "8")),
        rate="half",
        survey=False,
    ),
    Scenario(
        "latency-half-hall",
        "broadcast, 1,000 members, at half of the slower server's peak",
        *("broadcast", "hall", ("-n", "1000", "-w", "4")),
        rate="half",
        survey=False,
    ),
    Scenario(
        "hello", "HTTP hello-world, plain ASGI, 64 connections", "http", "hello", ("-n", "64", "-b", "Hello, world")
    ),
    Scenario("view", "a Django view, 64 connections", "http", "view", ("-n", "64", "-b", "Hello, world")),
]

_TARGETS = {
    "echo-40-ascii-w1": (Target("rate", "uvicorn", 8, 10), Target("rate", "ws", 0.75, 1.0)),
    "echo-40-ascii-w8": (Target("rate", "ws", 0.9, 1.1),),
    "room-1000-w1": (Target("rate", "daphne", 25, 40),),
    "room-1000-w4": (Target("rate", "daphne", 35, 70),),
    "wrapped-1000-w1": (Target("rate", "daphne", 15, 25),),
    "wrapped-1000-w4": (Target("rate", "daphne", 15, 25),),
    "hall-1000-w4": (Target("rate", "uws", 0.8, 1.0), Target("cpu", "uws", 1.3, 1.0)),
    "hall-1000-w1": (Target("rate", "floor", 0.8, 0.9), Target("cpu", "floor", 1.25, 1.0)),
    "connect": (Target("rate", "uvicorn", 5, 8),),
    "connect-cookie": (Target("rate", "uvicorn", 3, 5),),
    "connect-cookie-postgres": (Target("rate", "uvicorn", 5, 10),),
    "lone": (Target("p50", "uncoalesced", 1.2, 1.0),),
    "latency-half": (Target("p99", "uws", 2, 1.5),),
    "latency-half-hall": (Target("p99", "uws", 2, 1.5),),
    "hello": (Target("rate", "uvicorn", 0.9, 1.0),),
}
_NEAR = {"hall-1000-w1": 3, "room-1000-w1": 3, "connect": 3}
_CONTROLLED = {"echo-40-ascii-w1", "hall-1000-w4", "connect", "latency-half"}

SCENARIOS = [
    replace(
        scenario,
        targets=_TARGETS.get(scenario.name, ()),
        control=scenario.name in _CONTROLLED,
        more_pairs=_NEAR.get(scenario.name, 1),
    )
    for scenario in (*_ECHOES, *_GROUPS, *_OTHERS)
]
