from __future__ import annotations

import math
import random

from django.test import SimpleTestCase, TransactionTestCase

from game.harbour import MAX_BOATS, harbour
from game.world import BUOYS, HEIGHT, SPEED_DEEP, SPEED_SHALLOW, WIDTH, World, channel_centre
from tests.sockets import Visitor, bare_socket, receive_type


class WorldTests(SimpleTestCase):
    def setUp(self) -> None:
        self.world = World(dice=random.Random(7))
        self.boat = self.world.add_boat("key", "Mira")

    def sail(self, seconds: float) -> None:
        for _ in range(round(seconds * 20)):
            self.world.step(1 / 20)

    def test_a_boat_stays_where_it_is_until_it_is_steered(self) -> None:
        before = (self.boat.x, self.boat.y)

        self.sail(1)

        self.assertEqual((self.boat.x, self.boat.y), before)

    def test_a_boat_is_fast_in_the_fairway_and_slow_beside_it(self) -> None:
        self.boat.steer(0, 1)
        self.boat.x, self.boat.y = 0, channel_centre(0)
        self.sail(1)
        deep = self.boat.speed
        self.boat.x, self.boat.y = 0, HEIGHT
        self.sail(1)

        self.assertEqual((deep, self.boat.speed), (SPEED_DEEP, SPEED_SHALLOW))

    def test_a_boat_never_leaves_the_world(self) -> None:
        self.boat.steer(0.1, 1)

        for _ in range(600):
            self.world.step(1 / 20)
            self.assertTrue(0 <= self.boat.x <= WIDTH and 0 <= self.boat.y <= HEIGHT)

    def test_steering_is_limited_whatever_a_page_sends(self) -> None:
        self.boat.steer(1e300, -5)
        self.assertEqual((self.boat.turn, self.boat.throttle), (1, 0))

        self.boat.steer(math.nan, math.nan)
        self.sail(0.1)
        self.assertTrue(math.isfinite(self.boat.x) and math.isfinite(self.boat.heading))

    def test_the_nearest_boat_gets_a_buoy_and_a_new_one_appears(self) -> None:
        other = self.world.add_boat("other", "Tom")
        buoy = self.world.buoys[0]
        self.boat.x, self.boat.y = buoy.x + 5, buoy.y
        other.x, other.y = buoy.x - 12, buoy.y

        self.world.step(0)

        self.assertEqual((self.boat.score, other.score), (1, 0))
        self.assertEqual(len(self.world.buoys), BUOYS)
        self.assertNotEqual(self.world.buoys[0].id, buoy.id)


class PlayTests(TransactionTestCase):
    async def test_two_players_see_each_other_move(self) -> None:
        mira, tom = self.mira.socket("/ws/game/"), self.tom.socket("/ws/game/")
        await mira.connect()
        await tom.connect()
        boat = (await receive_type(mira, "welcome"))["boat"]

        await mira.send_json_to({"type": "steer", "turn": 0.5, "throttle": 1})
        places = set()
        while len(places) < 3:
            state = await receive_type(tom, "state")
            places |= {each["x"] for each in state["boats"] if each["id"] == boat}

        self.assertEqual({each["name"] for each in state["boats"]}, {"Mira", "Tom"})
        await mira.disconnect()
        await tom.disconnect()

    async def test_the_clock_stands_still_while_nobody_plays(self) -> None:
        socket = self.mira.socket("/ws/game/")
        await socket.connect()
        ticking = harbour._ticking

        await socket.disconnect()

        self.assertTrue(ticking.done())
        self.assertEqual(harbour.world.boats, {})

    async def test_nonsense_changes_nothing(self) -> None:
        socket = self.mira.socket("/ws/game/")
        await socket.connect()
        for content in ([], {"type": "steer"}, {"type": "steer", "turn": "hard", "throttle": None}):
            await socket.send_json_to(content)

        await receive_type(socket, "state")
        await socket.disconnect()

    async def test_when_the_water_is_full_one_may_watch(self) -> None:
        for number in range(MAX_BOATS):
            harbour.enter(str(number), "Mira")
        socket = self.tom.socket("/ws/game/")
        await socket.connect()

        self.assertIsNone((await receive_type(socket, "welcome"))["boat"])
        self.assertEqual(len((await receive_type(socket, "state"))["boats"]), MAX_BOATS)
        await socket.disconnect()
        for number in range(MAX_BOATS):
            await harbour.leave(str(number))

    async def test_a_visitor_without_a_session_is_not_let_in(self) -> None:
        connected, _ = await bare_socket("/ws/game/").connect()

        self.assertFalse(connected)

    def setUp(self) -> None:
        self.mira = Visitor("Mira")
        self.tom = Visitor("Tom")
