from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from channels.testing import HttpCommunicator
from django.test import Client, TestCase, TransactionTestCase, override_settings

from chat.models import Room
from demo.asgi import application
from notify.consumers import NotifyPoll
from notify.models import MAX_TEXT_LENGTH, Notification
from notify.sending import send_notification
from people.models import Person
from tests.sockets import AT_ONCE, Visitor, bare_socket, receive_type

PATH = "/ws/notifications/"
NOTE = Notification.Kind.NOTE


@override_settings(CHANNEL_LAYERS=AT_ONCE)
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
        await receive_type(mira, "state")

        await tom.connect()
        came = await receive_type(mira, "online")
        await tom.disconnect()
        went = await receive_type(mira, "online")

        self.assertEqual((came["name"], came["online"], went["online"]), ("Tom", True, False))
        await mira.disconnect()

    async def test_who_comes_in_the_same_instant_is_seen(self) -> None:
        mira, tom = self.mira.socket(PATH), self.tom.socket(PATH)
        await asyncio.gather(mira.connect(), tom.connect())

        for socket in (mira, tom):
            names: set[str] = set()
            while names != {"Mira", "Tom"}:
                told = await socket.receive_json_from()
                names |= {person["name"] for person in told.get("people", []) if told["type"] == "everybody"}
                names |= {told["name"]} if told["type"] == "online" else set()
            await socket.disconnect()

    async def test_a_new_name_reaches_every_page_at_once(self) -> None:
        mira, tom = self.mira.socket(PATH), self.tom.socket(PATH)
        await tom.connect()
        await receive_type(tom, "state")
        await mira.connect()
        await receive_type(tom, "online")

        await sync_to_async(self.mira.client.post)("/you/", {"name": "Mira of the Sea"})

        self.assertEqual(await receive_type(mira, "renamed"), {"type": "renamed", "name": "Mira of the Sea"})
        online = await receive_type(tom, "online")
        self.assertEqual((online["id"], online["name"]), (self.mira.person.pk, "Mira of the Sea"))
        await mira.disconnect()
        await tom.disconnect()

    async def test_limits_are_answered_with_a_notice(self) -> None:
        socket = self.mira.socket(PATH)
        await socket.connect()
        for content, code in [
            ({"type": "send", "to": None, "text": " "}, "empty"),
            ({"type": "send", "to": None, "text": "x" * (MAX_TEXT_LENGTH + 1)}, "too_long"),
            ({"type": "send", "to": 10**30, "text": "x"}, "gone"),
            ({"type": "dance"}, "unknown"),
            ({"type": "send", "to": None, "text": "half of \ud83d"}, "unknown"),
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


class Stream:
    """An open stream of events, read as a browser reads it: (id, content)."""

    def __init__(self, visitor: Visitor, last_event_id: int | None = None) -> None:
        headers = [] if last_event_id is None else [(b"last-event-id", str(last_event_id).encode())]
        self._request = visitor.request("/notifications/events/", headers)

    async def open(self) -> None:
        await self._request.send_input({"type": "http.request"})
        self.start = await self._request.receive_output()

    async def next(self, *wanted: str) -> tuple[int | None, dict[str, Any]]:
        """The next event with content of one of these types; others before it are passed over."""
        while True:
            piece = (await self._request.receive_output())["body"].decode()
            fields = dict(line.split(": ", 1) for line in piece.splitlines() if ": " in line)
            if "data" not in fields:
                continue
            content = json.loads(fields["data"])
            if content["type"] in wanted:
                return int(fields["id"]) if "id" in fields else None, content

    async def leave(self) -> None:
        await self._request.send_input({"type": "http.disconnect"})
        await self._request.wait()


async def store(*texts: str) -> list[int]:
    """Notifications for everyone, of which nobody is told."""
    return [(await Notification.objects.acreate(kind=NOTE, text=text)).pk for text in texts]


async def tell_of(pk: int) -> None:
    content = {"type": "notification", "notification": {"id": pk}}
    await get_channel_layer().group_send("notify.everyone", {"type": "notify.event", "content": content})


@override_settings(CHANNEL_LAYERS=AT_ONCE)
class EventStreamTests(TransactionTestCase):
    def setUp(self) -> None:
        self.mira = Visitor("Mira")

    async def test_the_state_comes_first_and_then_what_is_new(self) -> None:
        (old,) = await store("old")
        stream = Stream(self.mira)
        await stream.open()
        position, state = await stream.next("state")
        self.assertEqual((position, state["notifications"][0]["text"], state["unread"]), (old, "old", 1))

        (new,) = await store("new")
        await tell_of(new)

        position, content = await stream.next("notification")
        self.assertEqual((position, content["notification"]["text"]), (new, "new"))
        await stream.leave()

    async def test_who_comes_back_gets_what_was_missed_once_and_in_order(self) -> None:
        known, *missed = await store("known", "one", "two")
        stream = Stream(self.mira, last_event_id=known)
        await stream.open()
        events = [await stream.next("notification", "state") for _ in range(3)]
        self.assertEqual([position for position, _ in events], [*missed, missed[-1]])
        self.assertEqual([content["type"] for _, content in events], ["notification", "notification", "state"])

        await tell_of(missed[-1])  # was under way when the page came back
        (new,) = await store("new")
        await tell_of(new)

        self.assertEqual((await stream.next("notification"))[0], new)
        await stream.leave()

    async def test_two_that_are_told_in_the_wrong_order_come_in_the_right_one(self) -> None:
        stream = Stream(self.mira)
        await stream.open()
        await stream.next("state")
        first, second = await store("first", "second")

        await tell_of(second)
        await tell_of(first)
        (third,) = await store("third")
        await tell_of(third)

        self.assertEqual([(await stream.next("notification"))[0] for _ in range(3)], [first, second, third])
        await stream.leave()

    async def test_others_see_who_comes_and_goes(self) -> None:
        stream, other = Stream(self.mira), (await sync_to_async(Visitor)("Tom")).socket(PATH)
        await other.connect()
        await receive_type(other, "state")
        await stream.open()
        came = await receive_type(other, "online")
        await stream.leave()
        went = await receive_type(other, "online")
        self.assertEqual((came["name"], came["online"], went["online"]), ("Mira", True, False))
        await other.disconnect()

    async def test_a_visitor_without_a_session_is_not_let_in(self) -> None:
        for path in ("/notifications/events/", "/notifications/poll/"):
            response = await HttpCommunicator(application, "GET", path).get_response()
            self.assertEqual(response["status"], 403)


@override_settings(CHANNEL_LAYERS=AT_ONCE)
class LongPollTests(TransactionTestCase):
    def setUp(self) -> None:
        self.mira = Visitor("Mira")

    async def poll(self, after: int | None = None, version: str = "", **query: str) -> dict[str, Any]:
        query |= {"version": version} | ({} if after is None else {"after": str(after)})
        request = self.mira.request("/notifications/poll/?" + urlencode(query))
        response = await request.get_response(timeout=10)
        await request.wait()
        self.assertEqual(response["status"], 200)
        return json.loads(response["body"])

    async def quiet(self) -> dict[str, Any]:
        """A page that has heard everything."""
        answer = await self.poll(wait="0")
        return {"after": answer["after"], "version": answer["version"]}

    async def test_the_first_answer_is_the_state(self) -> None:
        (newest,) = await store("old")

        answer = await self.poll()

        self.assertEqual([message["type"] for message in answer["messages"]], ["state"])
        self.assertEqual((answer["after"], answer["messages"][0]["unread"]), (newest, 1))

    async def test_an_answer_waits_for_something_new(self) -> None:
        known = await self.quiet()
        with self.looks() as looks:
            waiting = asyncio.create_task(self.poll(**known))
            self.assertEqual(await looks.get(), 0)
            (new,) = await store("new")
            await tell_of(new)
            answer = await waiting

        self.assertEqual([message["type"] for message in answer["messages"]], ["notification", "state"])
        self.assertEqual((answer["after"], answer["messages"][0]["notification"]["text"]), (new, "new"))

    async def test_who_was_stirred_for_nothing_waits_on(self) -> None:
        known = await self.quiet()
        with patch.object(NotifyPoll, "longest", 0.3), self.looks() as looks:
            waiting = asyncio.create_task(self.poll(**known))
            await looks.get()
            await tell_of(known["after"])
            await waiting

        # Once when it was told, and once when the time was over.
        self.assertLessEqual(looks.qsize(), 2)

    @contextmanager
    def looks(self) -> Iterator[asyncio.Queue[int]]:
        """How many messages there are for the page, each time that its request looks."""
        look, looks, loop = NotifyPoll.look, asyncio.Queue[int](), asyncio.get_running_loop()

        def noted(*args: Any) -> dict[str, Any]:
            answer = look(*args)
            loop.call_soon_threadsafe(looks.put_nowait, len(answer["messages"]))
            return answer

        with patch.object(NotifyPoll, "look", noted):
            yield looks

    async def test_nothing_is_missed_between_two_requests(self) -> None:
        known = await self.quiet()
        pks = await store("one", "two")
        answer = await self.poll(**known)
        self.assertEqual([message["notification"]["id"] for message in answer["messages"][:-1]], pks)

        await self.mira.person.read_notifications.aadd(pks[0])
        answer = await self.poll(answer["after"], answer["version"])

        self.assertEqual([message["type"] for message in answer["messages"]], ["state"])
        self.assertEqual(answer["messages"][0]["unread"], 1)

    async def test_after_a_while_the_answer_is_empty(self) -> None:
        known = await self.quiet()
        with patch.object(NotifyPoll, "longest", 0.05):
            answer = await self.poll(**known)

        self.assertEqual(answer, {**known, "messages": []})

    async def test_a_page_that_goes_away_ends_its_request_and_is_missed_later(self) -> None:
        other = (await sync_to_async(Visitor)("Tom")).socket(PATH)
        await other.connect()
        await receive_type(other, "state")
        known = await self.quiet()
        request = self.mira.request("/notifications/poll/?" + urlencode(known))
        await request.send_input({"type": "http.request"})
        self.assertTrue((await receive_type(other, "online"))["online"])

        await request.send_input({"type": "http.disconnect"})

        await request.wait(5)
        self.assertFalse((await receive_type(other, "online"))["online"])
        await other.disconnect()


class ActionTests(TransactionTestCase):
    def setUp(self) -> None:
        self.mira = Visitor("Mira")

    def act(self, content: object) -> dict[str, Any]:
        return self.mira.client.post("/notifications/act/", content, content_type="application/json").json()

    def test_what_a_page_does_without_a_websocket(self) -> None:
        self.assertEqual(self.act({"type": "send", "to": self.mira.person.pk, "text": "Ahoy"}), {"type": "sent"})
        note = Notification.objects.unread_by(self.mira.person).get()
        self.assertEqual((note.text, note.sender), ("Ahoy", self.mira.person))

        self.assertEqual(self.act({"type": "read", "id": note.pk}), {"type": "done"})

        self.assertFalse(Notification.objects.unread_by(self.mira.person).exists())

    def test_limits_count_for_a_person(self) -> None:
        for _ in range(5):
            answer = self.act({"type": "send", "to": None, "text": "x"})
        self.assertEqual(answer, {"type": "notice", "code": "too_fast"})
        for text in ("[" * 10, "[" * 100_000):
            self.assertEqual(self.act(text), {"type": "notice", "code": "unknown"})
        self.assertEqual(self.act([1]), {"type": "notice", "code": "unknown"})

    def test_another_site_cannot_act_for_a_visitor(self) -> None:
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = self.mira.client.cookies
        response = strict.post("/notifications/act/", {"type": "read_all"}, content_type="application/json")
        self.assertEqual(response.status_code, 403)
        self.assertEqual(self.mira.client.get("/notifications/act/").status_code, 405)


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
    def test_ones_own_to_everyone_is_no_news_to_oneself(self) -> None:
        mira, tom = Person.objects.create(name="Mira"), Person.objects.create(name="Tom")
        send_notification(NOTE, "to all", sender=mira)
        send_notification(NOTE, "a reminder to myself", sender=mira, recipient=mira)

        self.assertEqual([n.text for n in Notification.objects.unread_by(mira)], ["a reminder to myself"])
        self.assertEqual([n.text for n in Notification.objects.visible_to(mira)], ["a reminder to myself", "to all"])
        self.assertEqual([n.text for n in Notification.objects.unread_by(tom)], ["to all"])

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
