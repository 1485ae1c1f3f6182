"""A login changes who the session speaks for; a person who takes another name is told of by `renamed`."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.dispatch import Signal, receiver
from django.http import HttpRequest

from people.identity import SESSION_KEY
from people.models import Person

renamed = Signal()
"""Sent with the `person`, who has another name from now on."""


@receiver(user_logged_in)
def follow_login(sender: Any, request: HttpRequest, user: AbstractBaseUser, **kwargs: Any) -> None:
    request.session[SESSION_KEY] = Person.objects.of_user(user).pk
