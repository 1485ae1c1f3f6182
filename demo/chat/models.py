"""Rooms and what was said in them."""

from __future__ import annotations

import re
import unicodedata

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.text import slugify
from django.utils.translation import gettext as _

from people.models import Person

MAX_MESSAGE_LENGTH = 1000
MAX_ROOMS = 200
ROOM_NAME_MAX_LENGTH = 40
REF_MAX_LENGTH = 36  # a UUID in text form

_ROOM_NAME = re.compile(r"\w[\w '&!?·-]*")


def clean_room_name(text: str) -> str:
    """The name as it is stored. Raises ValidationError with a sentence for the person who typed it."""
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if not name or len(name) > ROOM_NAME_MAX_LENGTH:
        raise ValidationError(_("A room's name has 1 to %(limit)d characters.") % {"limit": ROOM_NAME_MAX_LENGTH})
    if not _ROOM_NAME.fullmatch(name) or not slugify(name, allow_unicode=True):
        raise ValidationError(_("A room's name is made of letters, digits, spaces and hyphens."))
    return name


class Room(models.Model):
    name = models.CharField(max_length=ROOM_NAME_MAX_LENGTH)
    slug = models.SlugField(max_length=ROOM_NAME_MAX_LENGTH * 2, unique=True, allow_unicode=True)
    built_in = models.BooleanField(default=False)
    opened_by = models.ForeignKey(Person, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-built_in", "pk"]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """The name to show: rooms that come with the demo have one in each language."""
        return _(self.name) if self.built_in else self.name


class MessageQuerySet(models.QuerySet["Message"]):
    def latest_of(self, room_id: int, count: int = 50) -> list[Message]:
        """The last messages of a room, oldest first."""
        newest_first = self.filter(room_id=room_id).select_related("author").order_by("-pk")
        return list(reversed(newest_first[:count]))


class Message(models.Model):
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    author = models.ForeignKey(Person, on_delete=models.CASCADE)
    text = models.CharField(max_length=MAX_MESSAGE_LENGTH)
    # Chosen by the browser, so that it recognises its own message after a lost connection.
    ref = models.CharField(max_length=REF_MAX_LENGTH)
    sent_at = models.DateTimeField(auto_now_add=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["author", "ref"], name="message_ref_once_per_author")]
        indexes = [models.Index(fields=["room", "id"])]

    def __str__(self) -> str:
        return f"{self.author}: {self.text}"

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.pk,
            "ref": self.ref,
            "author": {"id": self.author_id, "name": self.author.name},
            "text": self.text,
            "sent_at": self.sent_at.isoformat(),
        }
