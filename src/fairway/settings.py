"""The one place where the engine reads Django's settings, on behalf of the server, which must not know Django.

Used by `python -m fairway` and by the `runserver` command. What is read is the dictionary `FAIRWAY`.
"""

from __future__ import annotations

from django.conf import settings

from fairway.server.limits import SETTING, Limits


def limits_from_django() -> Limits:
    """The limits that `settings.FAIRWAY` sets; the defaults where it is silent, or where Django is not configured.

    To be called after the application was loaded: it is what configures Django. Raises `ConfigurationError`.
    """
    if not settings.configured:
        return Limits()
    return Limits.from_settings(getattr(settings, SETTING, {}))
