"""The pages of the management socket."""

from __future__ import annotations

from collections.abc import Callable

from fairway.server.management.metrics import EXPOSITION, exposition
from fairway.server.management.overview import Overview
from fairway.server.management.pages import Page, Pages


def pages_of(look: Callable[[], Overview]) -> Pages:
    """The pages by path. `look` returns the overview, and is called in the thread of the management socket."""

    def ready() -> Page:
        overview = look()
        return Page(200, "ready\n") if overview.is_ready else Page(503, f"{overview.why_not_ready()}\n")

    return {
        "/health": lambda: Page(200, "alive\n"),
        "/ready": ready,
        "/metrics": lambda: Page(200, exposition(look()), EXPOSITION),
        "/status": lambda: Page(200, look().to_json(), "application/json"),
    }
