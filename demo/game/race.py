"""A race: seats, rounds, results, and a bot for who is alone. Pure: time comes in steps, and is counted here.

A seat belongs to a person, not to a connection. The page of somebody who plays says something at least once a second.
Who has not been heard of for a while is *away*: the boat lies still, and keeps its score. Only later the seat is given
up. So a reload, a bad minute, a second tab and a server process that dies need no rules of their own.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from game.world import Boat, World, distance, is_deep, limit

MAX_BOATS = 16
ROUND, REST = 60.0, 10.0  # seconds
AWAY_AFTER, GONE_AFTER = 3.0, 30.0  # seconds without a word
LAST_ROUNDS = 5
BOT = "bot"
BOT_THROTTLE = 0.3  # slower than a beginner
BOT_LEAST, BOT_MOST = 0.04, 0.6
BOT_YIELDS = 0.1  # for each buoy that it leads by; as much more throttle for each that it is behind


@dataclass(slots=True)
class Seat:
    heard_at: float
    seq: int = 0  # of the last input, so that a page knows what the server has seen of its own


@dataclass(slots=True)
class Result:
    """A round that is over: who took part, the best first, with their scores."""

    number: int
    ranking: list[tuple[str, str, int]]  # id, name, score


@dataclass
class Race:
    world: World = field(default_factory=World)
    seats: dict[str, Seat] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    now: float = 0.0
    number: int = 1
    ends_at: float = ROUND
    rests: bool = False

    # Players --------------------------------------------------------------------------------------------------

    def hear(self, who: str, name: str) -> bool:
        """Somebody is there, and gets a seat. False if all are taken."""
        seat = self.seats.get(who)
        if seat is None:
            if len(self.seats) >= MAX_BOATS:
                return False
            if len(self.world.boats) >= MAX_BOATS:
                self.dismiss_bot()
            self.seats[who] = Seat(self.now)
            self.world.add_boat(who, name)
            return True
        seat.heard_at = self.now
        self.world.boats[who].name = name
        return True

    def steer(self, who: str, turn: float, throttle: float, seq: int) -> None:
        """Somebody steers. Of several tabs, the last word counts."""
        seat = self.seats.get(who)
        if seat is not None:
            seat.seq = seq
            self.world.boats[who].steer(turn, throttle)

    def is_away(self, who: str) -> bool:
        return who in self.seats and self.now - self.seats[who].heard_at > AWAY_AFTER

    # Time -----------------------------------------------------------------------------------------------------

    def step(self, seconds: float) -> None:
        self.now += seconds
        self.look_after_seats()
        self.sail_bot()
        self.world.step(seconds, [] if self.rests else None)
        if self.now >= self.ends_at:
            self.begin_round() if self.rests else self.end_round()

    def look_after_seats(self) -> None:
        for who, seat in list(self.seats.items()):
            if self.now - seat.heard_at > GONE_AFTER:
                del self.seats[who], self.world.boats[who]
            elif self.is_away(who):
                self.world.boats[who].steer(0, 0)

    def end_round(self) -> None:
        self.rests, self.ends_at = True, self.now + REST
        ranked = sorted(self.world.boats.values(), key=lambda boat: -boat.score)
        self.results.insert(0, Result(self.number, [(boat.id, boat.name, boat.score) for boat in ranked]))
        del self.results[LAST_ROUNDS:]

    def begin_round(self) -> None:
        self.number += 1
        self.rests, self.ends_at = False, self.now + ROUND
        self.world.lay_buoys()
        for boat in self.world.boats.values():
            boat.score = 0
        if len(self.seats) > 1:
            self.dismiss_bot()

    # The bot --------------------------------------------------------------------------------------------------

    def sail_bot(self) -> None:
        """A bot comes when one person is alone. It leaves between rounds, when there are others to race with."""
        if len(self.seats) == 1 and BOT not in self.world.boats:
            self.world.add_boat(BOT, "")
        if not self.seats:
            self.dismiss_bot()
        boat = self.world.boats.get(BOT)
        if boat is not None:
            best = max((other.score for other in self.world.boats.values() if other is not boat), default=0)
            boat.steer(*steered(boat, self.world, bot_throttle(boat.score - best)))

    def dismiss_bot(self) -> None:
        self.world.boats.pop(BOT, None)

    # What is sent and kept ------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Where everything is: short, because it is sent twenty times a second."""
        boats = [
            [
                boat.id,
                round(boat.x, 1),
                round(boat.y, 1),
                round(boat.heading, 3),
                round(boat.speed),
                self.seats[boat.id].seq if boat.id in self.seats else 0,
            ]
            for boat in self.world.boats.values()
        ]
        buoys = [[buoy.id, round(buoy.x), round(buoy.y)] for buoy in self.world.buoys]
        return {"type": "state", "at": round(self.now * 1000), "boats": boats, "buoys": buoys}

    def crew(self) -> dict[str, Any]:
        """Who sails, with which score, and how the rounds stand: sent when something of it changes, and each second."""
        boats = [
            {"id": boat.id, "name": boat.name, "score": boat.score, "away": self.is_away(boat.id)}
            for boat in self.world.boats.values()
        ]
        return {
            "type": "crew",
            "at": round(self.now * 1000),
            "boats": boats,
            "round": self.number,
            "rests": self.rests,
            "endsAt": round(self.ends_at * 1000),
            "results": [asdict(result) for result in self.results],
        }

    def save(self) -> dict[str, Any]:
        return {
            "world": self.world.save(),
            "seats": {who: asdict(seat) for who, seat in self.seats.items()},
            "results": [asdict(result) for result in self.results],
            "now": self.now,
            "number": self.number,
            "ends_at": self.ends_at,
            "rests": self.rests,
        }

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Race:
        return cls(
            world=World.of(saved["world"]),
            seats={who: Seat(**seat) for who, seat in saved["seats"].items()},
            results=[Result(each["number"], [tuple(one) for one in each["ranking"]]) for each in saved["results"]],
            **{name: saved[name] for name in ("now", "number", "ends_at", "rests")},
        )


def bot_throttle(lead: int) -> float:
    """How fast a bot sails that leads by so many buoys. It waits for a beginner, and hurries after a better player: a
    round stays open.
    """
    return limit(BOT_THROTTLE - BOT_YIELDS * lead, BOT_LEAST, BOT_MOST)


def steered(boat: Boat, world: World, throttle: float) -> tuple[float, float]:
    """How a bot steers: to the nearest buoy, with its eyes on the deep water."""
    buoy = min(world.buoys, key=lambda buoy: distance(boat, buoy) * (1 if is_deep(buoy.x, buoy.y) else 1.6))
    off = math.remainder(math.atan2(buoy.y - boat.y, buoy.x - boat.x) - boat.heading, 2 * math.pi)
    return off * 2, throttle * (0.5 if abs(off) > 1 else 1)
