"""A login changes who the session speaks for."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest

from people.identity import SESSION_KEY
from people.models import Person


@receiver(user_logged_in)
def follow_login(sender: Any, request: HttpRequest, user: AbstractBaseUser, **kwargs: Any) -> None:
    request.session[SESSION_KEY] = Person.objects.of_user(user).pk
