import os

from playwright.async_api import async_playwright, expect

from channels.testing import ChannelsLiveServerTestCase

expect.set_options(timeout=20_000)  # milliseconds, for machines that are busy


class ChatTests(ChannelsLiveServerTestCase):
    """Two windows of a real browser, and a real server on a port of its own.

    The tests are `async def`: Playwright's event loop then runs while a test does and not around it, where Django
    empties the database.
    """

    async def enter(self, browser, room):
        """Open a window, type the room's name on the first page, and wait until the socket is open."""
        page = await browser.new_page()
        await page.goto(f"{self.live_server_url}/chat/")
        await page.get_by_label("Which room?").fill(room)
        await page.get_by_role("button", name="Enter").click()
        await expect(page.get_by_role("heading", name=room)).to_be_visible()
        await expect(page.get_by_label("Message")).to_be_enabled()
        return page

    async def say(self, page, message):
        await page.get_by_label("Message").fill(message)
        await page.get_by_role("button", name="Send").click()

    async def test_a_message_is_seen_by_everybody_in_the_room(self):
        async with async_playwright() as playwright, await launch(playwright) as browser:
            alice, bob = await self.enter(browser, "harbour"), await self.enter(browser, "harbour")
            await self.say(alice, "hello")
            await expect(alice.locator("#log li")).to_have_text(["hello"])
            await expect(bob.locator("#log li")).to_have_text(["hello"])

    async def test_a_message_is_not_seen_in_another_room(self):
        async with async_playwright() as playwright, await launch(playwright) as browser:
            alice, carol = await self.enter(browser, "harbour"), await self.enter(browser, "lighthouse")
            await self.say(alice, "for the harbour")
            await expect(alice.locator("#log li")).to_have_text(["for the harbour"])
            # Had it come to the other room, it would stand there before this one.
            await self.say(carol, "for the lighthouse")
            await expect(carol.locator("#log li")).to_have_text(["for the lighthouse"])


def launch(playwright):
    """Playwright's own Chromium, or the one that the environment variable CHROMIUM names."""
    return playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM"))
