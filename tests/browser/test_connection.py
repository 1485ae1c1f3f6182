"""A connection that is lost is shown, and mended."""

from __future__ import annotations

from playwright.sync_api import expect
from tests.browser.conftest import LOST, Open
from tests.browser.driving import DemoServer
from tests.browser.test_chat import enter, expect_said, say


def test_a_lost_connection_is_shown_and_mended_and_nothing_is_sent_twice(own_server: DemoServer, people: Open) -> None:
    mira = enter(people(own_server, "Mira", expected=LOST), "harbour")
    tom = enter(people(own_server, "Tom", expected=LOST), "harbour")
    banner = mira.locator("[data-banner]")
    say(mira, "before")
    expect_said(tom, "before")

    own_server.stop()
    expect(banner).to_have_text("Connection lost. Trying again…")
    say(mira, "while it was away")
    expect(mira.get_by_label("Your message")).to_have_value("while it was away")
    expect(mira.locator("[data-notice]")).to_contain_text("Not sent")

    own_server.start()
    expect(banner).to_have_text("Connected again.", timeout=20_000)
    expect(banner).to_be_hidden()
    expect(tom.locator("[data-banner]")).to_be_hidden(timeout=20_000)
    expect_said(mira, "before")
    mira.get_by_label("Your message").press("Enter")

    expect_said(tom, "before", "while it was away")
    expect_said(mira, "before", "while it was away")
    expect(tom.locator("[data-people] li")).to_have_count(2)


def test_every_page_shows_it(own_server: DemoServer, people: Open) -> None:
    pages = [people(own_server, expected=LOST) for _ in range(3)]
    for page, path in zip(pages, ["/", "/notifications/", "/game/"], strict=True):
        with page.expect_event("websocket"):
            page.goto(path)
    expect(pages[1].locator("[data-empty]")).to_be_visible()
    expect(pages[2].locator(".scores .mine")).to_be_visible()

    own_server.stop()
    for page in pages:
        expect(page.locator("[data-banner]")).to_have_text("Connection lost. Trying again…")
    own_server.start()

    for page in pages:
        expect(page.locator("[data-banner]")).to_be_hidden(timeout=20_000)
    expect(pages[2].locator(".scores .mine")).to_be_visible()
