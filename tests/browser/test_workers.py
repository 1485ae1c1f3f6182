"""Two people on two of four workers, over HTTP/2, and one of the workers is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import LOST, Open
from tests.browser.driving import DEMO, DemoServer
from tests.browser.test_chat import enter, expect_said, say
from tests.services.local import end_broker

from fairway.layers.local.place import default_place

# What Chromium says of requests whose connection has gone.
BROKEN = "net::ERR_"


@pytest.fixture
def four(browser: Any, tmp_path: Path) -> Iterator[DemoServer]:
    pytest.importorskip("trustme")
    database = tmp_path / "db.sqlite3"
    variables = {"DEMO_LAYER": "local", "XDG_DATA_HOME": str(tmp_path)}
    with DemoServer(database, "--dev-tls", "--workers", "4", **variables) as server:
        yield server
    end_broker(default_place(str(DEMO), f"demo {database}"))


def worker_of(page: Page) -> int:
    """The process that serves this browser context, whose pages share one connection."""
    probe = page.context.new_page()
    probe.goto("/speed/")
    expect(probe.locator("[data-figure=transport]")).to_have_text("WebSocket over HTTP/2, TLS")
    worker = int(probe.locator("[data-figure=worker]").inner_text())
    probe.close()
    return worker


@pytest.mark.slow
def test_a_worker_is_killed_and_its_clients_come_back_by_themselves(four: DemoServer, people: Open) -> None:
    mira = people(four, "Mira", ignore_https_errors=True)
    own = worker_of(mira)
    # The board spreads connections, so the first one is hardly ever of the same worker.
    strangers = (people(four, ignore_https_errors=True, expected=(LOST, BROKEN)) for _ in range(3))
    tom, worker = next((page, worker) for page in strangers if (worker := worker_of(page)) != own)
    for page in (mira, tom):
        enter(page, "harbour")
    name = tom.locator("[data-my-name]").inner_text()
    say(mira, "which worker?")
    expect_said(tom, "which worker?")
    games = [page.context.new_page() for page in (mira, tom)]
    for game in games:
        game.goto("/game/")
    for game in games:
        expect(game.locator("[data-scores]")).to_contain_text("Mira")
        expect(game.locator("[data-scores]")).to_contain_text(name)
    sockets: list[str] = []
    mira.on("websocket", lambda socket: sockets.append(socket.url))

    os.kill(worker, signal.SIGKILL)
    say(mira, "still here")
    expect_said(mira, "which worker?", "still here")
    expect_said(tom, "which worker?", "still here")
    say(tom, "back again")
    expect_said(mira, "which worker?", "still here", "back again")
    assert sockets == [], "Mira has noticed nothing"

    notes = tom.context.new_page()
    notes.goto("/notifications/")
    notes.get_by_label("To", exact=True).select_option("Mira")
    notes.get_by_label("Text", exact=True).fill("Fog ahead")
    notes.get_by_role("button", name="Send notification").click()
    expect(mira.get_by_role("log", name="New notifications")).to_contain_text(f"{name} wrote:Fog ahead")
    for game in games:
        expect(game.locator("[data-banner]")).to_be_hidden()
        expect(game.locator("[data-scores]")).to_contain_text("Mira")
        expect(game.locator("[data-scores]")).to_contain_text(name)
    assert worker_of(tom) != worker
