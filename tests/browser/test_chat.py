"""A conversation between browsers."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect
from tests.browser.conftest import LOST, Open
from tests.browser.driving import DemoServer

# In the list of people, beside the round pictures.
NAMES = "[data-people] li > span:not(.face)"


def current_room(page: Page) -> Locator:
    return page.get_by_role("navigation", name="Rooms").locator("[aria-current] > span:first-child")


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

    tom.get_by_role("navigation", name="Rooms").get_by_role("link", name="Open water").click()
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
    mira.get_by_label("Room name").fill("深水 Pier")
    mira.get_by_role("button", name="Create room").click()

    expect(current_room(mira)).to_have_text("深水 Pier")
    expect(mira.locator(".toast")).to_have_count(0)
    toast = tom.get_by_role("log", name="New notifications")
    expect(toast).to_contain_text("Captain created a room:")
    toast.get_by_role("link", name="Go to room").click()
    expect(current_room(tom)).to_have_text("深水 Pier")
    expect(mira.locator("[data-people] li")).to_have_count(2)


def test_who_is_here_and_who_is_typing(server: DemoServer, people: Open) -> None:
    ada = enter(people(server, "Ada L."), "lighthouse")
    ben = enter(people(server, "Ben"), "lighthouse")
    second_tab = enter(ben.context.new_page(), "lighthouse")
    names = ada.locator(NAMES)

    expect(names).to_have_text(["Ada L. (you)", "Ben"])
    expect(second_tab.locator(NAMES)).to_have_text(["Ada L.", "Ben (you)"])
    expect(second_tab.locator("[data-here-count]")).to_have_text("2")
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

    expect(page.locator("[data-notice]")).to_contain_text("You are sending too fast.")
    expect(page.locator(".pending")).to_have_count(0)
    back = re.findall(r"flood (\d)", page.get_by_label("Your message").input_value())
    assert back, "the text is in the box again"
    assert back == sorted(back), "in the order in which it was written"


def test_a_draft_belongs_to_its_room_and_survives_another_language(server: DemoServer, people: Open) -> None:
    page = enter(people(server), "harbour")
    box, rooms = page.locator("[data-text]"), page.locator("[data-rooms]")
    box.fill("for the harbour")

    rooms.get_by_role("link", name="Lighthouse").click()
    expect(box).to_have_value("")
    box.fill("for the lighthouse")
    page.get_by_role("button", name="简体").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")

    expect(box).to_have_value("for the lighthouse")
    rooms.get_by_role("link", name="港湾").click()
    expect(box).to_have_value("for the harbour")
    page.go_back()
    expect(box).to_have_value("for the lighthouse")


def test_each_person_has_a_letter_and_a_colour(server: DemoServer, people: Open) -> None:
    mira, tom = enter(people(server, "Mira F."), "lighthouse"), enter(people(server, "Łukasz F."), "lighthouse")
    say(mira, "Ahoy")
    expect_last(tom, "Ahoy")
    faces = tom.locator("[data-people] .face")

    expect(faces).to_have_text(["Ł", "M"])
    here, there = (face.evaluate("face => getComputedStyle(face).backgroundColor") for face in faces.all())
    assert here != there
    beside = tom.locator(".message .face").last
    expect(beside).to_have_text("M")
    assert beside.evaluate("face => getComputedStyle(face).backgroundColor") == there


def test_other_rooms_and_names_are_live(server: DemoServer, people: Open) -> None:
    mira = enter(people(server, "Mira V."), "open-water")
    tom = enter(people(server, "Tom V."), "lighthouse")
    say(tom, "Light is on.")
    expect_last(tom, "Light is on.")
    lighthouse = mira.get_by_role("navigation", name="Rooms").get_by_role("link", name="Lighthouse")

    expect(lighthouse.locator(".badge [aria-hidden]")).to_have_text("1")
    second_tab = enter(mira.context.new_page(), "lighthouse")
    expect(lighthouse.locator(".badge")).to_be_hidden()
    second_tab.close()
    lighthouse.click()
    expect_last(mira, "Light is on.")
    tom_again = tom.context.new_page()
    tom_again.goto("/you/")
    tom_again.get_by_label("Your name").fill("Thomas V.")
    tom_again.get_by_role("button", name="Save").click()

    expect(tom.locator("[data-my-name]")).to_have_text("Thomas V.")
    expect(mira.locator(NAMES)).to_have_text(["Mira V. (you)", "Thomas V."])
    expect(mira.locator(".message .meta b").last).to_have_text("Thomas V.")


def test_whoever_reads_above_is_told_of_what_comes_below(server: DemoServer, people: Open) -> None:
    long = "\n".join(f"line {number}" for number in range(40))
    mira = enter(people(server, "Mira W."), "open-water")
    tom = enter(people(server, "Tom W."), "open-water")
    say(mira, long)
    expect_last(mira, long)
    expect_last(tom, long)
    log, newer = mira.locator("[data-log]"), mira.locator("[data-newer]")
    log.evaluate("log => log.scrollTop = 0")
    expect_scrolled(mira, to_end=False)

    say(tom, "below")
    expect(newer).to_have_text("1 new message ↓")
    say(tom, "even further")
    expect(newer).to_have_text("2 new messages ↓")
    expect(mira).to_have_title("(2) Open water · Chat · Fairway")
    newer.click()

    expect(newer).to_be_hidden()
    expect(log).to_be_focused()
    expect(mira).to_have_title("Open water · Chat · Fairway")
    expect_scrolled(mira, to_end=True)
    mira.get_by_text("New room", exact=True).click()
    mira.set_viewport_size({"width": 390, "height": 500})
    expect_scrolled(mira, to_end=True)


def test_earlier_messages_come_as_one_scrolls_up(server: DemoServer, people: Open) -> None:
    server.manage("shell", "-c", FILL)
    page = enter(people(server), "a-long-story")
    bubbles = page.locator(".message .bubble")
    expect(bubbles).to_have_text([f"page {number}" for number in range(75, 125)])
    expect(page.locator(".mark")).to_have_text("75 earlier messages")

    page.locator("[data-log]").evaluate("log => log.scrollTop = 0")

    expect(bubbles.filter(has_text=re.compile("^page 25$"))).to_have_count(1)
    expect_scrolled(page, to_end=False)
    page.locator("[data-log]").evaluate("log => log.scrollTop = 0")
    expect(bubbles).to_have_text([f"page {number}" for number in range(125)])
    expect(page.locator(".mark")).to_have_count(0)
    expect(page.locator(".day")).to_have_count(1)


def test_addresses_become_links_and_nothing_else_does(server: DemoServer, people: Open) -> None:
    page = enter(people(server), "open-water")

    say(page, "See (https://example.org/a?b=1#c), 或者http://example.net。 javascript:alert(1) https://")

    links = page.locator(".bubble").last.locator("a")
    expect(links).to_have_text(["https://example.org/a?b=1#c", "http://example.net"])
    for link in links.all():
        expect(link).to_have_attribute("rel", re.compile("noopener noreferrer"))
    expect(page.locator(".bubble").last).to_have_text(
        "See (https://example.org/a?b=1#c), 或者http://example.net。 javascript:alert(1) https://"
    )

    say(page, "Not https://example.org@example.net/ and http://example.org/\u202egpj.exe beyond what can be seen")

    expect(links).to_have_text(["http://example.org/"])


def test_what_one_person_says_stands_together_on_every_page(server: DemoServer, people: Open) -> None:
    mira, tom = enter(people(server, "Mira G."), "harbour"), enter(people(server, "Tom G."), "harbour")
    for number in range(3):
        say(mira, f"fast {number}")
    for page in (mira, tom):
        expect(page.locator(".message:not(.follows) .bubble", has_text="fast")).to_have_text(["fast 0"])
        expect(page.locator(".message.follows .bubble", has_text="fast")).to_have_text(["fast 1", "fast 2"])
        expect(page.locator(".day")).to_have_text(["Today"])


def test_in_a_low_window_one_sees_what_one_writes(server: DemoServer, people: Open) -> None:
    page = enter(people(server, viewport={"width": 640, "height": 425}), "harbour")
    for _ in range(8):
        say(page, "too fast")
    expect(page.locator("[data-again]")).to_be_visible()

    box = page.get_by_label("Your message").bounding_box()
    assert box["y"] + box["height"] <= page.locator(".tabs").bounding_box()["y"]


def expect_last(page: Page, text: str) -> None:
    expect(page.locator(".message:not(.pending) .bubble").last).to_have_text(text)


def expect_scrolled(page: Page, *, to_end: bool) -> None:
    left = "log => log.scrollHeight - log.scrollTop - log.clientHeight"
    page.wait_for_function(f"wanted => (({left})(document.querySelector('[data-log]')) < 5) === wanted", arg=to_end)


FILL = """
from chat.models import Message, Room
from people.models import Person
room = Room.objects.create(name="A long story", slug="a-long-story")
author = Person.objects.create(name="Narrator")
for number in range(125):
    Message.objects.create(room=room, author=author, text=f"page {number}", ref=str(number))
"""
