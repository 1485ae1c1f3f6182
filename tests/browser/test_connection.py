"""A connection that is lost is shown, and mended."""

from __future__ import annotations

import re

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
    expect(banner).to_contain_text("Connection lost.")
    say(mira, "while it was away")
    expect(mira.get_by_label("Your message")).to_have_value("while it was away")
    expect(mira.locator("[data-notice]")).to_have_text("You are offline. Your message has not been sent.")
    expect(mira.locator("[data-last-known]")).to_be_visible()

    own_server.start()
    expect(banner).to_contain_text("Back online.")
    expect(banner).to_be_hidden()
    expect(tom.locator("[data-banner]")).to_be_hidden()
    expect_said(mira, "before")
    expect(mira.locator("[data-last-known]")).to_be_hidden()
    expect(mira.locator("[data-notice]")).to_have_text("Back online. Your message has not been sent yet.")
    mira.get_by_role("button", name="Send now").click()
    expect(mira.locator("[data-notice]")).to_be_hidden()

    expect_said(tom, "before", "while it was away")
    expect_said(mira, "before", "while it was away")
    expect(tom.locator("[data-people] li")).to_have_count(2)


def test_what_could_not_be_sent_comes_back_in_order(own_server: DemoServer, people: Open) -> None:
    mira = enter(people(own_server, "Mira", expected=LOST), "harbour")
    own_server.freeze()
    for text in ("first", "second", "third"):
        say(mira, text)
    expect(mira.locator(".pending .bubble")).to_have_text(["first", "second", "third"])
    mira.get_by_label("Your message").fill("being written")

    own_server.kill()
    own_server.start()
    mira.get_by_role("button", name="Retry now").click()

    expect(mira.get_by_label("Your message")).to_have_value("first\nsecond\nthird\nbeing written")
    expect(mira.locator("[data-notice]")).to_have_text("The connection was lost before your message was sent.")
    mira.get_by_role("button", name="Send now").click()
    expect_said(mira, "first\nsecond\nthird\nbeing written")


def test_retry_now_does_not_wait(own_server: DemoServer, people: Open) -> None:
    page = people(own_server, expected=LOST)
    # Without the button it would take as long as the test may.
    page.add_init_script("Math.random = () => 1")
    enter(page, "harbour")
    own_server.stop()
    wait = page.locator("[data-banner-wait]")
    expect(wait).to_have_text(re.compile(r"Retrying in [5-9] s|Retrying in 10 s"))
    own_server.start()

    page.get_by_role("button", name="Retry now").click()

    expect(page.locator("[data-banner]")).to_contain_text("Back online.", timeout=4_000)
    expect(page.get_by_role("button", name="Retry now")).to_be_hidden()


def test_a_short_absence_loses_nothing_and_a_long_one_says_how_much(own_server: DemoServer, people: Open) -> None:
    mira = enter(people(own_server, "Mira", expected=LOST), "harbour")
    tom = enter(people(own_server, "Tom", expected=LOST), "harbour")
    say(tom, "before")
    expect_said(mira, "before")

    mira.context.set_offline(True)
    expect(mira.locator("[data-banner]")).to_contain_text("Connection lost.")
    for number in range(4):
        say(tom, f"missed {number}")
    said = ["before", *(f"missed {number}" for number in range(4))]
    expect_said(tom, *said)
    mira.context.set_offline(False)
    expect_said(mira, *said)
    expect(mira.locator(".mark")).to_have_count(0)

    # The server begins anew, and so does what it keeps in memory: only the database knows what was said meanwhile.
    mira.context.set_offline(True)
    own_server.stop()
    own_server.manage("shell", "-c", MEANWHILE)
    own_server.start()
    mira.context.set_offline(False)

    expect(mira.locator(".mark")).to_have_text("30 earlier messages")
    expect(mira.locator(".message .bubble")).to_have_text([*said, *(f"gap {n}" for n in range(30, 80))])
    mira.locator(".mark").scroll_into_view_if_needed()
    expect_said(mira, *said, *(f"gap {n}" for n in range(80)))


MEANWHILE = """
from chat.models import Message, Room
from people.models import Person
room, author = Room.objects.get(slug="harbour"), Person.objects.get(name="Tom")
for number in range(80):
    Message.objects.create(room=room, author=author, text=f"gap {number}", ref=f"gap {number}")
"""


def test_every_page_shows_it(own_server: DemoServer, people: Open) -> None:
    pages = [people(own_server, expected=LOST) for _ in range(3)]
    for page, path in zip(pages, ["/", "/notifications/", "/game/"], strict=True):
        with page.expect_event("websocket"):
            page.goto(path)
    expect(pages[1].locator("[data-empty]")).to_be_visible()
    expect(pages[2].locator(".scores .mine")).to_be_visible()

    own_server.stop()
    for page in pages:
        expect(page.locator("[data-banner]")).to_contain_text("Connection lost.")
    own_server.start()

    for page in pages:
        expect(page.locator("[data-banner]")).to_be_hidden()
    expect(pages[2].locator(".scores .mine")).to_be_visible()
