"""The Django application `channels`.

If it is installed, `runserver` serves ASGI, the command `runworker` exists, and `manage.py check` checks the project's
setup. It has no models. The rest of the package works without it.
"""

from __future__ import annotations

from django.apps import AppConfig


class ChannelsConfig(AppConfig):
    name = "channels"
    verbose_name = "Channels"

    def ready(self) -> None:
        """Take over `runserver`, wherever the app is in `INSTALLED_APPS`, and register the system checks."""
        # These modules import models, which is not possible while this module is loaded.
        import fairway.leftovers  # noqa: F401  # connects itself to Django's signal
        from channels.checks import register_checks
        from channels.management.takeover import claim_runserver

        claim_runserver()
        register_checks()
