"""The demo by the keyboard alone: everything is reached, in its order, and the focus is seen and not lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import Open
from tests.browser.driving import DemoServer
from tests.browser.test_chat import FILL, enter
from tests.browser.test_game import play, sees_moving

WALK = Path(__file__).parent / "walk.js"

PAGES = {
    "/": ".hero",
    "/chat/in/harbour/": "[data-people] li",
    "/notifications/": "[data-ways][data-state=open]",
    "/game/": ".scores .mine",
    "/game/in/harbour/watch/": ".scores li",
    "/you/": "main form",
    "/you/login/": "main form",
    "/you/register/": "main form",
    "/speed/": "[data-bring]",
    "/source/": ".cards",
    "/source/chat/": ".code",
}
WINDOWS = {
    "desktop": {"viewport": {"width": 1280, "height": 850}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    "low": {"viewport": {"width": 640, "height": 425}},
}

NOWHERE = "document.activeElement === document.body"


@pytest.mark.parametrize("window", WINDOWS)
def test_tab_reaches_everything_in_order_and_leaves_the_page(server: DemoServer, people: Open, window: str) -> None:
    page = people(server, **WINDOWS[window])
    page.add_init_script(path=WALK)
    faults = []
    for path, settled in PAGES.items():
        page.goto(path)
        expect(page.locator(settled).first).to_be_visible()
        faults += [f"{path}: {fault}" for fault in walked(page)]

    assert faults == []


def walked(page: Page) -> list[str]:
    faults: list[str] = []
    count = page.evaluate("walk.count()")
    # A form that one has come for has the focus already.
    for place in range(page.evaluate("walk.step()")["place"] + 1, count):
        page.keyboard.press("Tab")
        step = page.evaluate("walk.step()")
        faults += step["faults"]
        if step["place"] != place:
            return [*faults, f"after {place} of {count} it goes on at {step['place']}"]
    page.keyboard.press("Tab")
    left = page.evaluate("walk.step()")["place"]
    return faults if left in {-1, 0} else [*faults, f"it does not leave the page, but goes to {left}"]


def tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not come to {selector}")


def test_a_race_by_keyboard(server: DemoServer, people: Open) -> None:
    page = people(server, "Keys")
    socket = play(page, "/game/new/")
    status = page.locator("[data-announce]")

    tab_to(page, "[data-stage]")
    with socket.expect_event("framereceived", sees_moving("Keys")):
        page.keyboard.down("ArrowUp")
    page.keyboard.up("ArrowUp")
    page.keyboard.press("n")
    expect(status).to_contain_text("Nearest buoy:")
    tab_to(page, "[data-copy=play]")
    page.keyboard.press("Enter")
    expect(status).to_have_text(re.compile(r"Link copied\.|/game/in/"))
    expect(page.locator("[data-copy=play]")).to_be_focused()


def test_notifications_by_keyboard(server: DemoServer, people: Open) -> None:
    page = people(server, "Finger")
    page.goto("/notifications/")
    ways, note = page.locator("[data-ways]"), page.locator("[data-note]")
    expect(ways).to_have_attribute("data-state", "open")

    tab_to(page, "[name=way]")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Server-Sent Events")).to_be_focused()
    expect(ways).to_have_attribute("data-state", "open")
    page.keyboard.press("ArrowLeft")
    expect(ways).to_have_attribute("data-state", "open")
    expect(page.locator("[data-to] option", has_text="Finger (you)")).to_be_attached()
    tab_to(page, "[data-to]")
    page.keyboard.type("Finger")
    page.keyboard.press("Tab")
    page.keyboard.type("first")
    page.keyboard.press("Enter")
    expect(page.locator(".note.unread")).to_have_count(1)
    page.keyboard.type("second")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_have_count(2)

    # A toast that is closed hands the focus to the next one, and the last one to where it was before.
    expect(note).to_be_focused()
    tab_to(page, ".toast button")
    page.keyboard.press("Enter")
    expect(page.locator(".toast button")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_have_count(0)
    assert not page.evaluate(NOWHERE)

    page.locator("[data-read-all]").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".note.unread")).to_have_count(0)
    expect(page.locator("[data-read-all]")).to_be_focused()


def test_a_button_that_cannot_be_used_again_keeps_the_focus(server: DemoServer, people: Open) -> None:
    page = people(server)
    page.goto("/speed/")
    bring = page.locator("[data-bring]")
    expect(bring).to_be_enabled()
    tab_to(page, "[data-bring]")
    page.keyboard.press("Enter")
    expect(bring).to_be_disabled()
    expect(bring).to_be_focused()


def test_earlier_messages_by_keyboard(server: DemoServer, people: Open) -> None:
    server.manage("shell", "-c", FILL)
    page = enter(people(server), "a-long-story")
    page.locator("[data-log]").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Home")
    expect(page.locator(".bubble", has_text=re.compile("^page 25$"))).to_have_count(1)
    page.locator(".mark button").focus()
    expect(page.locator(".bubble", has_text=re.compile("^page 0$"))).to_have_count(1)
    expect(page.locator("[data-log]")).to_be_focused()
