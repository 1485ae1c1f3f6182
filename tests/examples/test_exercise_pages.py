"""The pages of the tutorial and of its exercises in a real browser: what is typed, chosen and pressed arrives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.examples.running import FAIRWAY, copy_project, running

SOCKETS_OPEN = "() => chatSocket.readyState === WebSocket.OPEN"

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def open_pages(browser: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[Page]]:
    """Two people, each with a browser context of their own, on the page with this test's exercises applied."""
    with running(FAIRWAY, copy_project(tmp_path / "project", *request.param)) as server:
        address = f"http://127.0.0.1:{server.port()}/"
        pages = [browser.new_context().new_page() for _ in range(2)]
        for page in pages:
            page.goto(address)
            page.wait_for_function(SOCKETS_OPEN)
        yield pages
        for page in pages:
            page.context.close()


def say(page: Page, text: str) -> None:
    page.fill("#chat-message-input", text)
    page.click("#chat-message-submit")


@pytest.mark.parametrize("open_pages", [()], ids=["printed"], indirect=True)
def test_on_the_printed_page_a_message_comes_back(open_pages: list[Page]) -> None:
    alice, bob = open_pages
    say(alice, "hello")
    expect(alice.locator("#chat-log")).to_have_text("hello")
    expect(bob.locator("#chat-log")).to_be_empty()


@pytest.mark.parametrize("open_pages", [("1-rooms.diff",)], ids=["rooms"], indirect=True)
def test_a_room_is_chosen_by_the_drop_down_and_messages_are_shown_as_text(open_pages: list[Page]) -> None:
    alice, bob = open_pages
    say(alice, "<b>bold</b>")
    expect(bob.locator("#chat-log")).to_have_text("<b>bold</b>")
    bob.select_option("#chat-room", "music")
    expect(bob.locator("#chat-log")).to_be_empty()
    bob.wait_for_function(SOCKETS_OPEN)
    say(alice, "for the lobby")
    expect(alice.locator("#chat-log")).to_contain_text("for the lobby")
    say(bob, "marker")
    expect(bob.locator("#chat-log")).to_have_text("marker")


@pytest.mark.parametrize("open_pages", [("2-notifications.diff",)], ids=["notifications"], indirect=True)
def test_the_button_sends_a_notification_to_everyone(open_pages: list[Page]) -> None:
    alice, bob = open_pages
    for page in open_pages:
        page.wait_for_function("() => notificationSocket.readyState === WebSocket.OPEN")
    alice.fill("#chat-message-input", "lunch")
    alice.click("#notification-submit")
    expect(bob.locator("#notification-log")).to_have_text("lunch")
    expect(alice.locator("#notification-log")).to_have_text("lunch")
    expect(bob.locator("#chat-log")).to_be_empty()
