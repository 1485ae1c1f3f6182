"""The chat consumer: one connection is one person in one room.

From the browser: ``message`` (text, ref), ``typing``, ``earlier`` (before, after: two messages that it shows, and
between which some are missing) and ``read`` (id). To the browser: ``welcome``, ``message``, ``earlier``, ``missed``,
``people`` (everybody who is here), ``joined``, ``left``, ``typing``, ``notice`` (a code that the page knows a sentence
for), and of other rooms ``room``, ``said`` and ``read``.

What was said is in the database. The last minutes are in the history of the room's group as well, so that a page which
was away for a moment gets exactly what it has missed, in order and once, without a query.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway import AsyncGroupsMixin
from fairway.layers.recovery import Recovery

from chat.models import MAX_MESSAGE_LENGTH, REF_MAX_LENGTH, Bookmark, Message, Room
from chat.news import EVERY_PAGE, group_of_person, group_of_room, room_as_json
from chat.ratelimit import RateLimit
from people.identity import person_of_scope
from people.models import Person
from people.texts import is_whole

MAX_ID = 2**63 - 1  # what the database takes for an integer


def is_ref(text: str) -> bool:
    return 0 < len(text) <= REF_MAX_LENGTH and is_whole(text)


class ChatConsumer(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    groups = [EVERY_PAGE]
    person: Person | None = None
    in_database = 0

    async def connect(self) -> None:
        self.room_id: int = self.scope["url_route"]["kwargs"]["room_id"]
        person = await self.find_person()
        if person is None:
            await self.close()
            return
        self.group = group_of_room(self.room_id)
        self.messages = RateLimit(burst=5, per_second=1)
        self.typings = RateLimit(burst=3, per_second=1)
        self.looks = RateLimit(burst=20, per_second=5)
        self.person = person
        self.newest = self.newest_of_page()

        await self.channel_layer.group_add(group_of_person(person.pk), self.channel_name)
        # Join first and read the database afterwards: a message in between arrives twice, and the page drops the second
        # one by its id; the other order could lose it.
        recovery = await self.join(self.group, since=self.since(self.group))
        await self.accept()
        await self.send_json({"type": "welcome", "rooms": await self.find_rooms(), **await self.missed_by(recovery)})
        await self.be_here()

    async def disconnect(self, code: int) -> None:
        if self.person is not None:
            await self.leave(self.group)
            await self.leave(group_of_person(self.person.pk))

    async def missed_by(self, recovery: Recovery) -> dict[str, Any]:
        """What the page is to show now, and how many messages follow from the history of the group."""
        if recovery.recovered:
            # The page is at the new position when it has got them: it takes theirs, one after the other.
            position = "" if recovery.count else recovery.position
            return {"messages": [], "after": 0, "earlier": 0, "follow": recovery.count, "position": position}
        self.in_database = recovery.count
        return {**await self.find_missed(), "follow": 0, "position": recovery.position}

    async def be_here(self) -> None:
        # Several tabs of a person are one, in whichever process they are.
        data = {"id": self.person.pk, "name": self.person.name}
        await self.track(self.group, data, key=str(self.person.pk))

    # From the browser

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"type": "message", "text": str(text), "ref": str(ref)} if is_ref(ref) and is_whole(text):
                await self.say(text.strip(), ref)
            case {"type": "typing"}:
                if self.typings.allow(time.monotonic()):
                    await self.tell_room({"type": "typing", "id": self.person.pk, "name": self.person.name}, keep=False)
            case {"type": "earlier", "before": int(before), "after": int(after)} if 0 <= after < before <= MAX_ID:
                await self.show_earlier(before, after)
            case {"type": "read", "id": int(read)} if 0 < read <= self.newest:
                if self.looks.allow(time.monotonic()):
                    await self.mark_read(read)
            case _:
                await self.send_json({"type": "notice", "code": "unknown"})

    async def say(self, text: str, ref: str) -> None:
        code = self.refusal(text)
        if code:
            await self.send_json({"type": "notice", "code": code, "ref": ref})
            return
        message = await self.save(text, ref)
        await self.tell_room({"type": "message", **message})
        said = {"type": "said", "room": self.room_id, "author": self.person.pk}
        await self.channel_layer.group_send(EVERY_PAGE, {"type": "chat.event", "content": said})

    def refusal(self, text: str) -> str | None:
        if not text:
            return "empty"
        if len(text) > MAX_MESSAGE_LENGTH:
            return "too_long"
        if not self.messages.allow(time.monotonic()):
            return "too_fast"
        return None

    async def show_earlier(self, before: int, after: int) -> None:
        if self.looks.allow(time.monotonic()):
            page = await self.find_page(after, before)
            await self.send_json({"type": "earlier", "before": before, **page})
        else:
            await self.send_json({"type": "notice", "code": "too_fast"})

    async def mark_read(self, message_id: int) -> None:
        await database_sync_to_async(Bookmark.objects.read)(self.person, self.room_id, message_id)
        content = {"type": "read", "room": self.room_id}
        group = group_of_person(self.person.pk)
        await self.channel_layer.group_send(group, {"type": "chat.event", "content": content})

    async def tell_room(self, content: dict[str, Any], **options: Any) -> None:
        await self.channel_layer.group_send(self.group, {"type": "chat.event", "content": content}, **options)

    # From the layer

    async def chat_event(self, event: dict[str, Any]) -> None:
        content = event["content"]
        if content["type"] == "message":
            if self.in_database:  # what is kept of before comes first, and the page has it
                self.in_database -= 1
                return
            self.newest = max(self.newest, content["id"])
            content = {**content, "position": event.get("layer.position", "")}
        await self.send_json(content)

    async def chat_renamed(self, event: dict[str, Any]) -> None:
        self.person.name = event["name"]
        await self.be_here()

    async def layer_gap(self, event: dict[str, Any]) -> None:
        # The layer itself was away for too long. The database has what it has lost.
        if self.group in event["groups"]:
            await self.send_json({"type": "missed", **await self.find_missed()})

    async def presence_state(self, event: dict[str, Any]) -> None:
        people = [data[-1] for data in event.get("members", {}).values()]
        await self.send_json({"type": "people", "people": people})

    async def presence_diff(self, event: dict[str, Any]) -> None:
        # Of very many at once, only the numbers would be told.
        for data in (event.get("joined", {}) | event.get("changed", {})).values():
            await self.send_json({"type": "joined", **data[-1]})
        for data in event.get("left", {}).values():
            await self.send_json({"type": "left", "id": data[-1]["id"]})

    # From the database

    def newest_of_page(self) -> int:
        """The last message that the page shows already; 0 for a page that was just opened."""
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        text = query.get("after", ["0"])[-1]
        return int(text) if text.isdecimal() and len(text) < 19 else 0

    @database_sync_to_async
    def find_person(self) -> Person | None:
        if not Room.objects.filter(pk=self.room_id).exists():
            return None
        return person_of_scope(self.scope)

    @database_sync_to_async
    def find_rooms(self) -> list[dict[str, Any]]:
        return [room_as_json(room) for room in Room.objects.with_unread(self.person)]

    @database_sync_to_async
    def find_page(self, after: int, before: int) -> dict[str, Any]:
        return Message.objects.page(self.room_id, after, before)

    @database_sync_to_async
    def find_missed(self) -> dict[str, Any]:
        """The newest messages that the page does not have, and how many more it has missed."""
        page = Message.objects.page(self.room_id, self.newest)
        if page["messages"]:
            self.newest = page["messages"][-1]["id"]
        return page

    @database_sync_to_async
    def save(self, text: str, ref: str) -> dict[str, Any]:
        """Store a message once: the same ref from the same author is the same message."""
        message, _ = Message.objects.get_or_create(
            author=self.person, ref=ref, defaults={"room_id": self.room_id, "text": text}
        )
        return message.as_json()
