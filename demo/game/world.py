"""The water and what moves on it: boats, buoys, the channel. Pure: no time, no network, and the dice are an argument.

Lengths are in metres of a small world, angles in radians (0 is east, clockwise because y grows downwards), times in
seconds. ``static/site/js/helm.js`` moves one's own boat by the same rules, until the server has said where it is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

WIDTH, HEIGHT = 1000, 800
# The deep channel is a sine wave through the world; boats are fast in it and slow outside.
CHANNEL_AMPLITUDE, CHANNEL_HALF_WIDTH = 170, 120
SPEED_DEEP, SPEED_SHALLOW = 210, 110
ACCELERATION, TURN_RATE = 260, 2.6
REACH = 34
BUOYS = 7
# So much of the water at its edge is for no boat, however large the page draws it; buoys are within reach.
MARGIN = 46
SHAPE = {
    "width": WIDTH,
    "height": HEIGHT,
    "amplitude": CHANNEL_AMPLITUDE,
    "halfWidth": CHANNEL_HALF_WIDTH,
    "margin": MARGIN,
    "speedDeep": SPEED_DEEP,
    "speedShallow": SPEED_SHALLOW,
    "acceleration": ACCELERATION,
    "turnRate": TURN_RATE,
}


def channel_centre(x: float) -> float:
    return HEIGHT / 2 + CHANNEL_AMPLITUDE * math.sin(2 * math.pi * x / WIDTH)


def is_deep(x: float, y: float) -> bool:
    return abs(y - channel_centre(x)) < CHANNEL_HALF_WIDTH


def limit(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))


@dataclass(slots=True)
class Boat:
    id: str
    name: str
    x: float
    y: float
    heading: float = 0.0
    speed: float = 0.0
    turn: float = 0.0
    throttle: float = 0.0
    score: int = 0

    def steer(self, turn: float, throttle: float) -> None:
        self.turn = limit(turn, -1, 1)
        self.throttle = limit(throttle, 0, 1)

    def move(self, seconds: float) -> None:
        wanted = self.throttle * (SPEED_DEEP if is_deep(self.x, self.y) else SPEED_SHALLOW)
        change = ACCELERATION * seconds
        self.speed += limit(wanted - self.speed, -change, change)
        self.heading = (self.heading + self.turn * TURN_RATE * seconds) % (2 * math.pi)
        self.x = limit(self.x + math.cos(self.heading) * self.speed * seconds, MARGIN, WIDTH - MARGIN)
        self.y = limit(self.y + math.sin(self.heading) * self.speed * seconds, MARGIN, HEIGHT - MARGIN)


@dataclass(slots=True)
class Buoy:
    id: int
    x: float
    y: float


def distance(one: Boat | Buoy, two: Boat | Buoy) -> float:
    return math.dist((one.x, one.y), (two.x, two.y))


@dataclass
class World:
    dice: random.Random = field(default_factory=random.Random)
    boats: dict[str, Boat] = field(default_factory=dict)
    buoys: list[Buoy] = field(default_factory=list)
    last_buoy: int = 0

    def __post_init__(self) -> None:
        while len(self.buoys) < BUOYS:
            self.buoys.append(self.new_buoy())

    def new_buoy(self) -> Buoy:
        self.last_buoy += 1
        edge = MARGIN + REACH / 2
        return Buoy(self.last_buoy, self.dice.uniform(edge, WIDTH - edge), self.dice.uniform(edge, HEIGHT - edge))

    def lay_buoys(self) -> None:
        """All buoys anew: nobody begins a round beside one that was there before."""
        self.buoys = [self.new_buoy() for _ in range(BUOYS)]

    def add_boat(self, id: str, name: str) -> Boat:
        x = self.dice.uniform(100, WIDTH - 100)
        boat = self.boats[id] = Boat(id, name, x, channel_centre(x))
        return boat

    def step(self, seconds: float, collects: Iterable[str] | None = None) -> None:
        """Move every boat, then give each buoy in reach to the nearest of those that collect (by default: all)."""
        for boat in self.boats.values():
            boat.move(seconds)
        collectors = [self.boats[id] for id in (self.boats if collects is None else collects)]
        for index, buoy in enumerate(self.buoys):
            near = min(collectors, key=lambda boat: distance(boat, buoy), default=None)
            if near is not None and distance(near, buoy) < REACH:
                near.score += 1
                self.buoys[index] = self.new_buoy()

    def save(self) -> dict[str, Any]:
        return {
            "boats": [asdict(boat) for boat in self.boats.values()],
            "buoys": [asdict(buoy) for buoy in self.buoys],
            "last_buoy": self.last_buoy,
        }

    @classmethod
    def of(cls, saved: dict[str, Any]) -> World:
        return cls(
            boats={each["id"]: Boat(**each) for each in saved["boats"]},
            buoys=[Buoy(**each) for each in saved["buoys"]],
            last_buoy=saved["last_buoy"],
        )
