"""A conversation between browsers whose pages come from two processes, of which one is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import LOST, Open
from tests.browser.driving import DEMO, DemoServer
from tests.browser.test_chat import NAMES, enter, expect_ready, expect_said, say
from tests.browser.test_game import PICTURE
from tests.services.local import end_broker

from fairway.layers.local.place import default_place


@pytest.fixture(params=["local", "redis"])
def servers(request: pytest.FixtureRequest, browser: Any, tmp_path: Path) -> Iterator[list[DemoServer]]:
    """Two processes, one database, one layer."""
    layer = "local"
    if request.param == "redis":
        layer = request.getfixturevalue("redis").url
    database = tmp_path / "db.sqlite3"
    with ExitStack() as stack:
        yield [stack.enter_context(DemoServer(database, DEMO_LAYER=layer)) for _ in range(2)]
    if request.param == "local":
        end_broker(default_place(str(DEMO), f"demo {database}"))


def test_one_process_is_killed_and_the_others_clients_notice_nothing(servers: list[DemoServer], people: Open) -> None:
    here, there = servers
    mira = enter(people(here, "Mira"), "harbour")
    ada = enter(people(here, "Ada"), "harbour")
    tom = enter(people(there, "Tom", expected=LOST), "harbour")

    say(mira, "Which process are you in?")
    expect_said(tom, "Which process are you in?")
    say(tom, "The other one.")
    for page in (mira, ada, tom):
        expect_said(page, "Which process are you in?", "The other one.")
    sockets: list[str] = []
    for page in (mira, ada):
        page.on("websocket", lambda socket: sockets.append(socket.url))
    there.kill()
    say(mira, "Still here?")
    expect_said(ada, "Which process are you in?", "The other one.", "Still here?")
    say(ada, "Of course.")
    expect_said(mira, "Which process are you in?", "The other one.", "Still here?", "Of course.")
    for page in (mira, ada):
        expect_ready(page)
    assert sockets == [], "nobody has connected again"

    there.start()
    expect_said(tom, "Which process are you in?", "The other one.", "Still here?", "Of course.")
    say(tom, "Back again.")
    expect(mira.locator(".bubble").last).to_have_text("Back again.")


def test_all_processes_see_the_same_water_and_one_that_is_killed_takes_nobody_along(
    servers: list[DemoServer], people: Open
) -> None:
    here, there = servers
    mira = people(here, "Mira", expected=LOST)
    tom = people(there, "Tom")
    for page in (mira, tom):
        page.goto("/game/in/regatta/")
        expect(page.locator("[data-scores] .mine")).to_be_visible()
    for page in (mira, tom):
        expect(page.locator("[data-scores]")).to_contain_text("Mira")
        expect(page.locator("[data-scores]")).to_contain_text("Tom")

    here.kill()  # which has run the game: Mira was there first
    expect(tom.locator("[data-scores]")).to_contain_text("Mira (away)")
    tom.get_by_role("application").focus()
    before = tom.evaluate(PICTURE)
    tom.keyboard.down("ArrowUp")
    tom.wait_for_function(f"before => {PICTURE} !== before", arg=before)
    here.start()
    expect(tom.locator("[data-scores]")).not_to_contain_text("(away)")
    expect(mira.locator("[data-scores] li")).to_have_count(tom.locator("[data-scores] li").count())


@pytest.mark.parametrize("servers", ["local"], indirect=True)
def test_nothing_is_lost_or_doubled_and_who_is_here_is_right(servers: list[DemoServer], people: Open) -> None:
    here, there = servers
    ada = enter(people(here, "Ada"), "harbour")
    mira = enter(people(here, "Mira", expected=LOST), "harbour")
    tom = enter(people(there, "Tom", expected=LOST), "harbour")
    # The same person a second time, from the other process: cookies do not know ports.
    second_tab = mira.context.new_page()
    second_tab.goto(f"{there.url}/chat/in/harbour/")
    expect_ready(second_tab)
    for page in (ada, mira, tom, second_tab):
        expect(page.locator("[data-here-count]")).to_have_text("3")

    tom.context.set_offline(True)
    expect(tom.locator("[data-last-known]")).to_be_visible()
    said = [f"without Tom {number}" for number in range(4)]
    for text in said:
        say(ada, text)
    expect_said(second_tab, *said)
    # Longer than a page may take to load again, so he has left for the others.
    expect(ada.locator(NAMES)).to_have_text(["Ada (you)", "Mira"])
    tom.context.set_offline(False)
    expect_said(tom, *said)
    expect(tom.locator(".mark")).to_have_count(0)
    expect(tom.locator("[data-last-known]")).to_be_hidden()
    expect(ada.locator(NAMES)).to_have_text(["Ada (you)", "Mira", "Tom"])

    changes = ada.locator("[data-people]").evaluate_handle(WATCH)
    mira.reload()
    expect_said(mira, *said)
    expect(mira.locator("[data-here-count]")).to_have_text("3")
    there.kill()
    expect(ada.locator(NAMES)).to_have_text(["Ada (you)", "Mira"])
    say(mira, "Tom's process has gone.")
    there.start()
    said.append("Tom's process has gone.")
    for page in (ada, mira, tom, second_tab):
        expect_said(page, *said)
        expect(page.locator("[data-here-count]")).to_have_text("3")
    assert changes.evaluate("seen => seen.every((names) => names.includes('Mira'))"), "she never left"


# What the list of people has been, each time that it changed.
WATCH = """list => {
  const seen = [];
  new MutationObserver(() => seen.push(list.textContent)).observe(list, { childList: true });
  return seen;
}"""
