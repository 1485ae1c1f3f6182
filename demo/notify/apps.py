"""App configuration; connects the receiver that announces new rooms."""

from __future__ import annotations

from django.apps import AppConfig


class NotifyConfig(AppConfig):
    name = "notify"

    def ready(self) -> None:
        from notify import signals  # noqa: F401  (importing it connects the receiver)
