from __future__ import annotations

from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.test import Client, SimpleTestCase, TestCase, TransactionTestCase, override_settings

from chat.models import MAX_MESSAGE_LENGTH, Bookmark, Message, Room
from chat.news import EVERY_PAGE, group_of_room
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
        self.assertEqual((welcome["earlier"], welcome["after"]), (10, 0))
        here = await receive_type(socket, "people")
        self.assertEqual([person["name"] for person in here["people"]], ["Mira"])
        await socket.disconnect()

    async def test_earlier_messages_come_when_they_are_wanted(self) -> None:
        for number in range(60):
            await Message.objects.acreate(room=self.room, author=self.tom.person, text=str(number), ref=str(number))
        await Message.objects.acreate(room=self.other_room, author=self.tom.person, text="elsewhere", ref="x")
        socket = self.mira.socket(self.path(self.room))
        await socket.connect()
        first = (await receive_type(socket, "welcome"))["messages"][0]["id"]

        await socket.send_json_to({"type": "earlier", "before": first, "after": 0})
        earlier = await receive_type(socket, "earlier")

        self.assertEqual([message["text"] for message in earlier["messages"]], [str(n) for n in range(10)])
        self.assertEqual((earlier["earlier"], earlier["before"]), (0, first))
        for before, after in ((5, 5), (10**30, 0), (3, -1), ("3", 0)):
            await socket.send_json_to({"type": "earlier", "before": before, "after": after})
            self.assertEqual((await receive_type(socket, "notice"))["code"], "unknown")
        await socket.disconnect()

    async def test_a_page_that_comes_back_in_time_gets_exactly_what_it_has_missed(self) -> None:
        mira, tom = self.mira.socket(self.path(self.room)), self.tom.socket(self.path(self.room))
        await mira.connect()
        await tom.connect()
        await tom.send_json_to({"type": "message", "text": "before", "ref": "0"})
        known = await receive_type(mira, "message")
        await mira.disconnect()
        for ref in ("1", "2", "3"):
            await tom.send_json_to({"type": "message", "text": f"missed {ref}", "ref": ref})
            await receive_type(tom, "message")

        again = self.mira.socket(f"{self.path(self.room)}?since={known['position']}&after={known['id']}")
        await again.connect()
        welcome = await receive_type(again, "welcome")
        missed = [await receive_type(again, "message") for _ in range(3)]

        self.assertEqual((welcome["messages"], welcome["earlier"], welcome["follow"]), ([], 0, 3))
        self.assertEqual(welcome["position"], "", "the page is not there before it has them")
        self.assertEqual([message["text"] for message in missed], ["missed 1", "missed 2", "missed 3"])
        await tom.send_json_to({"type": "message", "text": "live", "ref": "4"})
        self.assertEqual((await receive_type(again, "message"))["text"], "live")
        await again.disconnect()
        await tom.disconnect()

    async def test_a_page_that_comes_back_too_late_is_told_how_much_is_missing(self) -> None:
        tom = self.tom.socket(self.path(self.room))
        await tom.connect()
        await tom.send_json_to({"type": "message", "text": "kept", "ref": "kept"})
        known = (await receive_type(tom, "message"))["id"]
        for number in range(80):
            await Message.objects.acreate(room=self.room, author=self.tom.person, text=str(number), ref=str(number))

        mira = self.mira.socket(f"{self.path(self.room)}?since=0000-1&after={known}")
        await mira.connect()
        welcome = await receive_type(mira, "welcome")
        await tom.send_json_to({"type": "message", "text": "live", "ref": "live"})
        live = await receive_type(mira, "message")

        self.assertEqual((welcome["earlier"], welcome["after"], welcome["follow"]), (30, known, 0))
        self.assertEqual([message["text"] for message in welcome["messages"]], [str(n) for n in range(30, 80)])
        self.assertEqual(live["text"], "live", "what is kept of before is not sent a second time")
        await mira.disconnect()
        await tom.disconnect()

    async def test_what_the_layer_has_lost_comes_from_the_database(self) -> None:
        mira = self.mira.socket(self.path(self.room))
        await mira.connect()
        await receive_type(mira, "welcome")
        await Message.objects.acreate(room=self.room, author=self.tom.person, text="lost", ref="lost")
        group = group_of_room(self.room.pk)

        gap = {"type": "layer.gap", "groups": [group], "reason": "outage"}
        await get_channel_layer().group_send(EVERY_PAGE, gap)

        self.assertEqual([m["text"] for m in (await receive_type(mira, "missed"))["messages"]], ["lost"])
        await mira.disconnect()

    async def test_unread_messages_of_other_rooms_are_counted_until_they_are_read(self) -> None:
        tom, mira = self.tom.socket(self.path(self.room)), self.mira.socket(self.path(self.other_room))
        await tom.connect()
        await mira.connect()
        await tom.send_json_to({"type": "message", "text": "hello", "ref": "one"})
        said = await receive_type(mira, "said")
        self.assertEqual((said["room"], said["author"]), (self.room.pk, self.tom.person.pk))
        self.assertEqual((await self.unread(self.mira), await self.unread(self.tom)), (1, 0))

        tab = self.mira.socket(self.path(self.room))
        await tab.connect()
        newest = (await receive_type(tab, "welcome"))["messages"][-1]["id"]
        await tab.send_json_to({"type": "read", "id": newest})

        self.assertEqual((await receive_type(mira, "read"))["room"], self.room.pk)
        self.assertEqual(await self.unread(self.mira), 0)
        await tab.send_json_to({"type": "read", "id": newest + 1})
        self.assertEqual((await receive_type(tab, "notice"))["code"], "unknown")
        for socket in (tom, mira, tab):
            await socket.disconnect()

    @sync_to_async
    def unread(self, visitor: Visitor) -> int:
        return Room.objects.with_unread(visitor.person).get(pk=self.room.pk).unread

    async def test_new_rooms_and_new_names_reach_open_pages(self) -> None:
        mira, tom = self.mira.socket(self.path(self.room)), self.tom.socket(self.path(self.room))
        await mira.connect()
        await tom.connect()
        await receive_type(mira, "people")

        await sync_to_async(self.tom.client.post)("/chat/rooms/", {"name": "深水 Pier"})
        room = (await receive_type(mira, "room"))["room"]
        await sync_to_async(self.tom.client.post)("/you/", {"name": "Tomás"})
        while (renamed := await receive_type(mira, "joined"))["name"] == "Tom":
            pass
        await tom.send_json_to({"type": "message", "text": "it is me", "ref": "one"})

        self.assertEqual((room["name"], room["url"]), ("深水 Pier", "/chat/in/%E6%B7%B1%E6%B0%B4-pier/"))
        self.assertEqual((renamed["id"], renamed["name"]), (self.tom.person.pk, "Tomás"))
        self.assertEqual((await receive_type(mira, "message"))["author"]["name"], "Tomás")
        await mira.disconnect()
        await tom.disconnect()

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
            ({"type": "message", "text": "half of \ud83d", "ref": "5"}, "unknown"),
            ({"type": "message", "text": "x", "ref": "\udc00"}, "unknown"),
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
        self.assertContains(response, "深水 pier</span>")

    def test_bad_names_are_refused_with_a_reason(self) -> None:
        for name, reason in [
            ("harbour", "A room with this name already exists."),
            ("<script>", "A room name can contain letters, digits, spaces and hyphens."),
            ("x" * 41, "Ensure this value has at most 40 characters"),
            ("_", "A room name can contain letters, digits, spaces and hyphens."),
        ]:
            with self.subTest(name):
                self.assertContains(self.client.post("/chat/rooms/", {"name": name}), reason)

    def test_the_chat_leads_to_the_room_one_was_in_last(self) -> None:
        self.client.get("/chat/in/lighthouse/")

        self.assertRedirects(self.client.get("/chat/"), "/chat/in/lighthouse/")

    def test_rooms_that_come_with_the_demo_have_a_name_in_each_language(self) -> None:
        self.assertContains(Client(headers={"accept-language": "zh-CN"}).get("/chat/", follow=True), "灯塔</span>")


class BookmarkTests(TestCase):
    def test_a_bookmark_never_goes_back(self) -> None:
        room, person = Room.objects.create(name="Pier", slug="pier"), Visitor("Mira").person

        for message_id in (5, 9, 7):
            Bookmark.objects.read(person, room.pk, message_id)

        self.assertEqual(Bookmark.objects.get().message_id, 9)


class RateLimitTests(SimpleTestCase):
    def test_a_burst_then_the_rate(self) -> None:
        limit = RateLimit(burst=2, per_second=0.5)

        allowed = [limit.allow(now) for now in (0.0, 0.0, 0.0, 1.0, 2.0, 2.5, 4.0)]

        self.assertEqual(allowed, [True, True, False, False, True, False, True])
