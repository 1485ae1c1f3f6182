"""Notifications between browsers."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.browser.conftest import LOST, Open
from tests.browser.driving import DemoServer

WAYS = {"websocket": "WebSocket", "sse": "Server-Sent Events", "poll": "Long-polling"}
# What Chromium writes on the console when it cannot fetch something.
FAILED = "net::ERR_"
# Notes the text of every notification that is announced, even if its toast has gone before somebody looks.
LISTEN = """() => {
  window.announced = [];
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes)
      for (const node of addedNodes) announced.push(node.querySelector(".note-text").textContent);
  }).observe(document.querySelector("[data-toasts]"), { childList: true });
}"""

STORE = """
from notify.sending import Notification, send_notification
for text in ("missed", "missed too"):
    send_notification(Notification.Kind.NOTE, text)
"""

STORE_MANY = """
from notify.sending import Notification, send_notification
from people.models import Person
ida = Person.objects.get(name="Ida M.")
for number in range(120):
    send_notification(Notification.Kind.NOTE, str(number), recipient=ida)
"""


def choose(page: Page, way: str) -> None:
    page.goto("/notifications/")
    page.get_by_label(WAYS[way]).check()
    expect(page.locator("[data-ways]")).to_have_attribute("data-state", "open")
    expect(page.locator("[data-way-text]")).to_contain_text("Connected.")


def unread(page: Page) -> Locator:
    return page.locator("[data-unread] [aria-hidden]")


def send(page: Page, to: str, text: str) -> None:
    page.get_by_label("To", exact=True).select_option(to)
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Send notification").click()
    expect(page.locator("[data-notice]")).to_have_text("Sent.")


@pytest.mark.parametrize("way", WAYS)
def test_one_to_everyone_arrives_is_counted_and_is_marked_as_read(server: DemoServer, people: Open, way: str) -> None:
    tom = people(server, f"Tom {way}")
    choose(tom, way)
    tom.goto("/chat/in/harbour/")
    mira = people(server, f"Mira {way}")
    choose(mira, way)

    send(mira, "Everyone", "Fog in the fairway")

    expect(tom.get_by_role("log", name="New notifications")).to_contain_text(f"Mira {way} wrote:Fog in the fairway")
    expect(unread(tom)).to_have_text("1")
    tom.reload()
    expect(unread(tom)).to_have_text("1")
    tom.goto("/notifications/")
    expect(tom.get_by_label(WAYS[way])).to_be_checked()
    note = tom.get_by_role("listitem").filter(has_text="Fog in the fairway")
    note.get_by_role("button", name="Mark as read").click()
    expect(tom.locator("[data-unread]")).to_be_hidden()
    tom.reload()
    expect(note).to_be_visible()
    expect(tom.locator("[data-unread]")).to_be_hidden()


def test_one_to_one_person_arrives_there_only(server: DemoServer, people: Open) -> None:
    ben, ada, eva = people(server, "Ben"), people(server, "Ada"), people(server, "Eva")
    for page in (ben, ada, eva):
        page.goto("/notifications/")

    send(eva, "Ben", "Only for you")
    send(eva, "Everyone", "marker")

    expect(ben.locator("[data-list] .note-text")).to_have_text(["marker", "Only for you"])
    expect(ada.locator("[data-list] .note-text")).to_have_text(["marker"])


def test_all_are_marked_as_read_in_every_tab(server: DemoServer, people: Open) -> None:
    page = people(server, "Ned")
    page.goto("/notifications/")
    other_tab = page.context.new_page()
    other_tab.goto("/game/")
    send(page, "Ned (you)", "one")
    send(page, "Ned (you)", "two")
    expect(unread(other_tab)).to_have_text("2")

    page.get_by_role("button", name="Mark all as read").click()

    expect(other_tab.locator("[data-unread]")).to_be_hidden()
    expect(page.locator(".note.unread")).to_have_count(0)


def test_one_sent_by_an_ordinary_view_reaches_the_other_tab(server: DemoServer, people: Open) -> None:
    page = people(server)
    page.goto("/")
    other_tab = page.context.new_page()
    other_tab.goto("/notifications/")

    other_tab.get_by_role("button", name="Send one from a view").click()

    expect(page.get_by_role("log", name="New notifications")).to_contain_text("This one was sent by a Django view.")
    expect(other_tab.locator("[data-list] .note-head")).to_have_text(["This one was sent by a Django view."])


def test_nothing_is_lost_or_doubled_by_any_way_while_the_server_is_away(own_server: DemoServer, people: Open) -> None:
    pages = [people(own_server, expected=LOST if way == "websocket" else FAILED) for way in WAYS]
    for page, way in zip(pages, WAYS, strict=True):
        choose(page, way)
        page.evaluate(LISTEN)
    send(pages[0], "Everyone", "before")
    for page in pages:
        expect(page.locator("[data-list] .note-text")).to_have_text(["before"])

    own_server.stop()
    for page in pages:
        expect(page.locator("[data-banner]")).to_contain_text("Connection lost.")
        expect(page.locator("[data-ways]")).to_have_attribute("data-state", "waiting")
    own_server.manage("shell", "-c", STORE)
    own_server.start()

    for page in pages:
        expect(page.locator("[data-ways]")).to_have_attribute("data-state", "open")
        expect(page.locator("[data-banner]")).to_be_hidden()
        expect(page.locator("[data-list] .note-text")).to_have_text(["missed too", "missed", "before"])
    for number, page in enumerate(pages):
        send(page, "Everyone", f"after {number}")
    for page in pages:
        expect(page.locator("[data-list] .note-text")).to_have_text(
            ["after 2", "after 1", "after 0", "missed too", "missed", "before"]
        )
    for number, page in enumerate(pages):
        # What one has sent oneself is in the list, but no news.
        everything = ["before", "missed", "missed too", "after 0", "after 1", "after 2"]
        own = ["before", "after 0"] if number == 0 else [f"after {number}"]
        assert page.evaluate("announced") == [text for text in everything if text not in own]
        expect(unread(page)).to_have_text(str(6 - len(own)))


def test_the_way_can_be_changed_on_the_open_page(server: DemoServer, people: Open) -> None:
    page = people(server, "Ida")
    choose(page, "websocket")
    page.evaluate(LISTEN)
    for way in ("sse", "poll", "websocket"):
        page.get_by_label(WAYS[way]).check()
        expect(page.locator("[data-ways]")).to_have_attribute("data-state", "open")
        send(page, "Ida (you)", way)
        expect(page.locator("[data-list] .note-text").first).to_have_text(way)

    assert page.evaluate("announced") == ["sse", "poll", "websocket"]


def test_of_very_many_nobody_counts_all(server: DemoServer, people: Open) -> None:
    page = people(server, "Ida M.")
    server.manage("shell", "-c", STORE_MANY)
    page.goto("/notifications/")
    count = page.locator("[data-unread-text]")
    for _ in range(2):
        expect(count).to_have_text("99+ unread")
        expect(unread(page)).to_have_text("99+")
        expect(page).to_have_title("(99+) Notifications · Fairway")
        # One more is one more of all, not of the thirty that are shown.
        send(page, "Ida M. (you)", "one more")
        expect(page.locator("[data-list] .note-text").first).to_have_text("one more")

    page.get_by_role("button", name="Mark all as read").click()

    expect(count).to_be_hidden()
    expect(page).to_have_title("Notifications · Fairway")
    send(page, "Ida M. (you)", "the first again")
    expect(count).to_have_text("1 unread")


def test_without_scripts_the_page_says_so_and_the_bell_still_rings(server: DemoServer, people: Open) -> None:
    page = people(server, java_script_enabled=False)
    page.goto("/notifications/")
    expect(page.locator("noscript .warn")).to_be_visible()
    expect(page.locator("[data-ways]")).to_be_hidden()

    page.get_by_role("button", name="Send one from a view").click()

    expect(page).to_have_url(f"{server.url}/notifications/")


def test_a_toast_leaves_the_button_that_tries_again_free(server: DemoServer, people: Open) -> None:
    page = people(server, "Tide", viewport={"width": 844, "height": 390}, expected=LOST)
    page.goto("/chat/in/harbour/")
    tab = page.context.new_page()
    tab.goto("/notifications/")
    send(tab, "Tide (you)", "Low water at six")
    expect(page.locator(".toast")).to_be_visible()
    page.context.set_offline(True)
    retry = page.get_by_role("button", name="Retry now")
    expect(retry).to_be_visible()

    box = retry.bounding_box()
    assert page.locator(".toast").bounding_box()["y"] >= box["y"] + box["height"]
