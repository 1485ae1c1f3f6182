from django.contrib.auth.models import User
from django.test import SimpleTestCase

from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from fairway.testing import VirtualClock

from .consumers import Lobby


class LobbyTests(SimpleTestCase):
    async def enter(self, pk, name):
        page = WebsocketCommunicator(Lobby.as_asgi(), "/lobby/")
        page.scope["user"] = User(pk=pk, username=name)
        await page.connect()
        return page

    async def test_a_page_that_is_loaded_again_has_not_left(self):
        with VirtualClock() as clock:
            mira = await self.enter(1, "mira")
            assert len((await mira.receive_json_from())["members"]) == 1
            tom = await self.enter(2, "tom")
            await clock.advance(0.1)
            assert list((await mira.receive_json_from())["joined"].values()) == [[{"name": "tom"}]]

            await tom.disconnect()
            await clock.advance(2)
            tom = await self.enter(2, "tom")
            await clock.advance(60)
            assert await mira.receive_nothing()

            await tom.disconnect()
            await clock.advance(3)
            assert list((await mira.receive_json_from())["left"].values()) == [[{"name": "tom"}]]
            assert list(await get_channel_layer().presence.members("lobby")) == ["1"]
            await mira.disconnect()
