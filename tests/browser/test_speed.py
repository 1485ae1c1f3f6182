"""The page about speed with a crowd of visitors, over the server's own front door."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import Open
from tests.browser.driving import DemoServer


@pytest.fixture(params=[(), ("--dev-tls",)], ids=["clear", "tls"])
def small(request: pytest.FixtureRequest, browser: Any, tmp_path: Path) -> Iterator[DemoServer]:
    """A server that lets 40 visitors come."""
    variables = {"DEMO_VISITORS": "40", "XDG_DATA_HOME": str(tmp_path)}
    if request.param:
        pytest.importorskip("trustme")
    with DemoServer(tmp_path / "db.sqlite3", *request.param, **variables) as server:
        yield server


def figure(page: Page, name: str) -> float:
    text = page.locator(f"[data-figure={name}]").inner_text()
    return float(text.removesuffix("ms").replace(",", "") or "nan")


def test_a_crowd_comes_is_counted_and_leaves(small: DemoServer, people: Open) -> None:
    is_tls = small.url.startswith("https")
    page = people(small, "Mira", ignore_https_errors=True)
    other = people(small, "Tom", ignore_https_errors=True)
    for each in (page, other):
        each.goto("/speed/")
        expect(each.locator("[data-figure=p99]")).to_contain_text("ms")
    expect(page.locator("[data-figure=transport]")).to_have_text(f"WebSocket over HTTP/{'2, TLS' if is_tls else '1.1'}")
    before = figure(page, "sockets")

    page.get_by_role("button", name="Bring in 40 visitors").click()
    for each in (page, other):
        expect(each.locator("[data-notice]")).to_contain_text("40 visitors connected")
        expect(each.get_by_role("button", name="Bring in 40 visitors")).to_be_disabled()
    expect(page.locator("[data-figure=sockets]")).to_have_text(f"{before + 40:.0f}")
    # Two pages, ten pulses a second each, to forty visitors: 800; a busy machine has fewer.
    expect(page.locator("[data-figure=deliveries]")).to_have_text(re.compile(r"^([2-9]\d\d|1,\d{3})$"))
    expect(page.locator("[data-figure=dropped]")).to_have_text("0")

    expect(page.locator("[data-notice]")).to_contain_text("The visitors have left.")
    expect(page.locator("[data-figure=sockets]")).to_have_text(f"{before:.0f}")
    page.get_by_role("button", name="Bring in 40 visitors").click()
    expect(page.locator("[data-notice]")).to_contain_text("every 30 seconds")
    assert "40 simulated visitors came" in small.output
    assert '"WS /ws/speed/" connected' in small.output
    assert '"WS /ws/speed/visitor/' not in small.output
    assert "Traceback" not in small.output
