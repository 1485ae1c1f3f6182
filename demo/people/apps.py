"""App configuration; connects the receiver that follows logins."""

from __future__ import annotations

from django.apps import AppConfig


class PeopleConfig(AppConfig):
    name = "people"

    def ready(self) -> None:
        from people import signals  # noqa: F401  (importing it connects the receiver)
