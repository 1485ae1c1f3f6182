"""Sending a notification: stored first, then told to whoever is connected.

Called alike by the consumer, by a view and by a signal receiver; none of them knows the others.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

from notify.models import Notification
from people.models import Person

EVERYONE = "notify.everyone"


def group_of(person: Person) -> str:
    return f"notify.person.{person.pk}"


def tell(group: str, content: dict[str, Any]) -> None:
    """Send `content` to each connection in a group; for synchronous code."""
    async_to_sync(get_channel_layer().group_send)(group, {"type": "notify.event", "content": content})


def send_notification(
    kind: Notification.Kind,
    text: str = "",
    *,
    sender: Person | None = None,
    recipient: Person | None = None,
    url: str = "",
) -> Notification:
    """Without a recipient it goes to everyone. Connected people hear of it when the transaction commits."""
    notification = Notification.objects.create(kind=kind, text=text, sender=sender, recipient=recipient, url=url)
    group = group_of(recipient) if recipient else EVERYONE
    content = {"type": "notification", "notification": notification.as_json()}
    transaction.on_commit(partial(tell, group, content))
    return notification
