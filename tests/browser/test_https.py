"""The demo over https, with the certificate for localhost: a page, its chat over wss, and HTTP/2 where it is spoken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Open
from tests.browser.driving import DemoServer
from tests.browser.test_chat import enter, expect_said, say


@pytest.fixture
def https(browser: Any, tmp_path: Path) -> Iterator[DemoServer]:
    pytest.importorskip("trustme")
    with DemoServer(tmp_path / "db.sqlite3", "--dev-tls", XDG_DATA_HOME=str(tmp_path)) as server:
        yield server


def test_two_people_chat_over_wss(https: DemoServer, people: Open) -> None:
    assert https.url.startswith("https://")
    addresses: list[str] = []
    mira = people(https, "Mira", ignore_https_errors=True)
    mira.on("websocket", lambda socket: addresses.append(socket.url))
    enter(mira, "harbour")
    tom = enter(people(https, "Tom", ignore_https_errors=True), "harbour")

    say(mira, "is this line private?")
    expect_said(tom, "is this line private?")

    assert addresses
    assert all(address.startswith("wss://127.0.0.1:") for address in addresses)
    spoken = mira.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
    assert spoken == "h2"
    assert mira.evaluate("window.isSecureContext")
    expect(mira.locator("[data-banner]")).to_be_hidden()
