"""What a screen reader has of the demo: what it is told by itself, and what it finds when it looks around."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import LOST, MISSING, Open
from tests.browser.driving import DemoServer
from tests.browser.states import CREW, MANY, Scene
from tests.browser.test_chat import FILL, enter, expect_last, say
from tests.browser.test_game import play
from tests.browser.test_notifications import send

EAR = Path(__file__).parent / "ear.js"

PAGES = ["/", "/chat/in/harbour/", "/notifications/", "/game/", "/game/in/harbour/watch/", "/you/", "/you/login/"]
PAGES += ["/you/register/", "/speed/", "/source/", "/source/chat/", "/source/docs/", "/nowhere/"]

FRAMES = 40  # of the game: two seconds


def listening(page: Page) -> Page:
    """The page, to be opened, with an ear."""
    page.add_init_script(path=EAR)
    return page


def heard(page: Page) -> list[str]:
    return page.evaluate("heard")


def test_a_message_is_read_out_once_and_what_was_said_before_is_not(server: DemoServer, people: Open) -> None:
    server.manage("shell", "-c", FILL)
    mira = enter(listening(people(server, "Mira Ear")), "a-long-story")
    mira.locator("[data-log]").evaluate("log => (log.scrollTop = 0)")
    expect(mira.locator(".bubble", has_text=re.compile("^page 25$"))).to_have_count(1)
    assert heard(mira) == []

    tom = enter(people(server, "Tom Ear"), "a-long-story")
    say(tom, "From Tom")
    expect_last(mira, "From Tom")
    say(mira, "My own")
    expect_last(mira, "My own")
    tom_again = tom.context.new_page()
    tom_again.goto("/you/")
    tom_again.get_by_label("Your name").fill("Thomas Ear")
    tom_again.get_by_role("button", name="Save").click()
    expect(mira.locator("[data-people]")).to_contain_text("Thomas Ear")
    say(tom, "The end")
    expect_last(mira, "The end")

    told = [each for each in heard(mira) if "typing" not in each]
    wanted = [r"Tom Ear .* From Tom", r"You .* My own", r"Thomas Ear .* The end"]
    assert len(told) == len(wanted), told
    assert all(map(re.fullmatch, wanted, told)), told


def test_a_lost_connection_is_told_once_and_so_is_its_return(own_server: DemoServer, people: Open) -> None:
    pages = [listening(people(own_server, expected=LOST)) for _ in range(2)]
    enter(pages[0], "harbour")
    with pages[1].expect_event("websocket"):
        pages[1].goto("/")
    own_server.stop()
    for page in pages:
        expect(page.locator("[data-banner-wait]")).to_have_text(re.compile("[2-9]|10"))
    own_server.start()
    for page in pages:
        # It may have come back by itself while the server started.
        page.locator("[data-banner-retry]").evaluate("button => button.hidden || button.click()")
        expect(page.locator("[data-banner]")).to_have_attribute("data-state", "restored")

    # In an empty room one is told that, too.
    assert [each for each in heard(pages[0]) if "No messages yet" not in each] == ["Connection lost.", "Back online."]
    assert heard(pages[1]) == ["Connection lost.", "Back online."]


def test_a_notification_is_read_out_once(server: DemoServer, people: Open) -> None:
    mira, tom = listening(people(server, "Mira Bell")), people(server, "Tom Bell")
    mira.goto("/notifications/")
    expect(mira.locator("[data-ways]")).to_have_attribute("data-state", "open")
    tom.goto("/notifications/")
    send(tom, "Mira Bell", "Fog in the fairway")
    expect(mira.locator(".toast")).to_be_visible()

    told = [each for each in heard(mira) if "Fog" in each]
    assert told == ["Tom Bell wrote: Fog in the fairway Dismiss"]


def test_a_game_that_goes_on_says_little(server: DemoServer, people: Open) -> None:
    page = listening(people(server, "Sailor"))
    socket = play(page, "/game/new/")
    frames: list[object] = []
    with socket.expect_event("framereceived", lambda frame: frames.append(frame) or len(frames) >= FRAMES):
        page.get_by_role("application").press("ArrowLeft")

    assert len(heard(page)) <= 3, heard(page)


def test_a_round_of_the_game_is_told(server: DemoServer, people: Open) -> None:
    page = listening(people(server))
    scene = Scene(page, CREW)
    scene.go_on_by(1)  # what lies beside a boat is got
    scene.score(0, 0, 0)
    page.goto("/game/in/scene/")
    status = page.locator("[data-announce]")
    expect(page.locator("[data-scores] li")).to_have_count(3)
    told = []

    def tell(sentence: str) -> None:
        scene.show()
        expect(status).to_have_text(sentence)
        told.append(sentence)

    scene.score(1, 0, 0)
    tell("You got a buoy. Your score: 1")
    scene.score(1, 2, 0)
    tell("Tom leads with 2.")
    scene.go_on(49)
    scene.go_on_by(0.5)
    tell("Ten seconds left.")
    scene.end_round()
    tell("Tom wins with 2!")
    scene.end_rest()
    tell("Round 2")

    assert heard(page) == told


def test_who_finds_the_room_full_is_told_so_once(server: DemoServer, people: Open) -> None:
    page = listening(people(server))
    scene = Scene(page, MANY, me="99")
    page.goto("/game/in/scene/")
    expect(page.locator("[data-full]")).to_contain_text("This room is full.")
    scene.score(3)
    scene.show()
    expect(page.locator("[data-scores] b").first).to_have_text("3")

    assert len([each for each in heard(page) if "This room is full." in each]) == 1


def test_seconds_that_run_down_are_not_read_out(browser: Any, people: Open, tmp_path: Path) -> None:
    with DemoServer(tmp_path / "db.sqlite3", DEMO_VISITORS="5") as server:
        page = listening(people(server, expected=LOST))
        page.goto("/speed/")
        page.get_by_role("button", name="Bring in 5 visitors").click()
        left = page.locator("[data-left]")
        expect(left).to_have_text(re.compile("[6-9] s"))
        expect(left).to_have_text(re.compile("[1-4] s"))

        assert heard(page) == ["Visitors are connecting…", "5 visitors connected"]


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_the_tree_of_every_page(server: DemoServer, people: Open, locale: str) -> None:
    page = people(server, expected=MISSING, locale=locale)
    session = page.context.new_cdp_session(page)
    faults = []
    for path in PAGES:
        page.goto(path)
        tree = session.send("Accessibility.getFullAXTree")["nodes"]
        faults += [f"{path}: {fault}" for fault in [*tree_faults(tree), *page.evaluate(UNKNOWN_TEXT)]]

    assert faults == []


# Live regions that are not in the tree before they speak; and Chinese that is not said to be Chinese: for that
# Markdown has no means.
UNKNOWN_TEXT = r"""() => {
  const faults = [];
  for (const region of document.querySelectorAll("[role=status], [role=log], [role=alert], [aria-live=polite]")) {
    if (region.checkVisibility({ visibilityProperty: true })) continue;
    faults.push(`not there before it speaks: ${region.outerHTML}`);
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement: element, textContent: text } = walker.currentNode;
    if (element.closest("script, noscript, pre, .document, .source-files") || !/\p{Script=Han}/u.test(text)) continue;
    if (!element.closest("[lang]").lang.startsWith("zh")) faults.push(`in which language? ${text.trim()}`);
  }
  return faults;
}"""


def tree_faults(tree: list[dict[str, Any]]) -> list[str]:
    nodes = [node for node in tree if not node["ignored"]]
    found: dict[str, list[dict[str, Any]]] = {}
    for node in nodes:
        found.setdefault(node["role"]["value"], []).append(node)
    faults = [
        f"{len(found.get(role, []))} times {role}" for role in ("main", "banner") if len(found.get(role, [])) != 1
    ]
    for role in ("navigation", "region", "complementary", "form"):
        # A form without a name is no landmark.
        names = [name_of(node) for node in found.get(role, []) if role != "form" or name_of(node)]
        if len(set(names)) < len(names):
            faults.append(f"{role} of the same name: {names}")
    levels = [value_of(node, "level") for node in found.get("heading", [])]
    if levels[:1] != [1] or levels.count(1) != 1:
        faults.append(f"headings begin otherwise: {levels}")
    faults += [f"a level of headings is left out: {levels}" for one, two in pairwise(levels) if two > one + 1]
    faults += [
        f"without a name: {node['role']['value']}"
        for node in nodes
        if value_of(node, "focusable") and node["role"]["value"] not in {"RootWebArea", "main"} and not name_of(node)
    ]
    return faults


def name_of(node: dict[str, Any]) -> str:
    return node.get("name", {}).get("value", "")


def value_of(node: dict[str, Any], name: str) -> Any:
    return next((each["value"].get("value") for each in node.get("properties", []) if each["name"] == name), None)
