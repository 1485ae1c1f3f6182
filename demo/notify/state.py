"""What a page shows, read from the database: all of it, and what is new since the page was told last."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from notify.models import Notification
from notify.presence import people_online
from people.models import Person

SHOWN = 30
MAX_RECIPIENTS = 100


def news_for(person: Person, position: int | None) -> list[dict[str, Any]]:
    """For a page that connects: the notifications after the last one that it knows, if it knows any, then the state."""
    state = state_of(person)
    missed = [] if position is None else since(person, position, end=state["newest"])
    return [*missed, state]


def since(person: Person, position: int, end: int | None = None) -> list[dict[str, Any]]:
    """The notifications after a position, oldest first, up to `end`; of very many only the last.

    Their order is that of their commits, since SQLite has one writer at a time: none can turn up behind a position.
    """
    found = Notification.objects.visible_to(person).filter(pk__gt=position).select_related("sender")
    if end is not None:
        found = found.filter(pk__lte=end)
    return [{"type": "notification", "notification": each.as_json()} for each in reversed(found[:SHOWN])]


def state_of(person: Person) -> dict[str, Any]:
    """Everything that the page shows. `newest` is the position of who has got it."""
    shown = list(Notification.objects.visible_to(person).select_related("sender")[:SHOWN])
    return {
        "type": "state",
        "me": person.pk,
        "name": person.name,
        "newest": shown[0].pk if shown else 0,
        "unread": Notification.objects.unread_by(person).count(),
        "notifications": [notification.as_json() for notification in shown],
        "people": recipients(),
    }


def position_of(text: str) -> int | None:
    """The position that a client names; None if it names none."""
    return int(text) if text.isdecimal() and len(text) < 19 else None


def version_of(state: dict[str, Any]) -> str:
    """Differs when anything in the state differs."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]


def recipients() -> list[dict[str, Any]]:
    """Whom one can write to: who is online, and who has an account."""
    online = people_online()[:MAX_RECIPIENTS]
    seen = {person["id"] for person in online}
    accounts = Person.objects.exclude(user=None).exclude(pk__in=seen).order_by("name")[:MAX_RECIPIENTS]
    away = [{"id": person.pk, "name": person.name, "online": False} for person in accounts]
    return [person | {"online": True} for person in online] + away
