"""Makes `runserver` the command of this app, wherever the app is in `INSTALLED_APPS`.

Django runs the command of the first app that has it. In many tutorials, `django.contrib.staticfiles` comes before
`channels`. Without this module, its `runserver` would silently start a server without WebSockets.
"""

from __future__ import annotations

from django.core.management import get_commands

_REPLACED = frozenset({"django.core", "django.contrib.staticfiles"})


def claim_runserver() -> None:
    """Take over `runserver` from Django's own apps. Call this when the app registry is ready.

    If another app comes first and has the command, it keeps it.
    """
    # Django computes this dictionary once for each process, and keeps it.
    commands = get_commands()
    if commands["runserver"] in _REPLACED:
        commands["runserver"] = "channels"
