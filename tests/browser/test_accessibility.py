"""axe-core on every page and state of the demo, in both languages and both themes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import LOST, MISSING, Open
from tests.browser.driving import DemoServer
from tests.browser.test_notifications import FAILED

# Without its own requests: the pages allow none to other hosts.
RUN = """() => axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
  violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 90)).slice(0, 3).join(" | ")}`))"""

PATHS = ["/", "/notifications/", "/game/", "/you/", "/you/login/", "/you/register/", "/speed/", "/source/"]
PATHS += [
    "/source/chat/",
    "/source/notify/demo-static-site-js-live-js/",
    "/source/docs/",
    "/source/docs/docs-howto-broadcast-md/",
    "/nowhere/",
]

FULL = """
from chat.models import Message, Room
from people.models import Person
room = Room.objects.get(slug="harbour")
authors = [Person.objects.create(name=name) for name in ("Narrator", "讲述人")]
for number in range(120):
    author, text = authors[number // 2 % 2], f"{number} https://example.org"
    Message.objects.create(room=room, author=author, text=text, ref=str(number))
"""


@pytest.fixture(scope="module")
def axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def full(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """A server whose harbour has a history."""
    with DemoServer(tmp_path_factory.mktemp("demo") / "db.sqlite3", DEMO_VISITORS="20") as server:
        server.manage("shell", "-c", FULL)
        yield server


def chat(page: Page) -> None:
    page.goto("/chat/in/harbour/")
    expect(page.locator(".mark")).to_be_attached()
    page.locator("[data-text]").fill("Ahoy! 你好！")
    page.locator("[data-text]").press("Enter")
    expect(page.locator(".mine:not(.pending)").last).to_be_visible()
    expect(page.locator("[data-people] li")).not_to_have_count(0)


def empty_chat(page: Page) -> None:
    page.goto("/chat/in/lighthouse/")
    expect(page.locator("[data-nobody-yet]")).to_be_visible()


def refused_room(page: Page) -> None:
    empty_chat(page)
    page.locator(".new-room summary").click()
    page.locator(".new-room button").click()
    expect(page.locator(".error")).to_be_visible()


def refused_note(page: Page) -> None:
    page.goto("/notifications/")
    expect(page.locator("[data-ways]")).to_have_attribute("data-state", "open")
    page.locator("[data-send] button").click()
    expect(page.locator("[data-notice]")).not_to_be_empty()


def full_inbox(page: Page) -> None:
    page.goto("/notifications/")
    expect(page.locator("[data-ways]")).to_have_attribute("data-state", "open")
    page.locator("[data-to]").select_option(index=1)
    page.locator("[data-note]").fill("Ahoy!")
    page.locator("[data-send] button").click()
    expect(page.locator(".note").first).to_be_visible()


def refused_registration(page: Page) -> None:
    page.goto("/you/register/")
    page.locator("main form button").click()
    expect(page.locator(".error").first).to_be_visible()


def crowd(page: Page) -> None:
    page.goto("/speed/")
    page.locator("[data-bring]").click()
    expect(page.locator("[data-notice]")).to_contain_text("20")


def offline_chat(page: Page) -> None:
    chat(page)
    page.context.set_offline(True)
    expect(page.locator("[data-banner]")).to_have_attribute("data-state", "lost")
    page.locator("[data-text]").fill("not yet")
    page.locator("[data-text]").press("Enter")
    expect(page.locator("[data-notice]")).not_to_be_empty()


def back_online(page: Page) -> None:
    page.context.set_offline(False)
    expect(page.locator("[data-again]")).to_be_visible(timeout=20_000)


STATES: list[Callable[[Page], None]] = [
    chat, empty_chat, refused_room, refused_note, full_inbox, refused_registration, crowd, offline_chat, back_online
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("locale", "scheme", "width"),
    # Each language, theme and width once: what axe finds does not depend on how they are combined.
    [("en-GB", "light", 1280), ("zh-CN", "dark", 390)],
)
def test_axe_finds_nothing(full: DemoServer, people: Open, axe: str, locale: str, scheme: str, width: int) -> None:
    options = {"color_scheme": scheme, "locale": locale, "viewport": {"width": width, "height": 850}}
    page = people(full, expected=(MISSING, LOST, FAILED), bypass_csp=True, **options)
    page_faults: list[str] = []

    def look(name: str) -> None:
        page.evaluate(axe)
        page_faults.extend(f"{name}: {violation}" for violation in page.evaluate(RUN))

    for path in PATHS:
        page.goto(path)
        look(path)
    for state in STATES:
        state(page)
        look(state.__name__)

    assert not page_faults, "\n".join(page_faults)
