"""Signals passed on to pages: a new room to everyone, a new name to its person. The senders do not know of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.urls import reverse

from chat.models import Room
from notify.models import Notification
from notify.sending import group_of, send_notification, tell
from people.models import Person
from people.signals import renamed


@receiver(post_save, sender=Room)
def announce_room(sender: type[Room], instance: Room, created: bool, raw: bool = False, **kwargs: Any) -> None:
    if created and not raw and not instance.built_in:
        url = reverse("chat:room", args=[instance.slug])
        send_notification(Notification.Kind.ROOM, instance.name, sender=instance.opened_by, url=url)


@receiver(renamed)
def announce_name(sender: type[Person], person: Person, **kwargs: Any) -> None:
    """Every open page of this person shows the new name at its top."""
    transaction.on_commit(partial(tell, group_of(person), {"type": "renamed", "name": person.name}))
