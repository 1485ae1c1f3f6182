"""Pictures of every page and state of the demo in four sizes, light and dark, English and Chinese.

    python -m tests.browser.screenshots FOLDER [NAME]

A NAME (part of a file's name, for example ``chat-phone``) takes only those pictures.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.browser.driving import BROWSER_FLAGS, DemoServer, find_browser
from tests.browser.states import Visit, parts

PATIENCE = 60_000  # milliseconds: a machine may have other things to do
SCHEMES = ["light", "dark"]
SIZES = {
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "is_mobile": True,
        "has_touch": True,
        "device_scale_factor": 2,
    },
    "desktop": {"viewport": {"width": 1440, "height": 900}},
    "landscape": {
        "viewport": {"width": 844, "height": 390},
        "is_mobile": True,
        "has_touch": True,
        "device_scale_factor": 2,
    },
    # A window of 1280 by 900 whose page is enlarged to 200 %.
    "zoom": {"viewport": {"width": 640, "height": 450}, "device_scale_factor": 2},
}
LOCALES = {"en": "en-GB", "zh": "zh-CN"}
TALK = {
    "en": [
        ("Mira", "Good morning! Has anyone seen the pilot boat?"),
        ("Tom", "It passed the red buoy ten minutes ago."),
        ("Tom", "Heading for the harbour."),
        ("Mira", "Thank you. We wait at the green one, then follow the deep water all the way in, slowly."),
    ],
    "zh": [
        ("米拉", "早上好！有人看见引航船了吗？"),
        ("小汤", "十分钟前它经过了红浮标。"),
        ("小汤", "正往港湾去。"),
        ("米拉", "谢谢。我们在绿浮标那里等，然后沿着深水慢慢进港。"),
    ],
}


# Enough of it that there are earlier messages; half of them are of yesterday.
HISTORY = """
from datetime import timedelta
from chat.models import Message, Room
from people.models import Person
from django.utils import timezone
room = Room.objects.get(slug="harbour")
authors = {name: Person.objects.create(name=name) for name in sorted({name for name, _ in talk})}
for number in range(30):
    for index, (name, text) in enumerate(talk):
        ref = f"{number} {index}"
        Message.objects.create(room=room, author=authors[name], text=text, ref=ref)
Message.objects.filter(pk__lte=100).update(sent_at=timezone.now() - timedelta(days=1))
"""


class Photographer:
    """Takes the pictures whose names contain the word, of one language in one size. A state that does not come about is
    named, and the next part goes on: beside other work something may take longer than anybody waits.
    """

    def __init__(self, folder: Path, wanted: str) -> None:
        self.folder = folder
        self.wanted = wanted
        self.failed: list[str] = []

    def photograph(self, browser: Browser, server: DemoServer, size: str, language: str) -> None:
        def come(**more: Any) -> Page:
            options = {"base_url": server.url, "locale": LOCALES[language], "reduced_motion": "reduce"}
            context = contexts.enter_context(browser.new_context(**options, **SIZES[size], **more))
            context.set_default_timeout(PATIENCE)
            return context.new_page()

        for part, states in parts().items():
            names = [f"{name}-{size}-{{}}-{language}" for name in states]
            if not any(self.is_wanted(name.format(scheme)) for name in names for scheme in SCHEMES):
                continue
            try:
                with ExitStack() as contexts:
                    visit = Visit(server, come(), come)
                    for name, state in zip(names, states.values(), strict=True):
                        self.take(state(visit), name)
            except Exception as error:
                self.failed.append(f"{part}-{size}-{language}, after {name}: {error}")
                server.restart()

    def take(self, page: Page, name: str) -> None:
        for scheme in SCHEMES:
            if self.is_wanted(name.format(scheme)):
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=self.folder / f"{name.format(scheme)}.png")

    def is_wanted(self, name: str) -> bool:
        return self.wanted in name


def main(folder: str, wanted: str = "") -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE)
    photographer = Photographer(Path(folder), wanted)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=BROWSER_FLAGS)
        for language in LOCALES:
            with DemoServer(Path(scratch) / f"{language}.sqlite3", DEMO_VISITORS="100") as server:
                server.manage("shell", "-c", f"talk = {TALK[language]}\n{HISTORY}")
                for size in SIZES:
                    photographer.photograph(browser, server, size, language)
                    print(f"{size}, {language}: done", flush=True)
        browser.close()
    sys.exit("\n".join(photographer.failed) or 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
