"""Four in a row in real browsers, over several processes: reloads, a process that is killed, one that hangs."""

from __future__ import annotations

import os
import re
import secrets
import signal
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.examples.running import ROOT, Running, running

FOUR = [sys.executable, "-m", "fairway", "examples.four.site:application", "--port", "0", "--workers", "2"]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(FOUR, ROOT) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: Running) -> str:
    return f"http://127.0.0.1:{server.port()}"


@pytest.fixture
def place() -> str:
    """A game of its own: one of another run may have been kept."""
    return f"garden-{secrets.token_hex(4)}"


@pytest.fixture
def people(browser: Browser) -> Iterator[list[BrowserContext]]:
    people = [browser.new_context() for _ in range(3)]
    yield people
    for person in people:
        person.close()


def opened(person: BrowserContext, address: str) -> Page:
    page = person.new_page()
    page.goto(address)
    return page


def says(page: Page, text: str, within: float = 20) -> None:
    expect(page.get_by_role("status")).to_have_text(re.compile(text), timeout=within * 1000)


def drop(page: Page, column: int) -> None:
    page.locator("#board button").nth(column).click()


def test_two_play_and_one_looks_on(address: str, place: str, people: list[BrowserContext]) -> None:
    mira = opened(people[0], f"{address}/{place}/")
    says(mira, "You are red. A seat is free")
    tom = opened(people[1], f"{address}/{place}/")
    says(tom, "You are yellow. It is red's turn")
    zoe = opened(people[2], f"{address}/{place}/")
    says(zoe, "You look on")
    drop(mira, 3)
    says(tom, "It is your turn")
    tom.reload()
    says(tom, "You are yellow. It is your turn")
    second = opened(people[1], f"{address}/{place}/")
    says(second, "You are yellow. It is your turn")
    drop(second, 0)
    for page, column in ((mira, 3), (tom, 0), (mira, 3), (second, 0), (mira, 3)):
        says(page, "your turn")
        drop(page, column)
    for page in (mira, tom, second, zoe):
        says(page, "red has won")
    mira.get_by_role("button", name="Once more").click()
    tom.get_by_role("button", name="Once more").click()
    says(zoe, "You look on. It is yellow's turn")


def clicked_until(page: Page, text: str, other: Page, column: int) -> None:
    """What is clicked while a page does not know yet that its server hangs is lost: one clicks again, as people do."""
    for _ in range(20):
        drop(other, column)
        try:
            says(page, text, within=2)
        except AssertionError:
            continue
        return
    says(page, text)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_what_all_have_seen_outlives_a_process(
    server: Running, address: str, place: str, people: list[BrowserContext], blow: signal.Signals
) -> None:
    mira = opened(people[0], f"{address}/{place}/")
    says(mira, "You are red")
    entered = server.find(rf"\[(\d+)\] INFO .*WS /{place}/. connected")
    assert entered
    tom = opened(people[1], f"{address}/{place}/")
    says(tom, "You are yellow")
    drop(mira, 3)
    expect(tom.locator("#board .red")).to_have_count(1)
    os.kill(int(entered[1]), blow)  # the first one who came runs the room
    try:
        says(tom, "You are yellow. It is your turn")
        clicked_until(mira, "You are red. It is your turn", tom, 3)
        expect(mira.locator("#board .red, #board .yellow")).to_have_count(2)
    finally:
        if blow is signal.SIGSTOP:
            os.kill(int(entered[1]), signal.SIGCONT)
