"""The page of examples/browser in a real browser: nothing missed and nothing twice, whatever happens to its sockets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect
from tests.examples.running import ROOT, running

NOTES = [sys.executable, "-m", "fairway", "examples.browser.site:application", "--port", "0"]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def address() -> Iterator[str]:
    """Of a site without a note: it keeps them as long as its process runs."""
    with running(NOTES, ROOT) as server:
        yield f"http://127.0.0.1:{server.port()}/"


@pytest.fixture
def pages(browser: Browser) -> Iterator[list[Page]]:
    windows = [browser.new_context() for _ in range(2)]
    yield [window.new_page() for window in windows]
    for window in windows:
        window.close()


def write(page: Page, text: str) -> None:
    page.fill("[name=text]", text)
    page.click("button")


def shown(page: Page, count: int, last: str) -> list[str]:
    """The notes on a page, as soon as the last of so many is there."""
    expect(page.locator("li").nth(count - 1)).to_have_text(last)
    return page.locator("li").all_text_contents()


def test_what_is_written_while_a_page_is_offline_arrives_once_and_in_order(address: str, pages: list[Page]) -> None:
    away, here = pages
    for page in pages:
        page.goto(address)
    write(here, "one")
    shown(away, 1, "one")

    away.context.set_offline(True)
    expect(away.locator("[role=status]")).to_have_text("Connection lost. Trying again…")
    write(here, "two")
    shown(here, 2, "two")
    write(away, "three")  # asked while there is no connection
    away.context.set_offline(False)

    assert shown(away, 3, "three") == ["one", "two", "three"]
    assert shown(here, 3, "three") == ["one", "two", "three"]
    expect(away.locator("[role=status]")).to_be_empty()


def test_a_note_whose_answer_was_lost_is_asked_for_again_and_written_once(address: str, pages: list[Page]) -> None:
    page, other = pages
    questions: list[str] = []

    def lose_the_first_answer(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def from_page(message: str | bytes) -> None:
            questions.append(json.loads(message)["ref"])
            server.send(message)

        def from_server(message: str | bytes) -> None:
            if len(questions) == 1 and "saved" in json.loads(message):
                route.close(code=4000)
                server.close()
            else:
                route.send(message)

        route.on_message(from_page)
        server.on_message(from_server)

    page.add_init_script("Math.random = () => 1")  # half a second until it comes back
    page.route_web_socket("**/ws/notes/**", lose_the_first_answer)
    for each in pages:
        each.goto(address)
    write(other, "kept")
    shown(page, 1, "kept")

    write(page, "only once")
    expect(page.locator("[role=status]")).to_have_text("Connection lost. Trying again…")
    write(page, "marker")

    assert shown(other, 3, "marker") == ["kept", "only once", "marker"]
    assert shown(page, 3, "marker") == ["kept", "only once", "marker"]
    assert len(questions) == 3
    assert questions[0] == questions[1] != questions[2]


def test_a_note_that_is_refused_is_answered_too(address: str, pages: list[Page]) -> None:
    page = pages[0]
    page.goto(address)
    page.evaluate("() => document.querySelector('[name=text]').removeAttribute('maxlength')")
    write(page, "x" * 1001)
    expect(page.locator("[role=status]")).to_have_text("A note has 1 to 1,000 characters.")
    assert Path(ROOT / "examples/browser/live.js").stat().st_size < 5000  # small enough to copy
