"""How the workers do: what a supervisor asks them once a second, and answers to whoever asks at its management socket.

A worker is asked again only when it has answered, so neither side has ever more than a line to write, and one that
hangs is owed nothing. That it lives is known by the board. Without a management socket nobody is asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fairway.json_lines import formatter_of
from fairway.logs import get_logger, set_up
from fairway.server.config import BindError
from fairway.server.limits import Limits
from fairway.server.management import endpoint
from fairway.server.management.address import parsed
from fairway.server.management.endpoint import Endpoint
from fairway.server.management.figures import Figures
from fairway.server.management.overview import Overview, ProcessView
from fairway.server.management.views import pages_of
from fairway.server.workers.board import Board
from fairway.server.workers.crew import Crew, State
from fairway.server.workers.messages import Channel

logger = get_logger("fairway.server")

LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Supervision:
    """What the settings say that is the supervisor's to do, which has not read them. (`fairway.server.limits`)"""

    management: str = ""
    log_format: str = "text"
    worker_kill_after: float = 0.0


def supervision_of(limits: Limits) -> Supervision:
    """The part of the settings that is the supervisor's."""
    return Supervision(limits.management, limits.log_format, limits.worker_kill_after)


class Watched(Protocol):
    """A worker, as far as it is watched. Those of a crew and these have the same numbers."""

    slot: int
    pid: int | None
    channel: Channel | None


class Watch:
    """`look` is to be called at `next_look`, and when something has changed. All but the pages belong to one thread."""

    def __init__(self, board: Board, crew: Crew, workers: Mapping[int, Watched]) -> None:
        self._board = board
        self._crew = crew
        self._workers = workers
        self._began = time.monotonic()
        self._address = ""
        self._endpoint: Endpoint | None = None
        self._overview = Overview(wanted=crew.wanted)
        self._figures: dict[int, Figures] = {}
        self._asked: set[int] = set()
        self._looked_at = -math.inf
        self._kill_after = math.inf
        self.restarts = 0
        """How often a worker has ended unasked, and another one has taken its place."""

    def follow(self, told: Mapping[str, Any]) -> None:
        """Do from now on what the settings say, as a `Supervision`. Raises `BindError`."""
        supervision = Supervision(**told)
        self._kill_after = supervision.worker_kill_after or math.inf
        set_up(formatter=formatter_of(supervision.log_format))
        if supervision.management == self._address:
            return
        listening = endpoint.listen(parsed(supervision.management)) if supervision.management else None
        self.close()
        self._address = supervision.management
        if listening is not None:
            self._endpoint = Endpoint(listening, pages_of(lambda: self._overview))
            self._endpoint.start()
            logger.info("management socket at %s", self._address)

    def follow_if_possible(self, told: Mapping[str, Any]) -> None:
        """The same; what is not possible is logged, and changes nothing."""
        try:
            self.follow(told)
        except BindError as error:
            logger.error("the management socket stays where it is: %s", error)

    def next_look(self) -> float:
        is_of_use = self._endpoint is not None or self._kill_after < math.inf
        return self._looked_at + LOOK_SECONDS if is_of_use else math.inf

    def look(self, now: float) -> list[int]:
        """Ask the workers, if it is time, and bring up to date what is answered to others. Return the numbers of those
        that have hung for too long.
        """
        hanging: list[int] = []
        if now >= self.next_look():
            # When this process has stood still itself, so may have all: they are to show first that they go on.
            if now - self._looked_at < 2 * LOOK_SECONDS:
                hanging = [number for number in self._workers if self._hangs(number, now)]
            self._looked_at = now
            self._ask()
        if self._endpoint is not None:
            self._overview = self._view(now)
        return hanging

    def _hangs(self, number: int, now: float) -> bool:
        member = self._crew.members.get(number)
        told_at = self._board.told_at(self._workers[number].slot)
        # Who leaves has a time of its own; who has told nothing yet is starting, and who tells no more has stopped.
        return member is not None and member.state is State.READY and 0 < told_at < now - self._kill_after

    def _ask(self) -> None:
        if self._endpoint is not None:
            for number, worker in self._workers.items():
                if worker.channel is not None and number in self._crew.members and number not in self._asked:
                    self._asked.add(number)
                    worker.channel.send("tell")

    def heard(self, number: int, figures: Figures) -> None:
        """A worker has answered."""
        self._asked.discard(number)
        self._figures[number] = figures

    def forget(self, number: int) -> None:
        """A worker has ended."""
        self._asked.discard(number)
        self._figures.pop(number, None)

    def close(self) -> None:
        """Answer nobody any more."""
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
            parsed(self._address).unlink()

    def _view(self, now: float) -> Overview:
        crew = self._crew
        return Overview(
            wanted=crew.wanted,
            stopping=crew.is_stopping,
            restarts=self.restarts,
            uptime=now - self._began,
            processes=tuple(self._view_of(number, worker, now) for number, worker in self._workers.items()),
        )

    def _view_of(self, number: int, worker: Watched, now: float) -> ProcessView:
        member = self._crew.members[number]
        told_at = self._board.told_at(worker.slot)
        figures = dict(self._figures.get(number, {}))
        silent = max(0.0, now - told_at) if told_at else 0.0
        if figures and silent > figures["loop_lag"] + LOOK_SECONDS:
            figures["loop_lag"] = silent  # it hangs, and does not say so itself
        return ProcessView(
            worker.slot, worker.pid, member.state.name.lower(), member.generation, now - member.since, silent, figures
        )
