"""`ChannelsLiveServerTestCase` with a browser, as a project's own tests use it (docs/howto/test-with-a-browser.md)."""

from __future__ import annotations

import os

import pytest
from django.contrib.auth import get_user_model
from django.test import override_settings
from playwright.sync_api import expect, sync_playwright
from tests.browser.driving import BROWSER_FLAGS, find_browser
from tests.browser.needed import needed_browser

from channels.testing import ChannelsLiveServerTestCase


@pytest.fixture(scope="module", autouse=True)
def _needs_browser() -> None:
    needed_browser()


@override_settings(ASGI_APPLICATION="tests.channels.live_site.application", ROOT_URLCONF="tests.channels.live_site")
class RollCallTests(ChannelsLiveServerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Playwright keeps an event loop in this thread, next to which Django refuses to use the database. Set after
        # the server has started: in its process the refusal finds mistakes.
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
        cls.addClassCleanup(os.environ.pop, "DJANGO_ALLOW_ASYNC_UNSAFE")
        playwright = sync_playwright().start()
        cls.addClassCleanup(playwright.stop)
        cls.browser = playwright.chromium.launch(executable_path=find_browser(), args=BROWSER_FLAGS)
        cls.addClassCleanup(cls.browser.close)

    def open(self, path, user=None):
        """A page in a window of its own, of somebody who is logged in."""
        window = self.browser.new_context(base_url=self.live_server_url)
        self.addCleanup(window.close)
        if user is not None:
            self.client.force_login(user)
            cookie = {"name": "sessionid", "value": self.client.cookies["sessionid"].value}
            window.add_cookies([{**cookie, "url": self.live_server_url}])
        page = window.new_page()
        page.goto(path)
        return page

    def test_page_says_who_is_there(self):
        mira = get_user_model().objects.create_user("mira")
        answer = self.open("/", user=mira).locator("li")

        expect(answer).to_have_text('{"exists": true, "asked by": "mira"}')

    def test_users_are_gone_after_each_test(self):
        answer = self.open("/").locator("li")

        expect(answer).to_have_text('{"exists": false, "asked by": ""}')
