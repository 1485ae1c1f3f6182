"""Looking at a server that is one process, from a thread of that process."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from fairway.server.context import ServerContext
from fairway.server.lateness import Lateness
from fairway.server.management.figures import figures_of
from fairway.server.management.overview import LEAVING, READY, Overview, ProcessView

FRESH_SECONDS = 1.0
"""So old figures may be before they are made anew, however often somebody asks."""


class OneProcess:
    """Looks at the server of this process, whose `context` is there once it serves."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lateness: Lateness | None = None
        self._context: ServerContext | None = None
        self._is_stopping = False
        self._overview = Overview(wanted=1)
        self._made_at = -FRESH_SECONDS

    def serves(self, context: ServerContext, lateness: Lateness) -> None:
        """The server accepts connections."""
        self._context, self._lateness = context, lateness

    def stops(self) -> None:
        """It has been told to end."""
        self._is_stopping = True

    def look(self) -> Overview:
        """What it is like, at most a second ago. Called in one thread."""
        now = time.monotonic()
        if self._context is not None and self._lateness is not None and now - self._made_at >= FRESH_SECONDS:
            self._made_at = now
            state = LEAVING if self._is_stopping else READY
            figures = figures_of(self._context, self._lateness)
            one = ProcessView(0, os.getpid(), state, 1, now - self._began, figures["loop_lag"], figures)
            self._overview = replace(self._overview, processes=(one,))
        return replace(self._overview, stopping=self._is_stopping, uptime=now - self._began)
