"""The notifications consumer: synchronous, so it uses the ORM and every other part of Django directly.

Every page of the demo holds one connection to it. From the browser: ``send`` (to, text), ``read`` (id), ``read_all``.
To the browser: ``state`` (everything, on connecting), ``notification``, ``read`` (ids, and how many are left),
``online``, ``sent``, ``notice``.
"""

from __future__ import annotations

import time
from typing import Any

from asgiref.sync import async_to_sync
from channels.generic.websocket import JsonWebsocketConsumer

from chat.ratelimit import RateLimit
from notify.models import MAX_TEXT_LENGTH, Notification
from notify.sending import EVERYONE, group_of, send_notification, tell
from people.identity import person_of_scope
from people.models import Person
from people.roster import Roster

SITE = "site"
SHOWN = 30
MAX_RECIPIENTS = 100

roster = Roster()


class NotifyConsumer(JsonWebsocketConsumer):
    groups = [EVERYONE]
    person: Person | None = None

    def connect(self) -> None:
        person = person_of_scope(self.scope)
        if person is None:
            self.close()
            return
        self.person = person
        self.sends = RateLimit(burst=3, per_second=0.5)
        news = roster.join(SITE, person.pk, person.name)
        async_to_sync(self.channel_layer.group_add)(group_of(person), self.channel_name)
        self.accept()
        self.send_json(self.state())
        if news:
            self.tell_online(True)

    def disconnect(self, code: int) -> None:
        if self.person is None:
            return
        async_to_sync(self.channel_layer.group_discard)(group_of(self.person), self.channel_name)
        if roster.leave(SITE, self.person.pk):
            self.tell_online(False)

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"type": "send", "to": int() | None as to, "text": str(text)}:
                self.send_note(to, text.strip())
            case {"type": "read", "id": int(pk)}:
                self.mark_read(Notification.objects.unread_by(self.person).filter(pk=pk))
            case {"type": "read_all"}:
                self.mark_read(Notification.objects.unread_by(self.person))
            case _:
                self.send_json({"type": "notice", "code": "unknown"})

    def notify_event(self, event: dict[str, Any]) -> None:
        self.send_json(event["content"])

    def send_note(self, to: int | None, text: str) -> None:
        recipient = None if to is None else Person.objects.filter(pk=to).first()
        code = self.refusal(to, recipient, text)
        if code:
            self.send_json({"type": "notice", "code": code})
            return
        send_notification(Notification.Kind.NOTE, text, sender=self.person, recipient=recipient)
        self.send_json({"type": "sent"})

    def refusal(self, to: int | None, recipient: Person | None, text: str) -> str | None:
        if not text:
            return "empty"
        if len(text) > MAX_TEXT_LENGTH:
            return "too_long"
        if to is not None and recipient is None:
            return "gone"
        if not self.sends.allow(time.monotonic()):
            return "too_fast"
        return None

    def mark_read(self, notifications: Any) -> None:
        """Mark them, and tell every tab of this person."""
        ids = list(notifications.values_list("pk", flat=True))
        self.person.read_notifications.add(*ids)
        unread = Notification.objects.unread_by(self.person).count()
        tell(group_of(self.person), {"type": "read", "ids": ids, "unread": unread})

    def tell_online(self, online: bool) -> None:
        about = {"id": self.person.pk, "name": self.person.name, "account": self.person.user_id is not None}
        tell(EVERYONE, {"type": "online", "online": online, **about})

    def state(self) -> dict[str, Any]:
        shown = Notification.objects.visible_to(self.person).select_related("sender")[:SHOWN]
        return {
            "type": "state",
            "me": self.person.pk,
            "unread": Notification.objects.unread_by(self.person).count(),
            "notifications": [notification.as_json() for notification in shown],
            "people": self.recipients(),
        }

    def recipients(self) -> list[dict[str, Any]]:
        """Whom one can write to: who is online, and who has an account."""
        online = roster.people(SITE)[:MAX_RECIPIENTS]
        seen = {person["id"] for person in online}
        accounts = Person.objects.exclude(user=None).exclude(pk__in=seen).order_by("name")[:MAX_RECIPIENTS]
        away = [{"id": person.pk, "name": person.name, "online": False} for person in accounts]
        return [person | {"online": True} for person in online] + away
