"""The picture of the READMEs: the chat on a desktop and the game on a phone, photographed from the demo.

    python -m tests.browser.readme_picture [FOLDER]

Writes `demo-en.png` and `demo-zh.png` into the folder (default: docs/images).
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.browser.driving import BROWSER_FLAGS, DemoServer, find_browser
from tests.browser.screenshots import LOCALES, TALK

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
DESKTOP = {"viewport": {"width": 1180, "height": 660}}
PHONE = {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True}
RIVAL = {"en": "Ada", "zh": "阿达"}
SHARP = {"device_scale_factor": 2, "reduced_motion": "reduce"}

# Two pictures on one page, which is photographed in its turn: no library for images is needed.
PAGE = """
<style>
  body {{ margin: 0; width: 1280px; height: 700px; position: relative; background: transparent }}
  img {{ position: absolute; box-shadow: 0 12px 40px rgb(7 36 46 / .35); background: #fff }}
  .desktop {{ left: 16px; top: 24px; width: 1000px; border-radius: 12px }}
  .phone {{ right: 24px; bottom: 24px; width: 290px; border-radius: 28px; border: 6px solid #10242c }}
</style>
<img class="desktop" src="data:image/png;base64,{desktop}">
<img class="phone" src="data:image/png;base64,{phone}">
"""


def name_them(page: Page, url: str, name: str) -> None:
    page.goto(f"{url}/you/")
    page.locator("[name=name]").fill(name)
    page.locator("main form button").first.click()
    expect(page.locator("[data-my-name]")).to_have_text(name)


def talk(pages: dict[str, Page], url: str, language: str) -> None:
    for page in pages.values():
        page.goto(f"{url}/chat/in/harbour/")
        expect(page.locator("[data-log]")).to_have_attribute("aria-busy", "false")
    for count, (name, words) in enumerate(TALK[language], start=1):
        pages[name].locator("[data-text]").fill(words)
        pages[name].locator("[data-text]").press("Enter")
        for page in pages.values():
            expect(page.locator(".message:not(.pending)")).to_have_count(count)


def photograph(browser: Browser, language: str) -> bytes:
    """The picture with the texts of one language."""
    names = list(dict.fromkeys(name for name, _ in TALK[language]))
    locale = LOCALES[language]
    with tempfile.TemporaryDirectory() as scratch, DemoServer(Path(scratch) / "db.sqlite3") as server:
        desktop = browser.new_context(locale=locale, color_scheme="light", **DESKTOP, **SHARP).new_page()
        phone = browser.new_context(locale=locale, color_scheme="dark", **PHONE, **SHARP).new_page()
        people: dict[str, Page] = dict(zip(names, (desktop, phone), strict=True))
        for name, page in people.items():
            name_them(page, server.url, name)
        talk(people, server.url, language)
        pictures = {"desktop": desktop.screenshot()}
        rival = browser.new_context(locale=locale).new_page()
        name_them(rival, server.url, RIVAL[language])
        for page in (rival, phone):
            page.goto(f"{server.url}/game/")
            expect(page.locator(".scores .mine")).to_be_visible()
        expect(phone.locator(".scores")).to_contain_text(RIVAL[language])
        pictures["phone"] = phone.screenshot()
    shown = {name: base64.b64encode(picture).decode() for name, picture in pictures.items()}
    board = browser.new_context(viewport={"width": 1280, "height": 700}).new_page()
    board.set_content(PAGE.format(**shown))
    return board.screenshot(omit_background=True)


def main(folder: str = str(FOLDER)) -> None:
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=BROWSER_FLAGS)
        for language in LOCALES:
            (Path(folder) / f"demo-{language}.png").write_bytes(photograph(browser, language))
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
