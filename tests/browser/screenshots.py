"""Pictures of every page of the demo in four sizes, light and dark, English and Chinese.

    python -m tests.browser.screenshots FOLDER [NAME]

A NAME (part of a file's name, for example ``chat-phone``) takes only those pictures.
"""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.browser.driving import BROWSER_FLAGS, DemoServer, find_browser

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


def chat(page: Page, url: str) -> None:
    page.goto(f"{url}/chat/in/harbour/")
    page.locator("[data-text]").fill("Ahoy! 你好！")
    page.locator("[data-text]").press("Enter")
    expect(page.locator(".pending")).to_have_count(0)
    expect(page.locator(".mine").last).to_be_visible()


def empty_chat(page: Page, url: str) -> None:
    page.goto(f"{url}/chat/in/lighthouse/")
    expect(page.locator(".log .empty")).to_be_visible()
    page.locator(".new-room summary").click()
    page.locator("[name=name]").fill("#%")
    page.locator(".new-room form button").click()
    expect(page.locator(".error")).to_be_visible()


def inbox(page: Page, url: str) -> None:
    page.goto(f"{url}/notifications/")
    expect(page.locator("[data-to] option").nth(1)).to_be_attached()
    # What one sends to everyone is no news to oneself.
    me = page.evaluate("JSON.parse(document.querySelector('#config').textContent).me")
    page.locator("[data-to]").select_option(str(me))
    page.locator("[data-note]").fill("Ahoy! 你好！")
    page.locator("[data-send] button").click()
    expect(page.locator(".note").first).to_be_visible()
    expect(page.locator(".toast").first).to_be_visible()


def empty_inbox(page: Page, url: str) -> None:
    page.goto(f"{url}/notifications/")
    expect(page.locator("[data-empty]")).to_be_visible()


def polled_inbox(page: Page, url: str) -> None:
    page.goto(f"{url}/notifications/")
    page.locator("[name=way][value=poll]").check()
    expect(page.locator("[data-ways]")).to_have_attribute("data-state", "open")
    expect(page.locator(".note").first).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")


def game(page: Page, url: str) -> None:
    page.goto(f"{url}/game/")
    expect(page.locator(".scores .mine")).to_be_visible()
    page.locator("[data-where]").click()
    expect(page.locator("[data-announce]")).not_to_be_empty()


def speed(page: Page, url: str) -> None:
    page.goto(f"{url}/speed/")
    page.locator("[data-bring]").click()
    expect(page.locator("[data-spark]")).to_have_attribute("points", re.compile(r"(\S+ ){4}"))


def plain(path: str) -> Callable[[Page, str], None]:
    def visit(page: Page, url: str) -> None:
        page.goto(f"{url}{path}")

    return visit


def bad_register(page: Page, url: str) -> None:
    page.goto(f"{url}/you/register/")
    page.locator("[name=username]").fill("mira")
    page.locator("[name=password1]").fill("12345")
    page.locator("[name=password2]").fill("12345")
    page.locator("main form button").click()
    expect(page.locator(".error").first).to_be_visible()


PAGES: dict[str, Callable[[Page, str], None]] = {
    "home": plain("/"),
    "inbox-empty": empty_inbox,
    "chat": chat,
    "chat-empty": empty_chat,
    "inbox": inbox,
    "inbox-polled": polled_inbox,
    "game": game,
    "you": plain("/you/"),
    "login": plain("/you/login/"),
    "register": bad_register,
    "speed": speed,
    "source": plain("/source/"),
    "source-file": plain("/source/chat/"),
    "source-docs": plain("/source/docs/"),
    "404": plain("/nowhere/"),
}


def context(browser: Browser, size: str, scheme: str, language: str) -> BrowserContext:
    return browser.new_context(color_scheme=scheme, locale=LOCALES[language], reduced_motion="reduce", **SIZES[size])


def photograph(browser: Browser, folder: Path, wanted: str, language: str) -> None:
    with tempfile.TemporaryDirectory() as scratch, DemoServer(Path(scratch) / "db.sqlite3") as server:
        partner = context(browser, "desktop", "light", language)
        names = list(dict.fromkeys(name for name, _ in TALK[language]))
        others = {name: partner.browser.new_context(locale=LOCALES[language]).new_page() for name in names}
        for name, page in others.items():
            name_them(page, server.url, name)
        talk(others, server.url, language)
        others[names[0]].goto(f"{server.url}/game/")
        for size, scheme in itertools.product(SIZES, ["light", "dark"]):
            visitor = context(browser, size, scheme, language)
            page = visitor.new_page()
            for name, visit in PAGES.items():
                file = f"{name}-{size}-{scheme}-{language}.png"
                if wanted not in file:
                    continue
                visit(page, server.url)
                page.screenshot(path=folder / file)
            if wanted in f"lost-{size}-{scheme}-{language}":
                chat(page, server.url)
                server.stop()
                expect(page.locator("[data-banner]")).to_be_visible()
                page.screenshot(path=folder / f"lost-{size}-{scheme}-{language}.png")
                server.start()
            visitor.close()


def main(folder: str, wanted: str = "") -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=BROWSER_FLAGS)
        for language in LOCALES:
            photograph(browser, Path(folder), wanted, language)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
