"""The chat consumer: one connection is one person in one room.

From the browser: ``message`` (text, ref) and ``typing``. To the browser: ``welcome`` (history), ``message``, ``people``
(everybody who is here), ``joined``, ``left``, ``typing``, and ``notice`` (a code that the page knows a sentence for).
"""

from __future__ import annotations

import time
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway import AsyncGroupsMixin

from chat.models import MAX_MESSAGE_LENGTH, REF_MAX_LENGTH, Message, Room
from chat.ratelimit import RateLimit
from people.identity import person_of_scope
from people.models import Person


class ChatConsumer(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    person: Person | None = None

    async def connect(self) -> None:
        self.room_id: int = self.scope["url_route"]["kwargs"]["room_id"]
        person = await self.find_person()
        if person is None:
            await self.close()
            return
        self.group = f"chat.room.{self.room_id}"
        self.messages = RateLimit(burst=5, per_second=1)
        self.typings = RateLimit(burst=3, per_second=1)
        self.person = person

        # Join first and read the history afterwards: a message in between arrives twice, and the page drops the
        # second one by its id; the other order could lose it.
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send_json({"type": "welcome", "messages": await self.history()})
        # Several tabs of a person are one, in whichever process they are.
        await self.track(self.group, {"id": person.pk, "name": person.name}, key=str(person.pk))

    async def disconnect(self, code: int) -> None:
        if self.person is not None:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"type": "message", "text": str(text), "ref": str(ref)} if 0 < len(ref) <= REF_MAX_LENGTH:
                await self.say(text.strip(), ref)
            case {"type": "typing"}:
                if self.typings.allow(time.monotonic()):
                    await self.tell_room({"type": "typing", "id": self.person.pk, "name": self.person.name})
            case _:
                await self.send_json({"type": "notice", "code": "unknown"})

    async def say(self, text: str, ref: str) -> None:
        code = self.refusal(text)
        if code:
            await self.send_json({"type": "notice", "code": code, "ref": ref})
            return
        await self.tell_room({"type": "message", **await self.save(text, ref)})

    def refusal(self, text: str) -> str | None:
        if not text:
            return "empty"
        if len(text) > MAX_MESSAGE_LENGTH:
            return "too_long"
        if not self.messages.allow(time.monotonic()):
            return "too_fast"
        return None

    async def tell_room(self, content: dict[str, Any]) -> None:
        await self.channel_layer.group_send(self.group, {"type": "chat.event", "content": content})

    async def presence_state(self, event: dict[str, Any]) -> None:
        people = [data[-1] for data in event.get("members", {}).values()]
        await self.send_json({"type": "people", "people": people})

    async def presence_diff(self, event: dict[str, Any]) -> None:
        # Of very many at once, only the numbers would be told.
        for data in (event.get("joined", {}) | event.get("changed", {})).values():
            await self.send_json({"type": "joined", **data[-1]})
        for data in event.get("left", {}).values():
            await self.send_json({"type": "left", "id": data[-1]["id"]})

    async def chat_event(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])

    @database_sync_to_async
    def find_person(self) -> Person | None:
        if not Room.objects.filter(pk=self.room_id).exists():
            return None
        return person_of_scope(self.scope)

    @database_sync_to_async
    def history(self) -> list[dict[str, Any]]:
        return [message.as_json() for message in Message.objects.latest_of(self.room_id)]

    @database_sync_to_async
    def save(self, text: str, ref: str) -> dict[str, Any]:
        """Store a message once: the same ref from the same author is the same message."""
        message, _ = Message.objects.get_or_create(
            author=self.person, ref=ref, defaults={"room_id": self.room_id, "text": text}
        )
        return message.as_json()
