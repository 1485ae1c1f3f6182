"""Notifications, and who has read them. One for everyone is one row, however many people there are."""

from __future__ import annotations

from django.db import models
from django.db.models import Case, Exists, OuterRef, Q, When

from people.models import Person

MAX_TEXT_LENGTH = 200


class NotificationQuerySet(models.QuerySet["Notification"]):
    def visible_to(self, person: Person) -> NotificationQuerySet:
        """Those sent to this person, and to everyone since this person came. Each knows whether it is `read`.

        What somebody sends to everyone is no news to the sender.
        """
        for_everyone = Q(recipient=None, created_at__gte=person.created_at)
        receipts = Notification.readers.through.objects.filter(notification=OuterRef("pk"), person=person.pk)
        own = Q(recipient=None, sender=person.pk)
        read = Case(When(own, then=True), default=Exists(receipts))
        return self.filter(Q(recipient=person) | for_everyone).annotate(read=read)

    def unread_by(self, person: Person) -> NotificationQuerySet:
        return self.visible_to(person).filter(read=False)


class Notification(models.Model):
    class Kind(models.TextChoices):
        NOTE = "note"  # written by a person
        ROOM = "room"  # somebody opened a room; the text is its name
        BELL = "bell"  # sent by an ordinary view

    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.NOTE)
    text = models.CharField(max_length=MAX_TEXT_LENGTH, blank=True)
    url = models.CharField(max_length=300, blank=True)
    sender = models.ForeignKey(Person, null=True, blank=True, on_delete=models.SET_NULL, related_name="sent")
    # Nobody in particular: everyone.
    recipient = models.ForeignKey(Person, null=True, blank=True, on_delete=models.CASCADE, related_name="received")
    readers = models.ManyToManyField(Person, related_name="read_notifications", blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.pk,
            "kind": self.kind,
            "text": self.text,
            "url": self.url,
            "sender": self.sender.name if self.sender else None,
            "sender_id": self.sender_id,
            "everyone": self.recipient_id is None,
            "created_at": self.created_at.isoformat(),
            "read": getattr(self, "read", False),
        }
