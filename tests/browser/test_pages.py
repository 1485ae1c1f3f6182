"""What holds for every page: languages, names of controls, contrast, no sideways scrolling, accounts, keyboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import INSPECTION, MISSING, Open
from tests.browser.driving import DemoServer

PAGES = ["/", "/chat/in/harbour/", "/notifications/", "/game/", "/you/", "/you/login/", "/you/register/"]
PAGES += ["/speed/", "/source/", "/source/chat/", "/source/docs/", "/source/docs/docs-howto-broadcast-md/"]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1440, "height": 900}}


def settle(page: Page, path: str) -> None:
    page.goto(path)
    if "/chat/in/" in path:
        expect(page.locator("[data-people] li")).to_have_count(1)
    if path == "/game/":
        expect(page.locator(".scores .mine")).to_be_visible()
    if path == "/notifications/":
        expect(page.locator("[data-empty]")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pages_are_readable_and_named(server: DemoServer, people: Open, size: dict[str, object], scheme: str) -> None:
    page = people(server, color_scheme=scheme, **size)

    for path in PAGES:
        settle(page, path)
        assert page.evaluate(INSPECTION) == [], f"on {path}"


def test_pages_follow_the_browsers_language_and_can_be_switched(server: DemoServer, people: Open) -> None:
    page = people(server, locale="zh-CN")
    page.goto("/chat/in/lighthouse/")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    expect(page.get_by_role("navigation", name="房间").locator("[aria-current]")).to_contain_text("灯塔")
    expect(page.locator(".log .empty")).to_have_text("还没有消息，打个招呼吧。")

    page.get_by_role("button", name="English").click()

    expect(page).to_have_url(f"{server.url}/chat/in/lighthouse/")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator(".log .empty")).to_have_text("No messages yet. Say hello.")
    page.goto("/game/")
    expect(page.get_by_role("heading", name="Scores")).to_be_visible()
    page.get_by_role("button", name="简体").click()
    expect(page.get_by_role("heading", name="得分")).to_be_visible()


def test_a_guest_registers_logs_out_and_logs_in(server: DemoServer, people: Open) -> None:
    page = people(server, "Mira")
    name = page.locator("[data-my-name]")

    page.goto("/you/register/")
    page.get_by_label("Username").fill("mira.of.the.sea")
    page.get_by_label("Password", exact=True).fill("deep-water-7")
    page.get_by_label("Password confirmation").fill("deep-water-7")
    page.get_by_role("button", name="Register").click()
    expect(name).to_have_text("mira.of.the.sea")

    page.goto("/you/")
    page.get_by_role("button", name="Log out").click()
    expect(name).not_to_have_text("mira.of.the.sea")

    page.goto("/you/login/")
    page.get_by_label("Username").fill("mira.of.the.sea")
    page.get_by_label("Password").fill("deep-water-7")
    page.get_by_role("button", name="Log in").click()
    expect(name).to_have_text("mira.of.the.sea")


def test_the_keyboard_alone_is_enough(server: DemoServer, people: Open) -> None:
    page = people(server)
    settle(page, "/chat/in/open-water/")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    rooms = page.get_by_role("navigation", name="Rooms").get_by_role("link")
    for room in rooms.all():
        expect(room).to_be_focused()
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Room name")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.type("#%")
    page.keyboard.press("Enter")
    expect(page.locator(".error")).to_be_visible()
    expect(page.get_by_label("Room name")).to_be_focused()
    page.go_back()
    expect(page.locator("[data-people] li")).to_have_count(1)
    page.locator(".new-room summary").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("log", name="Messages")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")

    expect(page.locator(".bubble")).to_have_text(["by keyboard"])


def test_the_documentation_is_read_in_the_demo(server: DemoServer, people: Open) -> None:
    page = people(server, **PHONE)
    page.goto("/")
    page.get_by_role("link", name="Documentation").click()

    page.get_by_role("article").get_by_role("link", name="Leave Daphne").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Leave Daphne")
    expect(page.get_by_role("navigation", name="Documentation").locator("[aria-current]")).to_have_text("Leave Daphne")
    code = page.locator(".document pre")
    wide = code.evaluate_all("boxes => boxes.map((box) => box.scrollWidth > box.clientWidth)")
    assert True in wide
    assert False in wide
    for number, is_wide in enumerate(wide):
        # A keyboard reaches what it has to scroll, and is not stopped by what it has not.
        expect(code.nth(number)).to_have_js_property("tabIndex", 0 if is_wide else -1)
    page.get_by_role("article").get_by_role("link", name="中文").first.click()
    expect(page.get_by_role("article")).to_have_attribute("lang", "zh-Hans")
    expect(page.get_by_role("heading", level=1)).to_have_text("从 Daphne 迁移")


def test_an_unknown_page_is_one_of_ours(server: DemoServer, people: Open) -> None:
    page = people(server, expected=MISSING)
    page.goto("/nowhere/")

    expect(page.get_by_role("heading", name="Page not found")).to_be_visible()
    page.get_by_role("link", name="Back to the start").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Real time for Django")


def test_a_form_that_has_expired_says_so_in_the_visitors_language(server: DemoServer, people: Open) -> None:
    page = people(server, locale="zh-CN", expected="403 (Forbidden)")
    page.goto("/you/")
    page.locator("main [name=csrfmiddlewaretoken]").first.evaluate("field => (field.value = 'stale')")
    page.get_by_role("button", name="保存").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("表单")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
