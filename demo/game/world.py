"""The game's rules: boats, buoys and the channel. Pure: no time, no network, and the dice are an argument.

Lengths are in metres of a small world, angles in radians (0 is east, clockwise because y grows downwards), times in
seconds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

WIDTH, HEIGHT = 1000, 800
# The deep channel is a sine wave through the world; boats are fast in it and slow outside.
CHANNEL_AMPLITUDE, CHANNEL_HALF_WIDTH = 170, 120
SPEED_DEEP, SPEED_SHALLOW = 210, 110
ACCELERATION, TURN_RATE = 260, 2.6
REACH = 34
BUOYS = 7


def channel_centre(x: float) -> float:
    return HEIGHT / 2 + CHANNEL_AMPLITUDE * math.sin(2 * math.pi * x / WIDTH)


def limit(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))


@dataclass(slots=True)
class Boat:
    id: int
    name: str
    x: float
    y: float
    heading: float
    speed: float = 0.0
    turn: float = 0.0
    throttle: float = 0.0
    score: int = 0

    def steer(self, turn: float, throttle: float) -> None:
        self.turn = limit(turn, -1, 1)
        self.throttle = limit(throttle, 0, 1)

    def move(self, seconds: float) -> None:
        deep = abs(self.y - channel_centre(self.x)) < CHANNEL_HALF_WIDTH
        wanted = self.throttle * (SPEED_DEEP if deep else SPEED_SHALLOW)
        change = ACCELERATION * seconds
        self.speed += limit(wanted - self.speed, -change, change)
        self.heading = (self.heading + self.turn * TURN_RATE * seconds) % (2 * math.pi)
        self.x = limit(self.x + math.cos(self.heading) * self.speed * seconds, 0, WIDTH)
        self.y = limit(self.y + math.sin(self.heading) * self.speed * seconds, 0, HEIGHT)


@dataclass(slots=True)
class Buoy:
    id: int
    x: float
    y: float


@dataclass
class World:
    dice: random.Random = field(default_factory=random.Random)
    boats: dict[str, Boat] = field(default_factory=dict)
    buoys: list[Buoy] = field(default_factory=list)
    last_id: int = 0

    def __post_init__(self) -> None:
        while len(self.buoys) < BUOYS:
            self.buoys.append(self.new_buoy())

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def new_buoy(self) -> Buoy:
        return Buoy(self.next_id(), self.dice.uniform(40, WIDTH - 40), self.dice.uniform(40, HEIGHT - 40))

    def add_boat(self, key: str, name: str) -> Boat:
        x = self.dice.uniform(100, WIDTH - 100)
        boat = Boat(self.next_id(), name, x, channel_centre(x), heading=0.0)
        self.boats[key] = boat
        return boat

    def step(self, seconds: float) -> None:
        """Move every boat, then give each buoy in reach to the nearest one."""
        for boat in self.boats.values():
            boat.move(seconds)
        for index, buoy in enumerate(self.buoys):
            near = min(self.boats.values(), key=lambda boat: math.dist((boat.x, boat.y), (buoy.x, buoy.y)))
            if math.dist((near.x, near.y), (buoy.x, buoy.y)) < REACH:
                near.score += 1
                self.buoys[index] = self.new_buoy()

    def state(self) -> dict[str, object]:
        """What a page needs to draw; numbers are rounded because it is sent twenty times a second."""
        boats = [
            {
                "id": boat.id,
                "name": boat.name,
                "x": round(boat.x, 1),
                "y": round(boat.y, 1),
                "heading": round(boat.heading, 3),
                "speed": round(boat.speed),
                "score": boat.score,
            }
            for boat in self.boats.values()
        ]
        return {"boats": boats, "buoys": [{"id": b.id, "x": round(b.x), "y": round(b.y)} for b in self.buoys]}
