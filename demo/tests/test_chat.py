from __future__ import annotations

from django.test import Client, SimpleTestCase, TestCase, TransactionTestCase, override_settings

from chat.models import MAX_MESSAGE_LENGTH, Message, Room
from chat.ratelimit import RateLimit
from tests.sockets import AT_ONCE, Visitor, bare_socket, receive_type


@override_settings(CHANNEL_LAYERS=AT_ONCE)
class ConversationTests(TransactionTestCase):
    def setUp(self) -> None:
        self.room = Room.objects.create(name="Pier", slug="pier", built_in=True)
        self.other_room = Room.objects.create(name="Quay", slug="quay", built_in=True)
        self.mira = Visitor("Mira")
        self.tom = Visitor("Tom")

    def path(self, room: Room) -> str:
        return f"/ws/chat/{room.pk}/"

    async def test_what_one_says_the_room_hears_and_another_room_does_not(self) -> None:
        mira, tom = self.mira.socket(self.path(self.room)), self.tom.socket(self.path(self.room))
        stranger = self.mira.socket(self.path(self.other_room))
        for socket in (mira, tom, stranger):
            await socket.connect()
            await receive_type(socket, "welcome")

        await mira.send_json_to({"type": "message", "text": " hello ", "ref": "one"})
        heard = await receive_type(tom, "message")
        await stranger.send_json_to({"type": "message", "text": "marker", "ref": "two"})
        first_elsewhere = await receive_type(stranger, "message")

        self.assertEqual((heard["text"], heard["author"]["name"], heard["ref"]), ("hello", "Mira", "one"))
        self.assertEqual(first_elsewhere["text"], "marker")
        for socket in (mira, tom, stranger):
            await socket.disconnect()

    async def test_history_and_people_are_there_on_entering(self) -> None:
        for number in range(60):
            await Message.objects.acreate(
                room=self.room, author=self.tom.person, text=f"message {number}", ref=str(number)
            )
        socket = self.mira.socket(self.path(self.room))

        await socket.connect()
        welcome = await receive_type(socket, "welcome")

        self.assertEqual([m["text"] for m in welcome["messages"]], [f"message {n}" for n in range(10, 60)])
        here = await receive_type(socket, "people")
        self.assertEqual([person["name"] for person in here["people"]], ["Mira"])
        await socket.disconnect()

    async def test_people_come_and_go_once_however_many_tabs_they_have(self) -> None:
        tom = self.tom.socket(self.path(self.room))
        await tom.connect()
        await receive_type(tom, "people")
        tabs = [self.mira.socket(self.path(self.room)) for _ in range(2)]
        for tab in tabs:
            await tab.connect()
            await receive_type(tab, "welcome")
        joined = await tom.receive_json_from()

        await tabs[0].disconnect()
        await tabs[1].disconnect()
        left = await tom.receive_json_from()

        self.assertEqual((joined["type"], joined["name"]), ("joined", "Mira"))
        self.assertEqual(left, {"type": "left", "id": self.mira.person.pk})
        await tom.disconnect()

    async def test_typing_is_told(self) -> None:
        mira, tom = self.mira.socket(self.path(self.room)), self.tom.socket(self.path(self.room))
        await mira.connect()
        await tom.connect()

        await mira.send_json_to({"type": "typing"})

        self.assertEqual((await receive_type(tom, "typing"))["name"], "Mira")
        await mira.disconnect()
        await tom.disconnect()

    async def test_the_same_ref_is_stored_once(self) -> None:
        socket = self.mira.socket(self.path(self.room))
        await socket.connect()

        ids = set()
        for _ in range(2):
            await socket.send_json_to({"type": "message", "text": "once", "ref": "same"})
            ids.add((await receive_type(socket, "message"))["id"])

        self.assertEqual((len(ids), await Message.objects.acount()), (1, 1))
        await socket.disconnect()

    async def test_limits_are_answered_with_a_notice_and_store_nothing(self) -> None:
        socket = self.mira.socket(self.path(self.room))
        await socket.connect()
        cases = [
            ({"type": "message", "text": "   ", "ref": "1"}, "empty"),
            ({"type": "message", "text": "x" * (MAX_MESSAGE_LENGTH + 1), "ref": "2"}, "too_long"),
            ({"type": "message", "text": 7, "ref": "3"}, "unknown"),
            ({"type": "message", "text": "x", "ref": "4" * 37}, "unknown"),
            ([], "unknown"),
        ]
        for content, code in cases:
            await socket.send_json_to(content)
            self.assertEqual((await receive_type(socket, "notice"))["code"], code)

        self.assertEqual(await Message.objects.acount(), 0)
        await socket.disconnect()

    async def test_a_flood_is_stopped_with_a_friendly_notice(self) -> None:
        socket = self.mira.socket(self.path(self.room))
        await socket.connect()

        for number in range(8):
            await socket.send_json_to({"type": "message", "text": "x", "ref": str(number)})
        notice = await receive_type(socket, "notice")

        self.assertEqual(notice["code"], "too_fast")
        self.assertLess(await Message.objects.acount(), 8)
        await socket.disconnect()

    async def test_strangers_are_not_let_in(self) -> None:
        without_session = bare_socket(self.path(self.room))
        no_such_room = self.mira.socket("/ws/chat/99999999999999999999999/")
        other_site = self.mira.socket(self.path(self.room), origin="http://elsewhere.example")

        for socket in (without_session, no_such_room, other_site):
            connected, _ = await socket.connect()
            self.assertFalse(connected)


class RoomTests(TestCase):
    def test_a_new_room_is_opened_and_entered(self) -> None:
        response = self.client.post("/chat/rooms/", {"name": "深水 pier"}, follow=True)

        self.assertEqual(response.context["room"].name, "深水 pier")
        self.assertContains(response, "深水 pier</option>")

    def test_bad_names_are_refused_with_a_reason(self) -> None:
        for name, reason in [
            ("harbour", "There is a room of this name already."),
            ("<script>", "A room&#x27;s name is made of letters, digits, spaces and hyphens."),
            ("x" * 41, "Ensure this value has at most 40 characters"),
            ("_", "A room&#x27;s name is made of letters, digits, spaces and hyphens."),
        ]:
            with self.subTest(name):
                self.assertContains(self.client.post("/chat/rooms/", {"name": name}), reason)

    def test_the_chat_leads_to_the_room_one_was_in_last(self) -> None:
        self.client.get("/chat/in/lighthouse/")

        self.assertRedirects(self.client.get("/chat/"), "/chat/in/lighthouse/")

    def test_rooms_that_come_with_the_demo_have_a_name_in_each_language(self) -> None:
        self.assertContains(Client(headers={"accept-language": "zh-CN"}).get("/chat/", follow=True), "灯塔</option>")


class RateLimitTests(SimpleTestCase):
    def test_a_burst_then_the_rate(self) -> None:
        limit = RateLimit(burst=2, per_second=0.5)

        allowed = [limit.allow(now) for now in (0.0, 0.0, 0.0, 1.0, 2.0, 2.5, 4.0)]

        self.assertEqual(allowed, [True, True, False, False, True, False, True])
