"""axe-core on pages of the documentation site, as `make docs` has made them in build/site.

Where the site was not made, the tests are skipped and say so; with FAIRWAY_REQUIRE_SITE=1 they fail instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page
from tests.browser.axe import RUN, SOURCE
from tests.browser.needed import launched
from tests.docs.pages import ROOT

BUILT = ROOT / "build" / "site"
WINDOWS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}
# The front page, and one of each kind: index, how-to, code that is wide, tables, API, what a search has found.
PAGES = (
    "index.html",
    "en/docs/site/index.html", "en/README.html", "en/docs/howto/make-a-game.html", "en/docs/howto/deploy.html",
    "en/docs/ref/settings.html", "en/docs/ref/compatibility.html", "en/docs/site/api/fairway.html", "en/CHANGELOG.html",
    "en/search.html?q=layer",
    "zh/docs/site/index.zh-CN.html", "zh/README.zh-CN.html", "zh/docs/howto/make-a-game.zh-CN.html",
    "zh/docs/ref/compatibility.zh-CN.html", "zh/search.html?q=layer",
)  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.slow]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # a page that is left takes no more


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if not (BUILT / "index.html").exists():
        is_required = os.environ.get("FAIRWAY_REQUIRE_SITE") == "1"
        (pytest.fail if is_required else pytest.skip)("no site in build/site: run `make docs`")
    with Server(("127.0.0.1", 0), partial(Quiet, directory=BUILT)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module", params=WINDOWS)
def page(address: str, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    with browser.new_context(base_url=address, **WINDOWS[request.param]) as window:
        yield window.new_page()


@pytest.mark.parametrize("place", PAGES)
def test_axe_finds_nothing(page: Page, place: str) -> None:
    answer = page.goto(place)
    assert answer is not None
    assert answer.ok
    if "search" in place:
        page.locator("#search-results li").first.wait_for()
    page.evaluate(SOURCE)
    assert page.evaluate(RUN, None) == []
