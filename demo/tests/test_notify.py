from __future__ import annotations

from django.test import Client, TestCase, TransactionTestCase

from chat.models import Room
from notify.models import MAX_TEXT_LENGTH, Notification
from notify.sending import send_notification
from people.models import Person
from tests.sockets import Visitor, bare_socket, receive_type

PATH = "/ws/notifications/"
NOTE = Notification.Kind.NOTE


class DeliveryTests(TransactionTestCase):
    def setUp(self) -> None:
        self.mira = Visitor("Mira")
        self.tom = Visitor("Tom")

    async def test_one_to_everyone_arrives_at_everyone(self) -> None:
        mira, tom = self.mira.socket(PATH), self.tom.socket(PATH)
        await mira.connect()
        await tom.connect()

        await mira.send_json_to({"type": "send", "to": None, "text": "Ahoy"})

        for socket in (mira, tom):
            notification = (await receive_type(socket, "notification"))["notification"]
            self.assertEqual((notification["text"], notification["sender"]), ("Ahoy", "Mira"))
        await mira.disconnect()
        await tom.disconnect()

    async def test_one_to_one_person_arrives_there_only(self) -> None:
        mira, tom = self.mira.socket(PATH), self.tom.socket(PATH)
        await mira.connect()
        await tom.connect()

        await mira.send_json_to({"type": "send", "to": self.tom.person.pk, "text": "for you"})
        await receive_type(mira, "sent")
        await mira.send_json_to({"type": "send", "to": None, "text": "marker"})

        self.assertEqual((await receive_type(tom, "notification"))["notification"]["text"], "for you")
        self.assertEqual((await receive_type(mira, "notification"))["notification"]["text"], "marker")
        await mira.disconnect()
        await tom.disconnect()

    async def test_what_came_while_away_is_there_on_connecting(self) -> None:
        await Notification.objects.acreate(kind=NOTE, text="missed", recipient=self.mira.person)
        socket = self.mira.socket(PATH)

        await socket.connect()
        state = await receive_type(socket, "state")

        self.assertEqual((state["unread"], state["notifications"][0]["text"]), (1, "missed"))
        await socket.disconnect()

    async def test_marking_as_read_reaches_every_tab_and_lasts(self) -> None:
        for text in ("one", "two", "three"):
            await Notification.objects.acreate(kind=NOTE, text=text, recipient=self.mira.person)
        first, second = self.mira.socket(PATH), self.mira.socket(PATH)
        await first.connect()
        await second.connect()
        newest = (await receive_type(first, "state"))["notifications"][0]["id"]

        await first.send_json_to({"type": "read", "id": newest})
        self.assertEqual(await receive_type(second, "read"), {"type": "read", "ids": [newest], "unread": 2})
        await first.send_json_to({"type": "read_all"})
        self.assertEqual((await receive_type(second, "read"))["unread"], 0)

        await first.disconnect()
        await second.disconnect()
        again = self.mira.socket(PATH)
        await again.connect()
        self.assertEqual((await receive_type(again, "state"))["unread"], 0)
        await again.disconnect()

    async def test_nobody_can_mark_what_is_not_theirs(self) -> None:
        theirs = await Notification.objects.acreate(kind=NOTE, text="private", recipient=self.tom.person)
        socket = self.mira.socket(PATH)
        await socket.connect()

        await socket.send_json_to({"type": "read", "id": theirs.pk})

        self.assertEqual((await receive_type(socket, "read"))["ids"], [])
        self.assertEqual(await theirs.readers.acount(), 0)
        await socket.disconnect()

    async def test_people_who_come_online_can_be_written_to(self) -> None:
        mira, tom = self.mira.socket(PATH), self.tom.socket(PATH)
        await mira.connect()
        await receive_type(mira, "online")

        await tom.connect()
        came = await receive_type(mira, "online")
        await tom.disconnect()
        went = await receive_type(mira, "online")

        self.assertEqual((came["name"], came["online"], went["online"]), ("Tom", True, False))
        await mira.disconnect()

    async def test_limits_are_answered_with_a_notice(self) -> None:
        socket = self.mira.socket(PATH)
        await socket.connect()
        for content, code in [
            ({"type": "send", "to": None, "text": " "}, "empty"),
            ({"type": "send", "to": None, "text": "x" * (MAX_TEXT_LENGTH + 1)}, "too_long"),
            ({"type": "send", "to": 10**30, "text": "x"}, "gone"),
            ({"type": "dance"}, "unknown"),
        ]:
            await socket.send_json_to(content)
            self.assertEqual((await receive_type(socket, "notice"))["code"], code)
        for _ in range(5):
            await socket.send_json_to({"type": "send", "to": None, "text": "x"})
        self.assertEqual((await receive_type(socket, "notice"))["code"], "too_fast")
        await socket.disconnect()

    async def test_a_visitor_without_a_session_is_not_let_in(self) -> None:
        connected, _ = await bare_socket(PATH).connect()

        self.assertFalse(connected)


class RestOfDjangoTests(TransactionTestCase):
    def test_an_ordinary_view_sends_one_to_its_visitor(self) -> None:
        mira = Visitor("Mira")

        response = mira.client.post("/notifications/ring/")

        self.assertRedirects(response, "/notifications/")
        self.assertEqual([n.kind for n in Notification.objects.unread_by(mira.person)], ["bell"])

    def test_a_new_room_is_announced_by_a_signal(self) -> None:
        mira, tom = Visitor("Mira"), Visitor("Tom")

        mira.client.post("/chat/rooms/", {"name": "Pier"})

        announced = Notification.objects.unread_by(tom.person).get()
        self.assertEqual((announced.kind, announced.text, announced.url), ("room", "Pier", "/chat/in/pier/"))
        self.assertEqual(announced.sender, mira.person)

    def test_rooms_that_come_with_the_demo_are_not_announced(self) -> None:
        Room.objects.create(name="Harbour", slug="built-in", built_in=True)

        self.assertFalse(Notification.objects.exists())


class VisibilityTests(TestCase):
    def test_one_sees_what_is_for_oneself_and_for_everyone_since_one_came(self) -> None:
        early = send_notification(NOTE, "before")
        mira, tom = Person.objects.create(name="Mira"), Person.objects.create(name="Tom")
        Notification.objects.filter(pk=early.pk).update(created_at="2020-01-01T00:00Z")
        send_notification(NOTE, "to Tom", recipient=tom)
        send_notification(NOTE, "to Mira", recipient=mira)
        send_notification(NOTE, "to all")

        texts = [notification.text for notification in Notification.objects.visible_to(mira)]

        self.assertEqual(texts, ["to all", "to Mira"])

    def test_nothing_is_told_before_the_transaction_commits(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            send_notification(NOTE, "later")

        self.assertEqual(len(callbacks), 1)

    def test_the_view_that_sends_wants_a_post_request(self) -> None:
        self.assertEqual(Client().get("/notifications/ring/").status_code, 405)
