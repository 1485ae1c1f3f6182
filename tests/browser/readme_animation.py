"""The moving picture of the READMEs: two people talk, then play, each in a window of their own.

    python -m tests.browser.readme_animation [FOLDER]

Writes `demo-en.webp` and `demo-zh.webp` into the folder (default: docs/images). Needs Chromium, and ImageMagick with
WebP.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.browser.driving import BROWSER_FLAGS, DemoServer, find_browser
from tests.browser.readme_picture import FOLDER, name_them
from tests.browser.screenshots import LOCALES, TALK

LEFT = {"viewport": {"width": 620, "height": 560}, "color_scheme": "light"}
RIGHT = {"viewport": {"width": 320, "height": 560}, "color_scheme": "dark", "is_mobile": True, "has_touch": True}
GAP = 20
MOST_BYTES = 600_000
GAME_FRAMES = 24
STEERED = ("ArrowUp", "ArrowLeft")


@dataclass(frozen=True)
class Frame:
    """Both windows at one moment, and for how many hundredths of a second they are shown."""

    windows: tuple[bytes, bytes]
    duration: int


def frame(pages: list[Page], duration: int) -> Frame:
    left, right = (page.screenshot(animations="allow") for page in pages)
    return Frame((left, right), duration)


def talking(pages: list[Page], people: list[str], language: str, url: str) -> Iterator[Frame]:
    for page in pages:
        page.goto(f"{url}/chat/in/harbour/")
        expect(page.locator("[data-log]")).to_have_attribute("aria-busy", "false")
    yield frame(pages, 80)
    for count, (name, words) in enumerate(TALK[language], start=1):
        page = pages[people.index(name)]
        for end in (len(words) // 2, len(words)):
            page.locator("[data-text]").fill(words[:end])
            yield frame(pages, 40)
        page.locator("[data-text]").press("Enter")
        for each in pages:
            expect(each.locator(".message:not(.pending)")).to_have_count(count)
        yield frame(pages, 110)


def playing(pages: list[Page], url: str) -> Iterator[Frame]:
    for page in pages:
        page.goto(f"{url}/game/")
        expect(page.locator(".scores .mine")).to_be_visible()
        page.locator("canvas").first.click()
    for page in pages:
        for key in STEERED:
            page.keyboard.down(key)
    for count in range(GAME_FRAMES):
        if count == GAME_FRAMES // 3:
            for page in pages:
                page.keyboard.up(STEERED[1])
        yield frame(pages, 14)


def film(browser: Browser, language: str) -> list[Frame]:
    people = list(dict.fromkeys(name for name, _ in TALK[language]))
    with tempfile.TemporaryDirectory() as scratch, DemoServer(Path(scratch) / "db.sqlite3") as server:
        windows = [browser.new_context(locale=LOCALES[language], **size) for size in (LEFT, RIGHT)]
        pages = [window.new_page() for window in windows]
        for page, name in zip(pages, people, strict=True):
            name_them(page, server.url, name)
        frames = [*talking(pages, people, language, server.url), *playing(pages, server.url)]
        for window in windows:
            window.close()
    return frames


def put_together(frames: list[Frame], target: Path) -> None:
    """One animation of all frames, the two windows beside each other."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["convert", "-loop", "0", "-background", "#e8eef0"]
        for number, each in enumerate(frames):
            names = [f"{scratch}/{number}-{side}.png" for side in ("left", "right")]
            for name, window in zip(names, each.windows, strict=True):
                Path(name).write_bytes(window)
            border = ["-bordercolor", "#e8eef0", "-border", str(GAP // 2)]
            command += ["-delay", str(each.duration), "(", *names, *border, "+append", "+repage", ")"]
        subprocess.run([*command, "-quality", "60", "-define", "webp:method=6", str(target)], check=True)
    size = target.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{target} has {size:,} bytes, and may have {MOST_BYTES:,}")
    print(f"{target}: {len(frames)} frames, {size:,} bytes")


def main(folder: str = str(FOLDER)) -> None:
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=BROWSER_FLAGS)
        for language in LOCALES:
            put_together(film(browser, language), Path(folder) / f"demo-{language}.webp")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
