"""What a page can do, whether it says so over its WebSocket or in a POST request.

``send`` (to, text), ``read`` (id), ``read_all``.
"""

from __future__ import annotations

import time
from typing import Any

from chat.ratelimit import RateLimit
from notify.models import MAX_TEXT_LENGTH, Notification
from notify.sending import group_of, send_notification, tell
from people.models import Person
from people.texts import is_whole


def send_limit() -> RateLimit:
    return RateLimit(burst=3, per_second=0.5)


def perform(person: Person, content: Any, sends: RateLimit) -> dict[str, Any] | None:
    """Do it. What is returned is for the page that asked; everything else reaches all pages through the layer."""
    match content:
        case {"type": "send", "to": int() | None as to, "text": str(text)} if is_whole(text):
            return send_note(person, to, text.strip(), sends)
        case {"type": "read", "id": int(pk)}:
            return mark_read(person, Notification.objects.unread_by(person).filter(pk=pk))
        case {"type": "read_all"}:
            return mark_read(person, Notification.objects.unread_by(person))
        case _:
            return {"type": "notice", "code": "unknown"}


def send_note(person: Person, to: int | None, text: str, sends: RateLimit) -> dict[str, Any]:
    recipient = None if to is None else Person.objects.filter(pk=to).first()
    code = refusal(to, recipient, text, sends)
    if code:
        return {"type": "notice", "code": code}
    send_notification(Notification.Kind.NOTE, text, sender=person, recipient=recipient)
    return {"type": "sent"}


def refusal(to: int | None, recipient: Person | None, text: str, sends: RateLimit) -> str | None:
    if not text:
        return "empty"
    if len(text) > MAX_TEXT_LENGTH:
        return "too_long"
    if to is not None and recipient is None:
        return "gone"
    if not sends.allow(time.monotonic()):
        return "too_fast"
    return None


def mark_read(person: Person, notifications: Any) -> None:
    """Mark them, and tell every tab of this person."""
    ids = list(notifications.values_list("pk", flat=True))
    person.read_notifications.add(*ids)
    unread = Notification.objects.unread_by(person).count()
    tell(group_of(person), {"type": "read", "ids": ids, "unread": unread})
