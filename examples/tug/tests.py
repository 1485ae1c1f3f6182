import json
from types import SimpleNamespace

from django.test import SimpleTestCase

from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from fairway.testing import VirtualClock

from .rooms import GOAL, Tug
from .routing import websocket_urlpatterns


class RulesTests(SimpleTestCase):
    async def test_whoever_pulls_harder_wins(self):
        tug = Tug("tug.test")
        await tug.begin(None)
        for who in ("mira", "tom"):
            await tug.receive({"who": who, "pull": False})
        for _ in range(GOAL):
            await tug.receive({"who": "tom", "pull": True})
            await tug.tick(tug.step)
        assert tug.wins == {"left": 0, "right": 1}

    async def test_a_quick_finger_is_not_a_program(self):
        tug = Tug("tug.test")
        await tug.begin(None)
        for _ in range(1000):
            await tug.receive({"who": "mira", "pull": True})
        await tug.tick(tug.step)
        assert tug.rope == -2

    async def test_another_process_goes_on_with_it(self):
        tug, other = Tug("tug.test"), Tug("tug.test")
        await tug.begin(None)
        await tug.receive({"who": "mira", "pull": True})
        await tug.tick(tug.step)
        await other.begin(json.loads(json.dumps(tug.save())))
        assert (other.rope, other.teams) == (-1, {"mira": "left"})


async def page(name):
    async def signed_in(scope, receive, send):
        user = SimpleNamespace(username=name, pk=name, is_authenticated=True)
        await URLRouter(websocket_urlpatterns)({**scope, "user": user}, receive, send)

    page = WebsocketCommunicator(signed_in, "tug/garden/")
    await page.connect()
    return page


async def heard(page, **wanted):
    while True:
        message = await page.receive_json_from()
        if wanted.items() <= message.items():
            return message


class PagesTests(SimpleTestCase):
    async def test_two_players_and_one_who_comes_back(self):
        mira, tom = await page("mira"), await page("tom")
        await tom.send_json_to("pull")
        await heard(mira, rope=1)
        await tom.disconnect()
        tom = await page("tom")
        await heard(tom, rope=1, teams={"mira": "left", "tom": "right"})
        await mira.disconnect()
        await tom.disconnect()


class ClockTests(SimpleTestCase):
    async def test_somebody_who_is_alone_may_come_back_for_half_a_minute(self):
        with VirtualClock() as clock:
            for seconds, rope in ((29, -1), (31, 0)):
                mira = await page("mira")
                await mira.send_json_to("pull")
                await clock.advance(0.1)
                await heard(mira, rope=-1)
                await mira.disconnect()
                await clock.advance(seconds)
                mira = await page("mira")
                await clock.advance(0.1)
                await heard(mira, rope=rope)
                await mira.disconnect()
                await clock.advance(3600)
