"""A person: someone with a name, with or without a Django account. Chat and notifications refer to people."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, models, transaction

from people.names import NAME_MAX_LENGTH, name_key, suggest_name


class PersonManager(models.Manager["Person"]):
    def create_guest(self) -> Person:
        """A new person under a free suggested name."""
        for attempt in itertools.count():
            name = suggest_name(attempt)
            if not self.filter(name_key=name_key(name)).exists():
                with suppress(IntegrityError), transaction.atomic():  # somebody took it in between
                    return self.create(name=name)
        raise AssertionError("itertools.count() does not end")

    def of_user(self, user: AbstractBaseUser) -> Person:
        """The person of an account, made on its first login. A guest who already has its name keeps it."""
        person = self.filter(user=user).first()
        if person is not None:
            return person
        name = user.get_username()[:NAME_MAX_LENGTH]
        if self.filter(name_key=name_key(name)).exists():
            name = f"{name[: NAME_MAX_LENGTH - 8]} @{user.pk}"
        return self.create(user=user, name=name)


class Person(models.Model):
    name = models.CharField(max_length=NAME_MAX_LENGTH)
    name_key = models.CharField(max_length=NAME_MAX_LENGTH * 4, unique=True, editable=False)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="person"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PersonManager()

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.name_key = name_key(self.name)
        super().save(*args, **kwargs)
