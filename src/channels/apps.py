"""The Django application `channels`.

Installing it makes `runserver` the ASGI one, adds `runworker` and has `manage.py check` look at the setup. It has no
models, and nothing else in the package needs it to be installed.
"""

from __future__ import annotations

from django.apps import AppConfig


class ChannelsConfig(AppConfig):
    name = "channels"
    verbose_name = "Channels"

    def ready(self) -> None:
        """Give `runserver` to Channels, wherever the app stands in `INSTALLED_APPS`, and register the system checks."""
        # Management commands, and what the checks are about, import models: not while apps are still being loaded.
        import fairway.leftovers  # noqa: F401  # connects itself to Django's signal
        from channels.checks import register_checks
        from channels.management.takeover import claim_runserver

        claim_runserver()
        register_checks()
