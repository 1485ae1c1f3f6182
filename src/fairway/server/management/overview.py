"""What a whole server is like at one moment: its processes with their figures. `/status` is this as JSON.

One process without workers is an overview with one process.
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
    """One process that serves. `slot` is its place among them, which its successor may have; `heard` is how many
    seconds ago its loop has last shown that it turns. `figures` are empty until there are some.
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
    """`wanted` is how many processes are to serve; `restarts`, how often one has ended unasked and was replaced."""

    wanted: int
    stopping: bool = False
    restarts: int = 0
    uptime: float = 0.0
    processes: tuple[ProcessView, ...] = ()
    version: str = __version__

    @property
    def is_ready(self) -> bool:
        """Whether as many serve as are wanted, and nobody has told the server to stop."""
        return not self.stopping and sum(one.state == READY for one in self.processes) >= self.wanted

    def why_not_ready(self) -> str:
        """In a few words."""
        ready = sum(one.state == READY for one in self.processes)
        return "stopping" if self.stopping else f"starting: {ready} of {self.wanted} are ready"

    def to_json(self) -> str:
        """For `/status`."""
        return json.dumps({"ready": self.is_ready, **asdict(self)})
