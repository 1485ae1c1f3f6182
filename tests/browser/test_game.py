"""The game between browsers."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Page, WebSocket, expect
from tests.browser.conftest import Open
from tests.browser.driving import DemoServer

PICTURE = "document.querySelector('[data-canvas]').toDataURL()"


def play(page: Page) -> WebSocket:
    """Open the game; returns its socket when the player's own boat is in the scores."""
    with page.expect_event("websocket", lambda socket: "/ws/game/" in socket.url) as opened:
        page.goto("/game/")
    expect(page.locator(".scores .mine")).to_be_visible()
    return opened.value


def boat_of(name: str, frame: str | bytes) -> dict[str, float] | None:
    return next((boat for boat in json.loads(frame).get("boats", []) if boat["name"] == name), None)


def sees_moving(name: str) -> Callable[[str | bytes], bool]:
    """True for a frame in which somebody's boat is elsewhere than in the first frame that was looked at."""
    first: list[tuple[float, float]] = []

    def moved(frame: str | bytes) -> bool:
        boat = boat_of(name, frame)
        if boat is None:
            return False
        first.append((boat["x"], boat["y"]))
        return first[-1] != first[0]

    return moved


def test_two_players_see_each_other_move(server: DemoServer, people: Open) -> None:
    mira, tom = people(server, "Mira"), people(server, "Tom")
    miras_socket, toms_socket = play(mira), play(tom)
    expect(mira.locator(".scores li")).to_have_count(2)
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


def test_who_leaves_disappears(server: DemoServer, people: Open) -> None:
    mira, tom = people(server, "Stay"), people(server, "Leave")
    play(mira)
    play(tom)
    expect(mira.locator(".scores")).to_contain_text("Leave")

    tom.goto("/")

    expect(mira.locator(".scores")).not_to_contain_text("Leave")
    expect(mira.locator("[data-announce]")).to_have_text("Leave sails away.")
