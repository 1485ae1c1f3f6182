"""The overview of a server without workers, made in a thread of its only process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from fairway.server.context import ServerContext
from fairway.server.lateness import Lateness
from fairway.server.management.figures import Figures, figures_of
from fairway.server.management.overview import LEAVING, READY, Overview, ProcessView
from fairway.server.management.waiting import Waiting

FRESH_SECONDS = 1.0
"""How old figures may become. More frequent requests get the same ones."""


class OneProcess:
    """Makes the overview of this process. There are no figures until `serves`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._figures: Callable[[], Figures] | None = None
        self._is_stopping = False
        self._overview = Overview(wanted=1)
        self._made_at = -FRESH_SECONDS

    def serves(self, context: ServerContext, lateness: Lateness) -> None:
        """The server accepts connections from now on."""
        waiting = Waiting(lambda: context.connections)
        self._figures = lambda: figures_of(context, lateness, waiting)

    def stops(self) -> None:
        """The server has been told to stop."""
        self._is_stopping = True

    def look(self) -> Overview:
        """The overview, with figures that are at most `FRESH_SECONDS` old. Call it in one thread only."""
        now = time.monotonic()
        if self._figures is not None and now - self._made_at >= FRESH_SECONDS:
            self._made_at = now
            state = LEAVING if self._is_stopping else READY
            figures = self._figures()
            one = ProcessView(0, os.getpid(), state, 1, now - self._began, figures["loop_lag"], figures)
            self._overview = replace(self._overview, processes=(one,))
        return replace(self._overview, stopping=self._is_stopping, uptime=now - self._began)
