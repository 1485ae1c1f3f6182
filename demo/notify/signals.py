"""A model signal that notifies: whoever saves a new room, everyone hears of it. The chat knows nothing about this."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver
from django.urls import reverse

from chat.models import Room
from notify.models import Notification
from notify.sending import send_notification


@receiver(post_save, sender=Room)
def announce_room(sender: type[Room], instance: Room, created: bool, raw: bool = False, **kwargs: Any) -> None:
    if created and not raw and not instance.built_in:
        url = reverse("chat:room", args=[instance.slug])
        send_notification(Notification.Kind.ROOM, instance.name, sender=instance.opened_by, url=url)
