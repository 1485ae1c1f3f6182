"""Which app's `runserver` is run: Channels', wherever the app stands in `INSTALLED_APPS`.

Django gives a command to the first app that has it, so `django.contrib.staticfiles` in front of `channels`, which is
the order of many tutorials, would start a server without WebSocket and without a word about it.
"""

from __future__ import annotations

from django.core.management import get_commands

_REPLACED = frozenset({"django.core", "django.contrib.staticfiles"})


def claim_runserver() -> None:
    """Take `runserver` from Django's own apps. Call this when the app registry is ready. An app of the project that
    overrides the command and comes first keeps it.
    """
    # Django computes this dictionary once per process, and keeps it.
    commands = get_commands()
    if commands["runserver"] in _REPLACED:
        commands["runserver"] = "channels"
