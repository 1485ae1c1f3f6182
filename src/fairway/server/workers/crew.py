"""Who is to start and who is to leave: the decisions of a supervisor, without processes, sockets or clocks.

A crew has `wanted` members of its current *generation*, which is one state of the application's code. What happens to
members is reported (`ready`, `ended`), what is wanted is said (`renew`, `resize`, `stop`), and then `decide` returns
what is to be done. Times are seconds of one monotonic clock.

A member is STARTING until it accepts connections, then READY, and LEAVING once it was asked to.

* All missing members start together; while members of an older generation serve, one at a time, and for each that is
  ready an old one leaves. So there is never less than what was wanted.
* A new generation of which nobody has been ready when one ends is abandoned: the older one stays.
* Who ends without being asked is replaced: at once the first time, then after a tenth of a second, doubled up to half a
  minute, until a minute has passed without that.
* If nobody has ever been ready when one ends, or nobody is and five in a row have ended while they started, the crew
  gives up.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 30.0
_FORGOTTEN_AFTER = 60.0
_MOST_FAILED_STARTS = 5

MARGIN = 3.0
"""Seconds beyond those that a member has to leave, after which it is killed."""

NEVER_READY = 3
"""The exit code of a crew none of which could start, unless its members have said another."""


class State(enum.Enum):
    STARTING = enum.auto()
    READY = enum.auto()
    LEAVING = enum.auto()


@dataclass
class Member:
    """`since` is when it started. `seconds` is how long it may take to leave; `until`: it is killed then."""

    number: int
    generation: int
    slot: int
    since: float
    state: State = State.STARTING
    seconds: float = 10.0
    until: float = math.inf


@dataclass(frozen=True)
class Start:
    """Begin a member: `Crew.members` has it already."""

    number: int


@dataclass(frozen=True)
class Leave:
    """Ask a member to end; `replaced`: its clients find another one."""

    number: int
    replaced: bool


@dataclass(frozen=True)
class Kill:
    """A member has not left in time, or nobody waits for it any more."""

    number: int


@dataclass(frozen=True)
class Abandon:
    """A generation could not start, and the one before it stays."""

    generation: int


@dataclass(frozen=True)
class Retire:
    """No member of this generation will be started any more."""

    generation: int


@dataclass(frozen=True)
class Exit:
    """Everybody has ended."""

    code: int


Action = Start | Leave | Kill | Abandon | Retire | Exit


class Crew:
    """`wanted` members, in as many of the `slots` as are needed."""

    def __init__(self, wanted: int, slots: int) -> None:
        self.wanted = wanted
        self.members: dict[int, Member] = {}
        self.generation = 1
        self.retry_at = -math.inf
        """When the next member may start."""
        self._slots = slots
        self._numbers = 0
        self._decided_at = -math.inf
        self._stops = 0
        self._exit_code = 0
        self._any_ready = False
        self._failures = 0
        self._failed_starts = 0
        self._failed_at = -math.inf
        self._before: list[int] = []
        self._abandoned: list[int] = []

    @property
    def is_stopping(self) -> bool:
        return self._stops > 0

    def of(self, *states: State, generation: int | None = None) -> list[Member]:
        """The members in these states, of any generation or of one, oldest first."""
        return [
            one
            for one in self.members.values()
            if one.state in states and (generation is None or one.generation == generation)
        ]

    # What happens ---------------------------------------------------------------------------------------------

    def ready(self, number: int, seconds: float) -> None:
        """A member accepts connections. It may take so many seconds to leave."""
        member = self.members[number]
        member.seconds = seconds
        if member.state is State.STARTING:
            member.state = State.READY
            self._any_ready = True
            self._failed_starts = 0

    def ended(self, number: int, code: int | None, now: float) -> float | None:
        """A member's process has ended with this exit code, if it is known. Return after how many seconds another one
        takes its place; None if none does.
        """
        member = self.members.pop(number)
        if member.state is State.LEAVING or self._stops:
            return None
        is_start = member.state is State.STARTING
        if is_start and member.generation == self.generation and self._before and not self._ready_now():
            self._abandoned.append(self.generation)
            self.generation = self._before.pop()
            return None
        self._failed_starts = self._failed_starts + 1 if is_start else 0
        if (
            is_start
            and not self.of(State.READY)
            and (not self._any_ready or self._failed_starts >= _MOST_FAILED_STARTS)
        ):
            self._give_up(code)
            return None
        if now - self._failed_at > _FORGOTTEN_AFTER:
            self._failures = 0
        delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (self._failures - 1)) if self._failures else 0.0
        self._failures += 1
        self._failed_at = now
        self.retry_at = now + delay
        return delay

    # What is wanted -------------------------------------------------------------------------------------------

    def renew(self, generation: int) -> None:
        """A new generation is there. Members of older ones leave as its own are ready."""
        self._before.append(self.generation)
        self.generation = generation
        self.retry_at = -math.inf

    def resize(self, by: int) -> bool:
        """Want so many members more, or fewer; return whether that is possible: at least one, in half the slots."""
        if not 1 <= self.wanted + by <= self._slots // 2:
            return False
        self.wanted += by
        return True

    def stop(self) -> None:
        """Everybody is to leave; the second time they need not finish what is under way, the third they are killed."""
        self._stops += 1

    def _give_up(self, code: int | None) -> None:
        self._exit_code = code if code is not None and code > 0 else NEVER_READY
        self._stops = max(self._stops, 1)

    def _ready_now(self) -> list[Member]:
        return self.of(State.READY, generation=self.generation)

    # What is to be done ---------------------------------------------------------------------------------------

    def decide(self, now: float) -> list[Action]:
        """What is to be done now. To be called after each report, and at `next_deadline`."""
        self._decided_at = now
        actions: list[Action] = [Abandon(generation) for generation in self._abandoned]
        self._abandoned.clear()
        for member in self.of(State.LEAVING):
            if now >= member.until:
                member.until = math.inf
                actions.append(Kill(member.number))
        if self._stops:
            return actions + self._stopping(now)
        return actions + self._leaving(now) + self._starting(now) + self._retired()

    def next_deadline(self) -> float:
        """When `decide` is to be called though nothing has happened."""
        deadlines = [one.until for one in self.members.values()]
        if not self._stops and self.retry_at > self._decided_at:
            deadlines.append(self.retry_at)
        return min(deadlines, default=math.inf)

    def _older(self) -> list[Member]:
        return [one for one in self.of(State.STARTING, State.READY) if one.generation != self.generation]

    def _leaving(self, now: float) -> list[Action]:
        older, ready = self._older(), self._ready_now()
        if older:
            # Nobody who serves leaves before there is somebody in the place.
            serving = [one for one in older if one.state is State.READY]
            chosen = [one for one in older if one.state is State.STARTING]
            chosen += serving[: max(0, len(serving) + len(ready) - self.wanted)]
        else:
            chosen = [*ready, *self.of(State.STARTING, generation=self.generation)][self.wanted :]
        return [self._leave(one, now, replaced=True) for one in chosen]

    def _leave(self, member: Member, now: float, replaced: bool) -> Leave:
        member.state = State.LEAVING
        member.until = now + member.seconds + MARGIN
        return Leave(member.number, replaced)

    def _starting(self, now: float) -> list[Action]:
        missing = self.wanted - len(self.of(State.STARTING, State.READY, generation=self.generation))
        if self._older():
            missing = min(missing, 1 - len(self.of(State.STARTING, generation=self.generation)))
        if now < self.retry_at:
            missing = 0
        return [Start(number) for number in [self._start(now) for _ in range(missing)] if number]

    def _start(self, now: float) -> int:
        taken = {one.slot for one in self.members.values()}
        slot = next((slot for slot in range(self._slots) if slot not in taken), None)
        if slot is None:
            return 0  # when one of those who leave has gone
        self._numbers += 1
        self.members[self._numbers] = Member(self._numbers, self.generation, slot, now)
        return self._numbers

    def _retired(self) -> list[Action]:
        if self._older() or not self._ready_now():
            return []
        retired, self._before = self._before, []
        return [Retire(generation) for generation in retired]

    def _stopping(self, now: float) -> list[Action]:
        if not self.members:
            return [Exit(self._exit_code)]
        if self._stops > 2:
            return [Kill(number) for number in self.members]
        if self._stops == 2:
            chosen = [one for one in self.members.values() if one.until > now + MARGIN]
            return [self._leave_now(one, now) for one in chosen]
        return [self._leave(one, now, replaced=False) for one in self.of(State.STARTING, State.READY)]

    def _leave_now(self, member: Member, now: float) -> Leave:
        member.state = State.LEAVING
        member.until = now + MARGIN
        return Leave(member.number, replaced=False)
