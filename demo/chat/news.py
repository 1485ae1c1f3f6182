"""What every open page of the chat is told, whichever room it shows: new rooms, where something was said, new names."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver
from django.urls import reverse
from fairway.layers.sync import group_send_on_commit

from chat.models import Room
from people.models import Person
from people.signals import renamed

EVERY_PAGE = "chat.pages"


def group_of_room(room_id: int) -> str:
    """The group that has a history: see CHANNEL_LAYERS in the settings."""
    return f"chat.room.{room_id}"


def group_of_person(person_id: int) -> str:
    return f"chat.person.{person_id}"


def room_as_json(room: Room) -> dict[str, Any]:
    """A room in the list of rooms. The page itself knows the rooms that have a name in each language."""
    return {
        "id": room.pk,
        "name": room.name,
        "url": reverse("chat:room", args=[room.slug]),
        "unread": getattr(room, "unread", 0),
    }


@receiver(post_save, sender=Room)
def tell_of_room(sender: type[Room], instance: Room, created: bool, raw: bool = False, **kwargs: Any) -> None:
    if created and not raw:
        content = {"type": "room", "room": room_as_json(instance)}
        group_send_on_commit(EVERY_PAGE, {"type": "chat.event", "content": content})


@receiver(renamed)
def tell_of_name(sender: type[Person], person: Person, **kwargs: Any) -> None:
    """The connections of this person tell the others, by presence."""
    group_send_on_commit(group_of_person(person.pk), {"type": "chat.renamed", "name": person.name})
