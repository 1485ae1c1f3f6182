"""The system check of the app's place in `INSTALLED_APPS`.

Fairway's `runserver` is found wherever the app stands; Daphne's is not. The check keeps the project such that it can
go back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error

_STATICFILES = "django.contrib.staticfiles"


def check_daphne_installed(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """An error `daphne.E001` if `daphne` is listed after `django.contrib.staticfiles`."""
    names = [config.name for config in apps.get_app_configs()]
    if _STATICFILES not in names or "daphne" not in names or names.index("daphne") < names.index(_STATICFILES):
        return []
    return [
        Error(
            f"daphne is listed after {_STATICFILES} in INSTALLED_APPS.",
            hint='Move "daphne" to the head of INSTALLED_APPS, or remove it: Fairway\'s "channels" needs no order.',
            id="daphne.E001",
        )
    ]
