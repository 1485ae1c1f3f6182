"""A supervisor's decisions: which workers start, and which leave. Pure: no processes, sockets or clocks.

A crew wants `wanted` members of its current *generation*, which is one state of the application's code. The supervisor
reports what happens to members (`ready`, `ended`) and what is wanted (`renew`, `resize`, `stop`). Then `decide` returns
the actions to take. Times are in seconds of one monotonic clock.

A member is STARTING until it accepts connections, then READY, and LEAVING once it has been asked to leave.

* All missing members start together. But while members of an older generation serve, they start one at a time, and an
  old one leaves for each that is ready. So there are never fewer than wanted.
* A new generation is abandoned if one of its members ends before any has been ready. The older generation stays.
* A member that ends unexpectedly is replaced: at once the first time, then after a tenth of a second, doubling up to
  half a minute. After a minute without such an end, the next one is replaced at once again.
* The crew gives up if a member ends before any has ever been ready, or if none is ready and five in a row have ended
  while starting.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 30.0
_FORGOTTEN_AFTER = 60.0
_MOST_FAILED_STARTS = 5

MARGIN = 3.0
"""Seconds after which a member is killed that has not left in its time."""

NEVER_READY = 3
"""The exit code if no member could start, and none had a code of its own."""


class State(enum.Enum):
    STARTING = enum.auto()
    READY = enum.auto()
    LEAVING = enum.auto()


@dataclass
class Member:
    """`since`: when it started. `seconds`: how long it may take to leave. `until`: when it is killed."""

    number: int
    generation: int
    slot: int
    since: float
    state: State = State.STARTING
    seconds: float = 10.0
    until: float = math.inf


@dataclass(frozen=True)
class Start:
    """Start a member, which is in `Crew.members` already."""

    number: int


@dataclass(frozen=True)
class Leave:
    """Ask a member to end. `replaced`: another one takes its place, and its clients can reconnect."""

    number: int
    replaced: bool


@dataclass(frozen=True)
class Abort:
    """Have a member end at once, without finishing its work, because of a second `stop`."""

    number: int


@dataclass(frozen=True)
class Kill:
    """Kill a member that has not left in time, or because of a third `stop`."""

    number: int


@dataclass(frozen=True)
class Abandon:
    """Give up a generation that could not start. The one before it stays."""

    generation: int


@dataclass(frozen=True)
class Retire:
    """Start no more members of this generation, ever."""

    generation: int


@dataclass(frozen=True)
class Exit:
    """Exit: all members have ended."""

    code: int


Action = Start | Leave | Abort | Kill | Abandon | Retire | Exit


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
        """A member accepts connections. It may take `seconds` to leave later."""
        member = self.members[number]
        member.seconds = seconds
        if member.state is State.STARTING:
            member.state = State.READY
            self._any_ready = True
            self._failed_starts = 0

    def ended(self, number: int, code: int | None, now: float) -> float | None:
        """A member's process has ended with this exit code, if it is known. Return the seconds until another takes its
        place, or None if none does.
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
        """There is a new generation. Older members leave as its own become ready."""
        self._before.append(self.generation)
        self.generation = generation
        self.retry_at = -math.inf

    def resize(self, by: int) -> bool:
        """Want more or fewer members. False if that would be none, or more than half the slots."""
        if not 1 <= self.wanted + by <= self._slots // 2:
            return False
        self.wanted += by
        return True

    def stop(self) -> None:
        """Make all members leave. The second time they need not finish their work, the third time they are killed."""
        self._stops += 1

    def _give_up(self, code: int | None) -> None:
        self._exit_code = code if code is not None and code > 0 else NEVER_READY
        self._stops = max(self._stops, 1)

    def _ready_now(self) -> list[Member]:
        return self.of(State.READY, generation=self.generation)

    # What is to be done ---------------------------------------------------------------------------------------

    def decide(self, now: float) -> list[Action]:
        """The actions to take now. Call it after each report, and at `next_deadline`."""
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
        """When to call `decide` even if nothing has happened."""
        deadlines = [one.until for one in self.members.values()]
        if not self._stops and self.retry_at > self._decided_at:
            deadlines.append(self.retry_at)
        return min(deadlines, default=math.inf)

    def _older(self) -> list[Member]:
        return [one for one in self.of(State.STARTING, State.READY) if one.generation != self.generation]

    def _leaving(self, now: float) -> list[Action]:
        older, ready = self._older(), self._ready_now()
        if older:
            # A member that serves leaves only when another has taken its place.
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
            return 0  # try again when one of the leaving members has ended
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
            return [self._abort(one, now) for one in chosen]
        return [self._leave(one, now, replaced=False) for one in self.of(State.STARTING, State.READY)]

    def _abort(self, member: Member, now: float) -> Abort:
        member.state = State.LEAVING
        member.until = now + MARGIN
        return Abort(member.number)
