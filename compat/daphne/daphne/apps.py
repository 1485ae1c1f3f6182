"""The Django application `daphne`: installing it makes `runserver` the ASGI one."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from daphne.checks import check_daphne_installed


class DaphneConfig(AppConfig):
    name = "daphne"
    verbose_name = "Daphne"

    def ready(self) -> None:
        """Register the check, and take `runserver` from Django's own apps."""
        # Management commands import models: not while apps are still being loaded.
        from channels.management.takeover import claim_runserver

        checks.register(check_daphne_installed, checks.Tags.staticfiles)
        claim_runserver()
