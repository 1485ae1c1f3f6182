"""The states in which a visitor can find the demo's pages, and how a page comes into each.

They are told one after the other, part by part: a state begins where the one before it has ended, so that one page
that is loaded serves several. Accessibility is judged in all of them (test_accessibility.py), and pictures are taken
(screenshots.py).
"""

from __future__ import annotations

import itertools
import json
import random
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

from playwright.sync_api import Page, Route, WebSocketRoute, expect
from tests.browser.driving import DEMO, DemoServer

# What Chromium writes on the console when a page comes into one of these states.
EXPECTED = ("WebSocket connection to", "net::ERR_", "403 (Forbidden)", "404 (Not Found)", "500 (Internal Server Error)")

numbers = itertools.count(1)


class Visit:
    """A visitor, whose page goes from state to state, and others who come when a state needs them.

    ``come(**options)`` is a page of somebody else, in a browser context of their own.
    """

    def __init__(self, server: DemoServer, page: Page, come: Callable[..., Page]) -> None:
        self.server = server
        self.page = page
        self.come = come
        self._friend: Page | None = None

    @property
    def friend(self) -> Page:
        if self._friend is None:
            self._friend = self.come()
        return self._friend

    def note_to_self(self, text: str) -> None:
        """From another tab. What one sends to everyone is no news to oneself."""
        tab = self.page.context.new_page()
        tab.goto("/notifications/")
        send_to_self(tab, text)
        tab.close()


State = Callable[[Visit], Page]
"""Returns the page to look at, when it is in this state."""


def at(path: str) -> State:
    def visit(visit: Visit) -> Page:
        visit.page.goto(path)
        return visit.page

    return visit


# Chat ----------------------------------------------------------------------------------------------------------------


def enter(page: Page, room: str) -> None:
    page.goto(f"/chat/in/{room}/")
    expect(page.locator("[data-log]")).to_have_attribute("aria-busy", "false")


def say(page: Page, text: str) -> None:
    page.locator("[data-text]").fill(text)
    page.locator("[data-text]").press("Enter")


def empty_chat(visit: Visit) -> Page:
    enter(visit.page, "lighthouse")
    expect(visit.page.locator("[data-nobody-yet]")).to_be_visible()
    return visit.page


def new_room(visit: Visit) -> Page:
    visit.page.locator(".new-room summary").click()
    expect(visit.page.locator(".new-room [name=name]")).to_be_visible()
    return visit.page


def refused_room(visit: Visit) -> Page:
    visit.page.locator(".new-room [name=name]").fill("#%")
    visit.page.locator(".new-room form button").click()
    expect(visit.page.locator(".new-room .error")).to_be_visible()
    return visit.page


def chat(visit: Visit) -> Page:
    enter(visit.page, "harbour")
    expect(visit.page.locator(".mark")).to_be_attached()
    say(visit.page, "Ahoy! 你好！ https://example.org")
    expect(visit.page.locator(".mine")).not_to_have_count(0)
    expect(visit.page.locator(".pending")).to_have_count(0)
    return visit.page


def typing(visit: Visit) -> Page:
    enter(visit.friend, "harbour")
    visit.friend.locator("[data-text]").press_sequentially("He")
    expect(visit.page.locator("[data-typing]")).not_to_be_empty()
    return visit.page


def news_below(visit: Visit) -> Page:
    visit.page.locator("[data-log]").evaluate("log => (log.scrollTop = log.scrollHeight - log.clientHeight - 300)")
    say(visit.friend, "Look here. 看这里。")
    expect(visit.page.locator("[data-newer]")).to_be_visible()
    return visit.page


def unread_room(visit: Visit) -> Page:
    visit.page.locator("[data-newer]").click()
    enter(visit.friend, "open-water")
    say(visit.friend, "Nothing but water. 四面都是水。")
    expect(visit.page.locator("[data-rooms] .badge:visible")).not_to_have_count(0)
    return visit.page


def chat_toast(visit: Visit) -> Page:
    visit.note_to_self("Low water at six. 六点退潮。")
    expect(visit.page.locator(".toast")).not_to_have_count(0)
    return visit.page


def long_text(visit: Visit) -> Page:
    box = visit.page.locator("[data-text]")
    box.fill(("Deep water. 水很深。" * 200)[: int(box.get_attribute("maxlength")) - 50])
    expect(visit.page.locator("[data-left]")).to_be_visible()
    return visit.page


# Faster than a machine that has other things to do would type it.
FLOOD = """(box) => {
  for (let number = 0; number < 9; number += 1) {
    box.value = `${number} …`;
    box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  }
}"""


def too_fast(visit: Visit) -> Page:
    visit.page.locator("[data-text]").evaluate(FLOOD)
    expect(visit.page.locator("[data-again]")).to_be_visible()
    expect(visit.page.locator(".pending")).to_have_count(0)
    return visit.page


def loading(visit: Visit) -> Page:
    """The server takes its time over the earlier messages."""
    visit.page.locator("[data-text]").fill("")
    visit.server.freeze()
    visit.page.locator("[data-log]").evaluate("log => (log.scrollTop = 0)")
    expect(visit.page.locator(".mark button[aria-disabled=true]")).to_be_visible()
    return visit.page


def pending(visit: Visit) -> Page:
    say(visit.page, "Is anybody there? 有人吗？")
    expect(visit.page.locator(".pending")).to_be_visible()
    return visit.page


def lost(visit: Visit) -> Page:
    visit.server.kill()
    expect(visit.page.locator("[data-banner]")).to_have_attribute("data-state", "lost")
    expect(visit.page.locator("[data-last-known]")).to_be_visible()
    return visit.page


def not_sent(visit: Visit) -> Page:
    """The message that was on its way when the server went is in the box again, and the connection is back."""
    visit.server.start()
    visit.page.locator("[data-banner-retry]").click()
    expect(visit.page.locator("[data-again]")).to_be_visible()
    return visit.page


def offline(visit: Visit) -> Page:
    visit.page.context.set_offline(True)
    expect(visit.page.locator("[data-banner]")).to_have_attribute("data-state", "lost")
    say(visit.page, "Not yet. 还没有。")
    expect(visit.page.locator("[data-notice]")).not_to_be_empty()
    return visit.page


def back_online(visit: Visit) -> Page:
    visit.page.context.set_offline(False)
    expect(visit.page.locator("[data-again]")).to_be_visible()
    return visit.page


# Notifications -------------------------------------------------------------------------------------------------------


def open_inbox(page: Page, way: str) -> None:
    page.goto("/notifications/")
    page.locator(f"[name=way][value={way}]").check()
    expect(page.locator("[data-ways]")).to_have_attribute("data-state", "open")


def send_to_self(page: Page, text: str) -> None:
    me = page.evaluate("JSON.parse(document.querySelector('#config').textContent).me")
    page.locator("[data-to]").select_option(str(me))
    page.locator("[data-note]").fill(text)
    page.locator("[data-send] button").click()
    expect(page.locator("[data-note]")).to_have_value("")


def empty_inbox(visit: Visit) -> Page:
    open_inbox(visit.page, "websocket")
    expect(visit.page.locator("[data-empty]")).to_be_visible()
    return visit.page


def refused_note(visit: Visit) -> Page:
    visit.page.locator("[data-send] button").click()
    expect(visit.page.locator("[data-notice]")).not_to_be_empty()
    return visit.page


def inbox(visit: Visit) -> Page:
    send_to_self(visit.page, "Fog in the fairway. 航道有雾。")
    expect(visit.page.locator(".note.unread")).not_to_have_count(0)
    expect(visit.page.locator(".toast")).not_to_have_count(0)
    return visit.page


def inbox_by(way: str) -> State:
    def state(visit: Visit) -> Page:
        open_inbox(visit.page, way)
        expect(visit.page.locator(".note")).not_to_have_count(0)
        visit.page.keyboard.press("Tab")
        visit.page.keyboard.press("Shift+Tab")
        return visit.page

    return state


def read_inbox(visit: Visit) -> Page:
    visit.page.locator("[data-read-all]").click()
    expect(visit.page.locator(".note.unread")).to_have_count(0)
    return visit.page


def lost_inbox(visit: Visit) -> Page:
    visit.page.context.set_offline(True)
    expect(visit.page.locator("[data-ways]")).to_have_attribute("data-state", "waiting")
    visit.page.locator("[data-note]").fill("Not yet. 还没有。")
    visit.page.locator("[data-send] button").click()
    expect(visit.page.locator("[data-notice]")).not_to_be_empty()
    return visit.page


def inbox_again(visit: Visit) -> Page:
    visit.page.context.set_offline(False)
    expect(visit.page.locator("[data-ways]")).to_have_attribute("data-state", "open")
    expect(visit.page.locator("[data-notice]")).to_be_empty()
    visit.page.locator("[name=way][value=websocket]").check()
    expect(visit.page.locator("[data-ways]")).to_have_attribute("data-state", "open")
    return visit.page


# The game ------------------------------------------------------------------------------------------------------------


def alone(visit: Visit) -> Page:
    """With a bot, in a room of one's own."""
    visit.page.goto("/game/new/")
    expect(visit.page.locator("[data-scores] .mine")).to_be_visible()
    expect(visit.page.locator("[data-scores] li")).to_have_count(2)
    return visit.page


def nearest_buoy(visit: Visit) -> Page:
    visit.page.locator("[data-stage]").press("n")
    expect(visit.page.locator("[data-announce]")).to_contain_text(re.compile(r"\d"))
    return visit.page


def two_seats(visit: Visit) -> Page:
    visit.friend.goto(visit.page.url)
    expect(visit.page.locator("[data-scores] li")).to_have_count(3)
    return visit.page


def spectator(visit: Visit) -> Page:
    visit.page.goto(f"{visit.page.url}watch/")
    expect(visit.page.locator("[data-clock]")).not_to_be_empty()
    expect(visit.page.locator("[data-scores] li")).not_to_have_count(0)
    return visit.page


def lost_game(visit: Visit) -> Page:
    visit.page.context.set_offline(True)
    expect(visit.page.locator("[data-banner]")).to_have_attribute("data-state", "lost")
    return visit.page


def game_again(visit: Visit) -> Page:
    visit.page.context.set_offline(False)
    expect(visit.page.locator("[data-banner]")).not_to_have_attribute("data-state", "lost")
    return visit.page


class Scene:
    """A race whose time goes on as it is told, and which the page hears of as from the server.

    It is the demo's own race; a round of it takes no minute here.
    """

    def __init__(self, page: Page, names: list[str], me: str | None = "0") -> None:
        sys.path.insert(0, str(DEMO))
        try:
            from game.race import Race  # type: ignore[import-not-found,unused-ignore]
            from game.world import SHAPE, World  # type: ignore[import-not-found,unused-ignore]
        finally:
            sys.path.remove(str(DEMO))
        self.page = page
        self.names = names
        self.race = Race(World(random.Random(4)))
        self.welcome = {"type": "welcome", "me": me, "world": SHAPE}
        self.sockets: list[WebSocketRoute] = []
        self.go_on(0)
        page.route_web_socket("**/ws/game/**", self._answer)

    def _answer(self, socket: WebSocketRoute) -> None:
        self.sockets.append(socket)
        self._tell(socket, self.welcome)
        self.show()

    def go_on(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.go_on_by(1)
        self.go_on_by(0)

    def go_on_by(self, seconds: float) -> None:
        for number, name in enumerate(self.names):
            self.race.hear(str(number), name)
        self.race.step(seconds)

    def score(self, *scores: int) -> None:
        for number, score in enumerate(scores):
            self.race.world.boats[str(number)].score = score

    def end_round(self) -> None:
        while not self.race.rests:
            self.go_on_by(1)

    def end_rest(self) -> None:
        while self.race.rests:
            self.go_on_by(1)

    def show(self) -> None:
        for socket in self.sockets[-1:]:
            self._tell(socket, self.race.state())
            self._tell(socket, self.race.crew())

    def fail(self) -> None:
        self._tell(self.sockets[-1], {"type": "failed", "againIn": 1})

    @staticmethod
    def _tell(socket: WebSocketRoute, content: dict[str, Any]) -> None:
        socket.send(json.dumps(content))


CREW = ["Mira", "Tom", "米拉"]
MANY = [f"{name} {number}" for number in range(1, 5) for name in ("Ada", "小汤", "Bartholomew the Boatman", "引航员")]


class Scenes:
    """The game's states that would take minutes, or sixteen people."""

    def __init__(self) -> None:
        self.scene: Scene | None = None

    def begin(self, visit: Visit, names: list[str], me: str | None = "0") -> Page:
        if self.scene is not None:
            self.scene.page.close()
        self.scene = Scene(visit.page.context.new_page(), names, me)
        self.scene.page.goto("/game/in/scene/" if me else "/game/in/scene/watch/")
        expect(self.scene.page.locator("[data-scores] li")).to_have_count(len(self.scene.race.world.boats))
        return self.scene.page

    def last_seconds(self, visit: Visit) -> Page:
        page = self.begin(visit, CREW)
        self.scene.score(3, 2, 1)
        self.scene.go_on(53)
        self.scene.show()
        expect(page.locator("[data-clock]")).to_have_class(re.compile("last"))
        return page

    def away(self, visit: Visit) -> Page:
        self.scene.names = CREW[:2]
        self.scene.go_on(4)
        self.scene.show()
        expect(self.scene.page.locator(".scores .away")).to_be_visible()
        return self.scene.page

    def result(self, *scores: int) -> State:
        """Between two rounds."""

        def state(visit: Visit) -> Page:
            self.scene.names = CREW
            self.scene.end_rest()
            self.scene.go_on_by(1)  # what lies beside a boat is got
            self.scene.show()
            self.scene.score(*scores)
            self.scene.end_round()
            self.scene.show()
            number = self.scene.race.results[0].number
            expect(self.scene.page.locator("[data-result]")).to_be_visible()
            expect(self.scene.page.locator("[data-rounds] li").first).to_contain_text(str(number))
            return self.scene.page

        return state

    def next_round(self, visit: Visit) -> Page:
        self.scene.end_rest()
        self.scene.show()
        expect(self.scene.page.locator("[data-result]")).to_be_hidden()
        return self.scene.page

    def failed(self, visit: Visit) -> Page:
        self.scene.fail()
        expect(self.scene.page.locator("[data-announce]")).not_to_be_empty()
        return self.scene.page

    def watched_result(self, visit: Visit) -> Page:
        self.begin(visit, CREW, me=None)
        return self.result(4, 6, 2)(visit)

    def full(self, visit: Visit) -> Page:
        page = self.begin(visit, MANY, me="99")
        expect(page.locator("[data-full]")).not_to_be_empty()
        return page

    def crowded_result(self, visit: Visit) -> Page:
        self.scene.score(*range(16))
        self.scene.end_round()
        self.scene.show()
        expect(self.scene.page.locator("[data-result]")).to_be_visible()
        return self.scene.page


# Speed ---------------------------------------------------------------------------------------------------------------


def speed(visit: Visit) -> Page:
    visit.page.goto("/speed/")
    expect(visit.page.locator("[data-figure=p99]")).to_contain_text(re.compile(r"\d"))
    return visit.page


def crowd(visit: Visit) -> Page:
    visit.page.locator("[data-bring]").click()
    expect(visit.page.locator("[data-left]")).to_be_visible()
    return visit.page


def speed_told(*contents: dict[str, Any]) -> State:
    """What is said only when a crowd has left, or when another comes too soon."""

    def state(visit: Visit) -> Page:
        tab = visit.page.context.new_page()

        def answer(socket: WebSocketRoute) -> None:
            for content in ({"type": "hello", "page": "x", "worker": 4711, "http": "1.1", "tls": False}, *contents):
                socket.send(json.dumps(content))

        tab.route_web_socket("**/ws/speed/", answer)
        tab.goto("/speed/")
        expect(tab.locator("[data-notice]")).not_to_be_empty()
        return tab

    return state


FIGURES = {"type": "figures", "sockets": 3, "dropped": 0}
OVER = {"type": "crowd", "visitors": 0, "deliveries": 0, "left": 0}
TOO_SOON = {"type": "notice", "code": "crowdTooSoon"}


# People, source, and what goes wrong ---------------------------------------------------------------------------------


def renamed(visit: Visit) -> Page:
    visit.page.goto("/you/")
    visit.page.locator("[name=name]").fill(f"Mira {next(numbers)}")
    visit.page.locator("main form button").first.click()
    expect(visit.page.locator(".flash")).to_be_visible()
    return visit.page


def refused_name(visit: Visit) -> Page:
    visit.page.locator("[name=name]").fill("")
    visit.page.locator("main form button").first.click()
    expect(visit.page.locator(".error")).to_be_visible()
    return visit.page


def refused_login(visit: Visit) -> Page:
    visit.page.goto("/you/login/")
    visit.page.locator("[name=username]").fill("nobody")
    visit.page.locator("[name=password]").fill("12345")
    visit.page.locator("main form button").click()
    expect(visit.page.locator(".error, .errorlist").first).to_be_visible()
    return visit.page


def refused_registration(visit: Visit) -> Page:
    register(visit.page, "mira", "12345")
    expect(visit.page.locator(".error").first).to_be_visible()
    return visit.page


def register(page: Page, name: str, password: str) -> None:
    page.goto("/you/register/")
    page.locator("[name=username]").fill(name)
    page.locator("[name=password1]").fill(password)
    page.locator("[name=password2]").fill(password)
    page.locator("main form button").click()


def registered(visit: Visit) -> Page:
    register(visit.page, f"captain.{next(numbers)}", "deep-water-7")
    expect(visit.page.locator(".flash")).to_be_visible()
    return visit.page


def home_toast(visit: Visit) -> Page:
    visit.page.goto("/")
    visit.note_to_self("Low water at six. 六点退潮。")
    expect(visit.page.locator(".toast")).not_to_have_count(0)
    return visit.page


def forbidden(visit: Visit) -> Page:
    visit.page.goto("/you/")
    visit.page.locator("main [name=csrfmiddlewaretoken]").first.evaluate("field => (field.value = 'stale')")
    visit.page.locator("main form button").first.click()
    expect(visit.page.locator(".lost-code")).to_have_text("403")
    return visit.page


def broken(visit: Visit) -> Page:
    """A table is away while the page is asked for."""
    tab = visit.page.context.new_page()
    with closing(sqlite3.connect(visit.server.database, timeout=30, isolation_level=None)) as database:
        database.execute("ALTER TABLE chat_room RENAME TO chat_room_away")
        try:
            tab.goto("/chat/in/harbour/")
        finally:
            database.execute("ALTER TABLE chat_room_away RENAME TO chat_room")
    expect(tab.locator(".lost-code")).to_have_text("500")
    return tab


def without_scripts(path: str) -> State:
    """As a browser without JavaScript has it: axe itself is a script, and so are they who look at the page with it."""

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(
            response=response, body=re.sub(r"</?noscript>|<script.*?</script>", "", response.text(), flags=re.S)
        )

    def state(visit: Visit) -> Page:
        tab = visit.page.context.new_page()
        tab.route(f"**{path}", answer)
        tab.goto(path)
        expect(tab.locator(".flash.warn")).to_be_visible()
        return tab

    return state


def parts() -> dict[str, dict[str, State]]:
    """Each part stands by itself; its states come in this order."""
    scenes = Scenes()
    return {
        "site": {
            "home": at("/"),
            "home-toast": home_toast,
            "home-noscript": without_scripts("/"),
            "source": at("/source/"),
            "source-file": at("/source/chat/"),
            "source-script": at("/source/notify/demo-static-site-js-live-js/"),
            "source-docs": at("/source/docs/"),
            "source-doc": at("/source/docs/docs-howto-broadcast-md/"),
            "403": forbidden,
            "404": at("/nowhere/"),
            "500": broken,
        },
        "people": {
            "you": at("/you/"),
            "you-renamed": renamed,
            "you-refused": refused_name,
            "login": at("/you/login/"),
            "login-refused": refused_login,
            "register": at("/you/register/"),
            "register-refused": refused_registration,
            "register-done": registered,
            "you-registered": at("/you/"),
        },
        "chat": {
            "chat-empty": empty_chat,
            "chat-new-room": new_room,
            "chat-refused-room": refused_room,
            "chat": chat,
            "chat-typing": typing,
            "chat-news-below": news_below,
            "chat-unread": unread_room,
            "chat-toast": chat_toast,
            "chat-long-text": long_text,
            "chat-too-fast": too_fast,
            "chat-loading": loading,
            "chat-pending": pending,
            "chat-lost": lost,
            "chat-not-sent": not_sent,
            "chat-offline": offline,
            "chat-back": back_online,
            "chat-noscript": without_scripts("/chat/in/harbour/"),
        },
        "inbox": {
            "inbox-empty": empty_inbox,
            "inbox-refused": refused_note,
            "inbox": inbox,
            "inbox-sse": inbox_by("sse"),
            "inbox-poll": inbox_by("poll"),
            "inbox-read": read_inbox,
            "inbox-lost": lost_inbox,
            "inbox-back": inbox_again,
            "inbox-noscript": without_scripts("/notifications/"),
        },
        "game": {
            "game-alone": alone,
            "game-nearest": nearest_buoy,
            "game-two": two_seats,
            "game-spectator": spectator,
            "game-lost": lost_game,
            "game-back": game_again,
            "game-last-seconds": scenes.last_seconds,
            "game-away": scenes.away,
            "game-won": scenes.result(5, 2, 1),
            "game-next-round": scenes.next_round,
            "game-overtaken": scenes.result(1, 7, 2),
            "game-draw": scenes.result(3, 3, 1),
            "game-nobody": scenes.result(0, 0, 0),
            "game-failed": scenes.failed,
            "game-watched-result": scenes.watched_result,
            "game-full": scenes.full,
            "game-crowded-result": scenes.crowded_result,
            "game-noscript": without_scripts("/game/"),
        },
        "speed": {
            "speed": speed,
            "speed-crowd": crowd,
            "speed-over": speed_told(FIGURES, OVER),
            "speed-too-soon": speed_told(FIGURES, TOO_SOON),
            "speed-noscript": without_scripts("/speed/"),
        },
    }
