import json

from django.test import SimpleTestCase

from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from fairway.testing import VirtualClock

from .rooms import COLUMNS, PATIENCE, ROWS, Four
from .routing import websocket_urlpatterns


async def game(*people, moves=()):
    four = Four("four.test")
    await four.begin(None)
    for who in people:
        await four.receive({"who": who, "does": "enter"})
    for column in moves:
        await four.receive({"who": four.seats[four.turn], "does": column})
    return four


class RulesTests(SimpleTestCase):
    async def test_four_of_a_colour_win_in_every_way(self):
        for moves in ("0011223", "0101010", "01123223633", "65543443033"):
            four = await game("mira", "tom", moves=map(int, moves[:-1]))
            assert not four.is_over
            await four.receive({"who": four.seats[four.turn], "does": int(moves[-1])})
            assert len({four.cells()[cell] for cell in four.line()}) == 1

    async def test_a_move_needs_a_seat_the_turn_and_a_place(self):
        four = await game("mira", "tom", "zoe", moves=[0] * ROWS)
        for who, column in (("zoe", 1), ("tom", 1), ("mira", 0), ("mira", COLUMNS), ("mira", -1)):
            await four.receive({"who": who, "does": column})
        assert four.moves == [0] * ROWS

    async def test_nobody_plays_alone(self):
        assert (await game("mira", moves=[3])).moves == []

    async def test_both_have_to_want_another_game_and_the_other_one_begins(self):
        four = await game("mira", "tom", moves=[0, 1, 0, 1, 0, 1, 0])
        for _ in range(2):
            await four.receive({"who": "mira", "does": "again"})
        assert four.moves
        await four.receive({"who": "tom", "does": "again"})
        assert (four.moves, four.turn) == ([], 1)

    async def test_a_seat_waits_and_then_somebody_who_looks_on_has_it(self):
        four = await game("mira", "tom", "zoe")
        for _ in range(PATIENCE):
            await four.tick(1)
            await four.receive({"who": "tom", "does": "stay"})
        await four.receive({"who": "zoe", "does": "stay"})
        assert four.seats == ["mira", "tom"]
        await four.tick(1)
        await four.receive({"who": "zoe", "does": "stay"})
        assert four.seats == ["zoe", "tom"]

    async def test_another_process_goes_on_with_it(self):
        four, other = await game("mira", "tom", moves=[3, 3]), Four("four.test")
        await other.begin(json.loads(json.dumps(four.save())))
        assert (other.cells(), other.seats, other.turn) == ({(3, 0): 0, (3, 1): 1}, ["mira", "tom"], 0)


async def page(who):
    async def with_a_session(scope, receive, send):
        await URLRouter(websocket_urlpatterns)({**scope, "session": {"who": who} if who else {}}, receive, send)

    page = WebsocketCommunicator(with_a_session, "garden/")
    connected, _ = await page.connect()
    return page if connected else None


async def heard(page, **wanted):
    while True:
        message = await page.receive_json_from()
        if wanted.items() <= message.items():
            return message


class PagesTests(SimpleTestCase):
    async def test_a_move_is_seen_by_all_before_any_tick(self):
        with VirtualClock():
            mira, tom, zoe = await page("mira"), await page("tom"), await page("zoe")
            for nonsense in ([], {"does": None}, {"does": "sit", "who": "tom"}):
                await mira.send_json_to(nonsense)
            await mira.send_json_to({"does": 3})
            for each in (mira, tom, zoe):
                await heard(each, seats=["mira", "tom"], moves=[3], turn=1)
                await each.disconnect()

    async def test_a_page_that_is_loaded_again_has_its_seat(self):
        with VirtualClock() as clock:
            mira, tom = await page("mira"), await page("tom")
            await mira.disconnect()
            await clock.advance(4)
            await heard(tom, seats=["mira", "tom"], away=[True, True])
            mira = await page("mira")
            await heard(mira, seats=["mira", "tom"], away=[False, True])
            await mira.disconnect()
            await tom.disconnect()

    async def test_who_has_no_session_stays_outside(self):
        assert await page(None) is None
