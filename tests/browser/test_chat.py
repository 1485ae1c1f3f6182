"""A conversation between browsers."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from tests.browser.conftest import LOST, Open
from tests.browser.driving import DemoServer


def enter(page: Page, room: str) -> Page:
    page.goto(f"/chat/in/{room}/")
    expect_ready(page)
    return page


def expect_ready(page: Page) -> None:
    """The page is connected and shows what was said before."""
    expect(page.get_by_role("log", name="Messages")).to_have_attribute("aria-busy", "false")


def say(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Enter")


def expect_said(page: Page, *texts: str) -> None:
    """The room's messages are exactly these, and none is still on its way."""
    expect(page.locator(".message .bubble")).to_have_text(list(texts))
    expect(page.locator(".pending")).to_have_count(0)


def test_two_talk_in_one_room_and_a_third_in_another_hears_nothing(server: DemoServer, people: Open) -> None:
    mira = enter(people(server, "Mira"), "harbour")
    tom = enter(people(server, "Tom"), "harbour")
    ada = enter(people(server, "Ada"), "lighthouse")

    say(mira, "Has anyone seen the pilot boat?")
    expect_said(tom, "Has anyone seen the pilot boat?")
    say(tom, "It is at the red buoy.")
    for page in (mira, tom):
        expect_said(page, "Has anyone seen the pilot boat?", "It is at the red buoy.")
    say(ada, "marker")

    expect_said(ada, "marker")
    expect(mira.locator(".message.mine")).to_have_count(1)
    expect(mira.locator(".message").nth(1)).to_contain_text("Tom")


def test_the_last_messages_are_there_after_a_restart(own_server: DemoServer, people: Open) -> None:
    mira = enter(people(own_server, "Mira", expected=LOST), "harbour")
    say(mira, "Written in the log book.")
    expect_said(mira, "Written in the log book.")

    own_server.stop()
    own_server.start()
    tom = enter(people(own_server, "Tom"), "harbour")

    expect_said(tom, "Written in the log book.")
    expect_said(mira, "Written in the log book.")


def test_rooms_are_chosen_from_the_list(server: DemoServer, people: Open) -> None:
    mira = enter(people(server), "open-water")
    tom = enter(people(server, "Theo"), "harbour")

    tom.get_by_label("Room", exact=True).select_option("Open water")
    expect(tom).to_have_url(f"{server.url}/chat/in/open-water/")
    expect(tom).to_have_title("Open water · Chat · Fairway")
    expect_ready(tom)
    say(tom, "Now I am here.")

    expect_said(mira, "Now I am here.")


def test_a_new_room_is_opened_entered_and_announced(server: DemoServer, people: Open) -> None:
    mira, tom = people(server, "Captain"), people(server)
    tom.goto("/")
    enter(mira, "harbour")

    mira.get_by_text("New room", exact=True).click()
    mira.get_by_label("Name of the new room").fill("深水 Pier")
    mira.get_by_role("button", name="Open this room").click()

    expect(mira.get_by_label("Room", exact=True).locator("option:checked")).to_have_text("深水 Pier")
    toast = tom.get_by_role("log", name="New notifications")
    expect(toast).to_contain_text("Captain opened a room:")
    toast.get_by_role("link", name="Go there").click()
    expect(tom.get_by_label("Room", exact=True).locator("option:checked")).to_have_text("深水 Pier")
    expect(mira.locator("[data-people] li")).to_have_count(2)


def test_who_is_here_and_who_is_typing(server: DemoServer, people: Open) -> None:
    ada = enter(people(server, "Ada L."), "lighthouse")
    ben = enter(people(server, "Ben"), "lighthouse")
    second_tab = enter(ben.context.new_page(), "lighthouse")
    names = ada.locator("[data-people] li")

    expect(names).to_have_text(["Ada L. (you)", "Ben"])
    expect(second_tab.locator("[data-people] li")).to_have_text(["Ada L.", "Ben (you)"])
    expect(second_tab.get_by_role("heading", name="Here now")).to_have_text("Here now 2")
    second_tab.get_by_label("Your message").press_sequentially("He")
    expect(ada.locator("[data-typing]")).to_have_text("Ben is typing…")
    say(second_tab, "Hello")
    expect(ada.locator("[data-typing]")).to_be_empty()
    second_tab.close()
    say(ben, "Still here")
    expect(ada.locator(".bubble").last).to_have_text("Still here")
    expect(names).to_have_text(["Ada L. (you)", "Ben"])
    ben.close()
    expect(names).to_have_text(["Ada L. (you)"])


def test_markup_stays_text(server: DemoServer, people: Open) -> None:
    text = "<img src=x onerror=alert(1)><b>bold</b>"
    page = enter(people(server), "open-water")

    say(page, text)

    expect(page.locator(".bubble").last).to_have_text(text)
    expect(page.locator(".bubble img, .bubble b")).to_have_count(0)


def test_who_writes_too_fast_gets_the_text_back_with_a_notice(server: DemoServer, people: Open) -> None:
    page = enter(people(server), "open-water")

    for number in range(9):
        say(page, f"flood {number}")

    expect(page.locator("[data-notice]")).to_contain_text("That was a little fast.")
    expect(page.get_by_label("Your message")).to_have_value(re.compile(r"flood \d"))
    expect(page.locator(".pending")).to_have_count(0)
