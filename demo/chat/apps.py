"""App configuration; connects the receivers that tell open pages of new rooms and names."""

from __future__ import annotations

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "chat"

    def ready(self) -> None:
        from chat import news  # noqa: F401  (importing it connects the receivers)
