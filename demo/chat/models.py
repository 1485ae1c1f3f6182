"""Rooms, what was said in them, and how far each person has read."""

from __future__ import annotations

import re
import unicodedata

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils.text import slugify
from django.utils.translation import gettext as _

from people.models import Person

MAX_MESSAGE_LENGTH = 1000
MAX_ROOMS = 200
ROOM_NAME_MAX_LENGTH = 40
REF_MAX_LENGTH = 36  # a UUID in text form
PAGE = 50  # messages that a page gets at once

_ROOM_NAME = re.compile(r"\w[\w '&!?·-]*")


def clean_room_name(text: str) -> str:
    """The name as it is stored. Raises ValidationError with a sentence for the person who typed it."""
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if not name or len(name) > ROOM_NAME_MAX_LENGTH:
        raise ValidationError(_("A room name must have 1 to %(limit)d characters.") % {"limit": ROOM_NAME_MAX_LENGTH})
    if not _ROOM_NAME.fullmatch(name) or not slugify(name, allow_unicode=True):
        raise ValidationError(_("A room name can contain letters, digits, spaces and hyphens."))
    return name


class RoomQuerySet(models.QuerySet["Room"]):
    def with_unread(self, person: Person) -> RoomQuerySet:
        """Each room knows how many messages this person has not read: of others, and since this person came."""
        bookmark = Bookmark.objects.filter(person=person.pk, room=OuterRef("room")).values("message_id")
        unread = (
            Message.objects.filter(room=OuterRef("pk"), sent_at__gte=person.created_at)
            .filter(pk__gt=Coalesce(Subquery(bookmark), 0))
            .exclude(author=person.pk)
            .values("room")
            .annotate(count=Count("pk"))
            .values("count")
        )
        return self.annotate(unread=Coalesce(Subquery(unread), 0))


class Room(models.Model):
    name = models.CharField(max_length=ROOM_NAME_MAX_LENGTH)
    slug = models.SlugField(max_length=ROOM_NAME_MAX_LENGTH * 2, unique=True, allow_unicode=True)
    built_in = models.BooleanField(default=False)
    opened_by = models.ForeignKey(Person, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RoomQuerySet.as_manager()

    class Meta:
        ordering = ["-built_in", "pk"]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """The name to show: rooms that come with the demo have one in each language."""
        return _(self.name) if self.built_in else self.name


class MessageQuerySet(models.QuerySet["Message"]):
    def page(self, room_id: int, after: int = 0, before: int | None = None) -> dict[str, object]:
        """The last messages of a room between two others, oldest first, and how many more there are before them."""
        found = self.filter(room_id=room_id, pk__gt=after)
        if before is not None:
            found = found.filter(pk__lt=before)
        newest_first = found.select_related("author").order_by("-pk")[:PAGE]
        messages = [message.as_json() for message in reversed(newest_first)]
        earlier = found.count() - len(messages) if len(messages) == PAGE else 0
        return {"messages": messages, "after": after, "earlier": earlier}


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


class BookmarkManager(models.Manager["Bookmark"]):
    def read(self, person: Person, room_id: int, message_id: int) -> None:
        """This person has read the room up to a message; a bookmark never goes back."""
        bookmark, _created = self.get_or_create(person=person, room_id=room_id)
        self.filter(pk=bookmark.pk, message_id__lt=message_id).update(message_id=message_id)


class Bookmark(models.Model):
    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    room = models.ForeignKey(Room, on_delete=models.CASCADE)
    message_id = models.BigIntegerField(default=0)

    objects = BookmarkManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["person", "room"], name="bookmark_once_per_person_and_room")]

    def __str__(self) -> str:
        return f"{self.person} in {self.room}: {self.message_id}"
