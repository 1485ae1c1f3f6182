"""The game between browsers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, WebSocket, expect
from tests.browser.conftest import Open
from tests.browser.driving import DemoServer

PICTURE = "document.querySelector('[data-canvas]').toDataURL()"


def play(page: Page, path: str = "/game/") -> WebSocket:
    """Open the game; returns its socket when the player's own boat is in the scores."""
    with page.expect_event("websocket", lambda socket: "/ws/game/" in socket.url) as opened:
        page.goto(path)
    expect(page.locator("[data-scores] .mine")).to_be_visible()
    return opened.value


def sees_moving(name: str) -> Callable[[str | bytes], bool]:
    """True for a frame by which somebody's boat has been elsewhere than in the first frame that was looked at.

    Who is in which boat is told once a second: by then it may have reached the edge of the world, and lie still.
    """
    names: dict[str, str] = {}
    first: dict[str, tuple[float, float]] = {}
    moved: set[str] = set()

    def has_moved(frame: str | bytes) -> bool:
        message: dict[str, Any] = json.loads(frame)
        if message["type"] == "crew":
            names.update((boat["id"], boat["name"]) for boat in message["boats"])
        if message["type"] == "state":
            moved.update(id for id, x, y, *_ in message["boats"] if first.setdefault(id, (x, y)) != (x, y))
        return any(names.get(id) == name for id in moved)

    return has_moved


def test_two_players_see_each_other_move(server: DemoServer, people: Open) -> None:
    mira, tom = people(server, "Mira"), people(server, "Tom")
    miras_socket, toms_socket = play(mira), play(tom)
    expect(mira.locator("[data-scores]")).to_contain_text("Tom")
    before = tom.evaluate(PICTURE)

    with toms_socket.expect_event("framereceived", sees_moving("Mira")):
        mira.get_by_role("application").focus()
        mira.keyboard.down("ArrowUp")
    tom.wait_for_function(f"before => {PICTURE} !== before", arg=before)
    mira.keyboard.up("ArrowUp")

    with miras_socket.expect_event("framereceived", sees_moving("Tom")):
        tom.locator("[data-canvas]").hover(position={"x": 20, "y": 20})
        tom.mouse.down()
    tom.mouse.up()


def test_a_finger_on_the_buttons_steers(server: DemoServer, people: Open) -> None:
    page = people(server, "Thumb", viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    socket = play(page)
    button = page.get_by_role("button", name="Ahead")
    expect(button).to_be_visible()

    with socket.expect_event("framereceived", sees_moving("Thumb")):
        button.dispatch_event("pointerdown")
    button.dispatch_event("pointerup")


def test_a_screen_reader_is_told_where_to_go(server: DemoServer, people: Open) -> None:
    page = people(server, "Ear")
    play(page)
    status = page.locator("[data-announce]")

    page.get_by_role("application").press("n")

    expect(status).to_contain_text("Nearest buoy:")
    expect(status).to_have_role("status")


def test_a_seat_waits_for_its_person(server: DemoServer, people: Open) -> None:
    mira, tom = people(server, "Stay"), people(server, "Leave")
    play(mira, "/game/in/seats/")
    play(tom, "/game/in/seats/")
    expect(mira.locator("[data-scores]")).to_contain_text("Leave")
    tom.goto("/")
    expect(mira.locator("[data-scores]")).to_contain_text("Leave (away)")
    play(tom, "/game/in/seats/")
    expect(mira.locator("[data-scores]")).not_to_contain_text("(away)")
    second = tom.context.new_page()
    play(second, "/game/in/seats/")
    expect(second.locator("[data-scores] .mine")).to_have_count(1)
    expect(second.locator("[data-scores] li", has_text="Leave")).to_have_count(1)


def test_a_room_of_ones_own_has_a_bot_and_a_link_for_spectators(server: DemoServer, people: Open) -> None:
    mira, tom = people(server, "Alone"), people(server, "Audience")
    play(mira, "/game/new/")
    expect(mira.locator("[data-scores]")).to_contain_text("Bot")
    assert "/game/in/" in mira.url

    tom.goto(f"{mira.url}watch/")

    expect(tom.locator("[data-scores]")).to_contain_text("Alone")
    expect(tom.locator("[data-scores]")).not_to_contain_text("Audience")
    expect(tom.locator("[data-clock]")).to_contain_text("0:")
    tom.get_by_role("link", name="Join the race").click()
    expect(mira.locator("[data-scores]")).to_contain_text("Audience")


LOW = [
    {"viewport": {"width": 844, "height": 390}, "is_mobile": True, "has_touch": True},
    {"viewport": {"width": 640, "height": 450}},
]


def test_in_a_low_window_all_of_the_water_is_seen(server: DemoServer, people: Open) -> None:
    for number, window in enumerate(LOW):
        page = people(server, f"Low {number}", **window)
        play(page, f"/game/in/low-{number}/")
        box = page.locator("[data-canvas]").bounding_box()
        top = page.locator(".top").bounding_box()["height"]
        tabs = page.locator(".tabs").bounding_box()
        bottom = tabs["y"] if tabs["y"] > 100 else window["viewport"]["height"]
        assert box["y"] >= top
        assert box["y"] + box["height"] <= bottom
        assert box["height"] >= 0.9 * (bottom - top)
        for button in page.locator("[data-hold]:visible").all():
            there = button.bounding_box()
            assert there["y"] + there["height"] <= bottom
        # What is said lies on the water, where the hint has been.
        page.locator("[data-where]").click()
        expect(page.locator("[data-announce]")).not_to_be_empty()
        expect(page.locator("[data-hint]")).to_be_hidden()


def test_between_two_rounds_the_result_is_shown(server: DemoServer, people: Open) -> None:
    page = people(server, "Winner")
    crew = {
        "type": "crew", "at": 60000, "boats": [], "round": 1, "rests": True, "endsAt": 70000,
        "results": [{"number": 1, "ranking": [["bot", "", 9], ["x", "Tom", 4]]}],
    }  # fmt: skip
    welcome = {
        "type": "welcome",
        "me": "x",
        "world": {"width": 1000, "height": 800, "amplitude": 170, "halfWidth": 120},
    }
    state = {"type": "state", "at": 60000, "boats": [], "buoys": []}

    def answer(socket: Any) -> None:
        for message in (welcome, state, crew):
            socket.send(json.dumps(message))

    page.route_web_socket("**/ws/game/**", answer)
    page.goto("/game/")

    expect(page.locator("[data-winner]")).to_have_text("Bot wins with 9!")
    expect(page.locator("[data-ranking] li")).to_have_text(["Bot9", "Tom (you)4"])
    expect(page.locator("[data-next]")).to_contain_text("Next round in")
    expect(page.locator("[data-rounds] li")).to_have_text(["Round 1Bot: 9"])
