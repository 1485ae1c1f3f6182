"""axe-core on every page and state of the demo, in both languages, both themes, and windows of four sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, ViewportSize
from tests.browser.axe import RUN, SOURCE
from tests.browser.conftest import INSPECTION, Open
from tests.browser.driving import DemoServer
from tests.browser.states import EXPECTED, Visit, parts

# What depends on the theme, or on the size of the window.
LOOKS = ["color-contrast", "scrollable-region-focusable", "target-size"]

# Scripts that observe sizes hear of a new one with the next frame. Toasts rise, and what rises is not yet to be judged.
# What turns or bobs for ever is.
AT_REST = """async () => {
  for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
  await Promise.all(document.getAnimations()
    .filter((each) => each.effect.getComputedTiming().iterations !== Infinity)
    .map((each) => each.finished));
}"""

HISTORY = """
from chat.models import Message, Room
from people.models import Person
room = Room.objects.get(slug="harbour")
authors = [Person.objects.create(name=name) for name in ("Narrator", "讲述人")]
for number in range(120):
    author, text = authors[number // 2 % 2], f"{number} https://example.org"
    Message.objects.create(room=room, author=author, text=text, ref=str(number))
"""

DESKTOP, ZOOMED = ViewportSize(width=1280, height=850), ViewportSize(width=640, height=425)
PORTRAIT, LANDSCAPE = ViewportSize(width=390, height=844), ViewportSize(width=844, height=390)
TOUCH = {"is_mobile": True, "has_touch": True}

# Each language and theme; what axe finds does not depend on how they are combined. Each window is also looked at as
# another one: enlarged to 200 %, or turned.
WINDOWS = {
    "desktop": (DESKTOP, ZOOMED, {"locale": "en-GB", "color_scheme": "light"}),
    "phone": (
        PORTRAIT,
        LANDSCAPE,
        {"locale": "zh-CN", "color_scheme": "dark", "reduced_motion": "no-preference", **TOUCH},
    ),
}


@pytest.fixture(scope="module")
def full(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """A server whose harbour has a history."""
    with DemoServer(tmp_path_factory.mktemp("demo") / "db.sqlite3", DEMO_VISITORS="20") as server:
        server.manage("shell", "-c", HISTORY)
        yield server


class Looker:
    """What axe, and our own inspection, say of a page in one window and theme, and of what the other ones change."""

    def __init__(self, window: ViewportSize, other: ViewportSize, scheme: str) -> None:
        self.window = window
        self.other = other
        self.scheme = scheme

    def look(self, page: Page) -> list[str]:
        page.evaluate(AT_REST)
        if not page.evaluate("'axe' in window"):
            page.evaluate(SOURCE)
        faults = self.faults(page, None)
        page.set_viewport_size(self.other)
        page.emulate_media(color_scheme="light" if self.scheme == "dark" else "dark")
        page.evaluate(AT_REST)
        faults += self.faults(page, LOOKS)
        page.emulate_media(color_scheme=self.scheme)
        page.set_viewport_size(self.window)
        return faults

    def faults(self, page: Page, rules: list[str] | None) -> list[str]:
        return [*page.evaluate(RUN, rules), *page.evaluate(INSPECTION)]


@pytest.mark.slow
@pytest.mark.patient
@pytest.mark.timeout(300)  # a part of the demo is some twenty states
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("part", parts())
def test_axe_finds_nothing(full: DemoServer, people: Open, part: str, window: str) -> None:
    size, other, options = WINDOWS[window]
    looker = Looker(size, other, options["color_scheme"])

    def come(**more: Any) -> Page:
        return people(full, expected=EXPECTED, bypass_csp=True, viewport=size, **options, **more)

    visit = Visit(full, come(), come)
    try:
        faults = [f"{name}: {fault}" for name, state in parts()[part].items() for fault in looker.look(state(visit))]
    except BaseException:
        full.restart()  # it may stand still
        raise

    assert not faults, "\n".join(faults)
