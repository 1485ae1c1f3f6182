"""The one place where the engine reads Django's settings, on behalf of the server, which must not know Django.

Used by `python -m fairway`, by the `runserver` command and by the system checks. What is read is the dictionary
`FAIRWAY`, and whether the channel layers fit the number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from django.conf import settings

from fairway.server.limits import SETTING, ConfigurationError, Limits, misspelt_variables
from fairway.server.workers import WORKERS_VARIABLE

IN_MEMORY_BACKEND = "channels.layers.InMemoryChannelLayer"

DIVIDED_HINT = (
    "Configure a layer that processes share, such as fairway.layers.redis.RedisChannelLayer, "
    f"or set {WORKERS_VARIABLE}=1 if one process serves the site."
)


def limits_from_django() -> Limits:
    """Return the limits that environment variables and `settings.FAIRWAY` set, with defaults for the others. Call this
    after the application was loaded, because that configures Django. Raises `ConfigurationError`.
    """
    limits = Limits.from_settings(getattr(settings, SETTING, {})) if settings.configured else Limits()
    return limits.with_environment(os.environ)


def limits_problem() -> str | None:
    """Say in one sentence what is wrong with `settings.FAIRWAY`; None if nothing is."""
    try:
        limits_from_django()
    except ConfigurationError as error:
        return str(error)
    return None


def worker_count() -> int:
    """Return how many processes serve this site, as far as this one can know: the number in the variable, or 1."""
    number = os.environ.get(WORKERS_VARIABLE, "").strip()
    return int(number) if number.isdecimal() else 1


def in_memory_aliases() -> list[str]:
    """The aliases in `CHANNEL_LAYERS` whose layer reaches no other process."""
    layers = getattr(settings, "CHANNEL_LAYERS", None) if settings.configured else None
    entries = layers.items() if isinstance(layers, Mapping) else ()
    return [
        alias for alias, entry in entries if isinstance(entry, Mapping) and entry.get("BACKEND") == IN_MEMORY_BACKEND
    ]


def divided_layers() -> list[str]:
    """Yield a sentence for each layer in memory of which several processes would have one each."""
    workers = worker_count()
    return [_divided(alias, workers) for alias in in_memory_aliases()] if workers > 1 else []


def start_warnings() -> list[str]:
    """Return what to log when a server starts, each with advice on what to do."""
    return [*(f"{sentence} {DIVIDED_HINT}" for sentence in divided_layers()), *misspelt_variables(os.environ)]


def _divided(alias: str, workers: int) -> str:
    return (
        f"{workers} processes serve this site (--workers or {WORKERS_VARIABLE}), and the layer "
        f"CHANNEL_LAYERS[{alias!r}] is in memory: "
        "each process has groups of its own, so a message reaches only the clients of the process that sends it."
    )
