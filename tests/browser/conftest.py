"""Fixtures of the browser tests: a browser, the demo as a process, and people who open pages of it.

Every page is watched: an error on its console, an uncaught exception or a request to another host fails the
test that opened it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect
from tests.browser.driving import DemoServer
from tests.browser.needed import launched

HERE = Path(__file__).parent
# What Chromium writes on the console by itself.
LOST = "WebSocket connection to"
MISSING = "404 (Not Found)"
# Returns what is wrong with the page that is open, as sentences.
INSPECTION = (HERE / "inspection.js").read_text(encoding="utf-8")

Open = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    with DemoServer(tmp_path_factory.mktemp("demo") / "db.sqlite3") as server:
        yield server


@pytest.fixture
def own_server(browser: Any, tmp_path: Path) -> Iterator[DemoServer]:
    """A server that the test may stop and start."""
    with DemoServer(tmp_path / "db.sqlite3") as server:
        yield server


class Watch:
    """What went wrong in the pages of one person, but for console messages that contain an expected text."""

    def __init__(self, context: Any, expected: tuple[str, ...]) -> None:
        self.faults: list[str] = []
        self.expected = expected
        context.on("page", self._watch)

    def _watch(self, page: Any) -> None:
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on("console", self._console)
        page.on("request", lambda request: self._address(request.url))
        page.on("websocket", lambda socket: self._address(socket.url))

    def _console(self, message: Any) -> None:
        expected = any(text in message.text for text in self.expected)
        if message.type in {"error", "warning"} and not expected:
            self.faults.append(f"console: {message.text}")

    def _address(self, url: str) -> None:
        address = urlsplit(url)
        if address.scheme not in {"data", "blob"} and address.hostname != "127.0.0.1":
            self.faults.append(f"request to another host: {url}")


@pytest.fixture
def people(browser: Any) -> Iterator[Open]:
    """``people(server, "Mira", **options)``: the first page of a new person in a browser context of their own."""
    watches: list[Watch] = []
    servers: set[DemoServer] = set()
    with ExitStack() as contexts:

        def come(
            server: DemoServer, name: str | None = None, *, expected: str | tuple[str, ...] = (), **options: Any
        ) -> Any:
            servers.add(server)
            options = {"base_url": server.url, "locale": "en-GB", "reduced_motion": "reduce"} | options
            context = contexts.enter_context(browser.new_context(**options))
            watches.append(Watch(context, (expected,) if isinstance(expected, str) else expected))
            page = context.new_page()
            if name is not None:
                page.goto("/you/")
                page.get_by_label("Your name").fill(name)
                page.get_by_role("button", name="Save").click()
                expect(page.locator("[data-my-name]")).to_have_text(name)
            return page

        yield come
    for server in servers:
        print(server.output)  # pytest shows it if the test failed
    assert [fault for watch in watches for fault in watch.faults] == []
