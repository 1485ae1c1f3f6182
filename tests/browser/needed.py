"""A browser for tests. Where there is none, they are skipped and say so; with CI=true or FAIRWAY_REQUIRE_BROWSER=1
they fail instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from tests.browser.driving import BROWSER_FLAGS, BROWSERS, find_browser

NO_BROWSER = f"no browser: none of {', '.join(BROWSERS)} is on PATH, and FAIRWAY_CHROMIUM names none"

PATIENCE = 20_000
"""Milliseconds that a page has to show what is expected. Beside other tests, to come back after a server has started
again takes longer than the five seconds that are usual. What is there already is not waited for.
"""


def needed_browser() -> str:
    """The path of a Chromium."""
    found = find_browser()
    if found is None:
        is_required = os.environ.get("CI") == "true" or os.environ.get("FAIRWAY_REQUIRE_BROWSER") == "1"
        (pytest.fail if is_required else pytest.skip)(NO_BROWSER)
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    """A Chromium. For a module and not a session: while it lives, Playwright keeps an event loop running in this
    thread, and asynchronous tests of other modules need theirs.
    """
    path = needed_browser()
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
        yield browser
        browser.close()
