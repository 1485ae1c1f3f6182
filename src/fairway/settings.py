"""Reads Django's settings for the server, which must not import Django.

`python -m fairway`, the `runserver` command and the system checks use it. It reads the dictionary `FAIRWAY`, and checks
whether the channel layers work with the number of processes.

Nothing here imports Django: an application that does without gets none. Unless it is configured, `django.conf.settings`
raises an exception when somebody looks at it, as tools do that look at all objects of a process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from fairway.server.limits import SETTING, ConfigurationError, Limits, misspelt_variables
from fairway.server.workers import WORKERS_VARIABLE

IN_MEMORY_BACKEND = "channels.layers.InMemoryChannelLayer"

DIVIDED_HINT = (
    "Configure a layer that processes share, such as fairway.layers.redis.RedisChannelLayer, "
    f"or set {WORKERS_VARIABLE}=1 if one process serves the site."
)


def uses_django() -> bool:
    """Whether this is a process of Django's: the application has imported Django, or the environment names settings."""
    return "django.conf" in sys.modules or "DJANGO_SETTINGS_MODULE" in os.environ


def project_settings() -> Any:
    """Django's settings if they are configured, otherwise None."""
    module = sys.modules.get("django.conf")
    return module.settings if module is not None and module.settings.configured else None


def limits_from_django() -> Limits:
    """Return the limits set by environment variables and `settings.FAIRWAY`, with defaults for the others.

    A variable overrides the setting. Call this after loading the application, because that configures Django. Raises
    `ConfigurationError` if a name or a value is not allowed.
    """
    settings = project_settings()
    limits = Limits() if settings is None else Limits.from_settings(getattr(settings, SETTING, {}))
    return limits.with_environment(os.environ)


def limits_problem() -> str | None:
    """Return a sentence about what is wrong with the limits, or None."""
    try:
        limits_from_django()
    except ConfigurationError as error:
        return str(error)
    return None


def worker_count() -> int:
    """Return how many processes serve this site, according to the environment variable. 1 if it is not set."""
    number = os.environ.get(WORKERS_VARIABLE, "").strip()
    return int(number) if number.isdecimal() else 1


def in_memory_aliases() -> list[str]:
    """The aliases in `CHANNEL_LAYERS` with the in-memory layer, which reaches no other process."""
    layers = getattr(project_settings(), "CHANNEL_LAYERS", None)
    entries = layers.items() if isinstance(layers, Mapping) else ()
    return [
        alias for alias, entry in entries if isinstance(entry, Mapping) and entry.get("BACKEND") == IN_MEMORY_BACKEND
    ]


def divided_layers() -> list[str]:
    """Return a sentence for each in-memory layer if several processes serve the site, which it does not connect."""
    workers = worker_count()
    return [_divided(alias, workers) for alias in in_memory_aliases()] if workers > 1 else []


def start_warnings() -> list[str]:
    """Return the warnings to log when a server starts. Each one says what to do."""
    return [*(f"{sentence} {DIVIDED_HINT}" for sentence in divided_layers()), *misspelt_variables(os.environ)]


def _divided(alias: str, workers: int) -> str:
    return (
        f"{workers} processes serve this site (--workers or {WORKERS_VARIABLE}), and the layer "
        f"CHANNEL_LAYERS[{alias!r}] is in memory: "
        "each process has groups of its own, so a message reaches only the clients of the process that sends it."
    )
