"""The Django application `channels`.

Installing it makes `runserver` the ASGI one and adds `runworker`. It has no models and no signals,
and nothing else in the package needs it to be installed.
"""

from __future__ import annotations

from django.apps import AppConfig


class ChannelsConfig(AppConfig):
    name = "channels"
    verbose_name = "Channels"

    def ready(self) -> None:
        """Give `runserver` to Channels, wherever the app stands in `INSTALLED_APPS`."""
        # Management commands import models, which must not happen while apps are still being loaded.
        from channels.management.takeover import claim_runserver

        claim_runserver()
