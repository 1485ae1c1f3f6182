"""The state of a whole server at one moment: its processes with their figures. `/status` is an overview as JSON.

The overview of a server without workers has one process.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from fairway import __version__
from fairway.server.management.figures import Figures

STARTING, READY, LEAVING = "starting", "ready", "leaving"
STATES = (STARTING, READY, LEAVING)


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One serving process.

    `slot` is its number among the processes; its successor may get the same. `heard` is how many seconds ago its event
    loop last showed that it runs. `figures` is empty until the process has reported some.
    """

    slot: int
    pid: int | None
    state: str
    generation: int
    uptime: float
    heard: float
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overview:
    """`wanted` is how many processes should serve. `restarts` counts processes that ended unexpectedly."""

    wanted: int
    stopping: bool = False
    restarts: int = 0
    uptime: float = 0.0
    processes: tuple[ProcessView, ...] = ()
    version: str = __version__

    @property
    def is_ready(self) -> bool:
        """Whether as many processes are ready as wanted, and the server has not been told to stop."""
        return not self.stopping and sum(one.state == READY for one in self.processes) >= self.wanted

    def why_not_ready(self) -> str:
        """The reason, in a few words."""
        ready = sum(one.state == READY for one in self.processes)
        return "stopping" if self.stopping else f"starting: {ready} of {self.wanted} are ready"

    def to_json(self) -> str:
        """The body of `/status`."""
        return json.dumps({"ready": self.is_ready, **asdict(self)})
