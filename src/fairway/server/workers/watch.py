"""The state of the workers: a supervisor asks for it once a second, and shows it at its management socket.

A worker is asked again only after it has answered, so at most one line is unread on either side, even if a worker
hangs. Whether a worker hangs shows on the board. Without a management socket, no worker is asked.
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
    """The settings that concern the supervisor, which does not read settings itself but is told these."""

    management: str = ""
    log_format: str = "text"
    worker_kill_after: float = 0.0


def supervision_of(limits: Limits) -> Supervision:
    """The part of the settings that is the supervisor's."""
    return Supervision(limits.management, limits.log_format, limits.worker_kill_after)


class Watched(Protocol):
    """The part of a worker that the watch needs. Workers have the same numbers here as in the crew."""

    slot: int
    pid: int | None
    channel: Channel | None


class Watch:
    """Call `look` at `next_look`, and whenever something has changed. Call everything in one thread. Only the pages of
    the management socket run in another.
    """

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
        """How many workers have ended unexpectedly and were replaced."""

    def follow(self, told: Mapping[str, Any]) -> None:
        """Apply settings: the fields of a `Supervision`. Raises `BindError` if the management socket cannot move."""
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
        """As `follow`, but if the management socket cannot move, log that and keep it."""
        try:
            self.follow(told)
        except BindError as error:
            logger.error("the management socket stays where it is: %s", error)

    def next_look(self) -> float:
        is_of_use = self._endpoint is not None or self._kill_after < math.inf
        return self._looked_at + LOOK_SECONDS if is_of_use else math.inf

    def look(self, now: float) -> list[int]:
        """Ask the workers if it is time, and update what the pages show. Return the numbers of the workers that have
        hung for longer than `worker_kill_after`.
        """
        hanging: list[int] = []
        if now >= self.next_look():
            # If this process was stopped, so were the workers perhaps. Give them time to show that they run.
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
        # A worker that leaves has another deadline. On the board, 0 stands for a worker that is still starting or has
        # already stopped.
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
        """Close the management socket, and remove its file."""
        if self._endpoint is not None:
            parsed(self._address).unlink()  # first: later, the path may already belong to the server's successor
            self._endpoint.close()
            self._endpoint = None

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
            figures["loop_lag"] = silent  # the worker hangs, so it cannot report this itself
        return ProcessView(
            worker.slot, worker.pid, member.state.name.lower(), member.generation, now - member.since, silent, figures
        )
