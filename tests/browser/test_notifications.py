"""Notifications between browsers."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect
from tests.browser.conftest import Open
from tests.browser.driving import DemoServer


def unread(page: Page) -> Locator:
    return page.locator("[data-unread] [aria-hidden]")


def send(page: Page, to: str, text: str) -> None:
    page.get_by_label("To", exact=True).select_option(to)
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Send notification").click()
    expect(page.locator("[data-notice]")).to_have_text("Sent.")


def test_one_to_everyone_arrives_is_counted_and_is_marked_as_read(server: DemoServer, people: Open) -> None:
    tom = people(server, "Tom")
    tom.goto("/chat/in/harbour/")
    mira = people(server, "Mira")
    mira.goto("/notifications/")

    send(mira, "Everyone", "Fog in the fairway")

    expect(tom.get_by_role("log", name="New notifications")).to_contain_text("Mira says:Fog in the fairway")
    expect(unread(tom)).to_have_text("1")
    tom.reload()
    expect(unread(tom)).to_have_text("1")
    tom.goto("/notifications/")
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

    other_tab.get_by_role("button", name="Ring the bell from a view").click()

    expect(page.get_by_role("log", name="New notifications")).to_contain_text("A Django view rings the bell for you.")
    expect(other_tab.locator("[data-list] .note-head")).to_have_text(["A Django view rings the bell for you."])
