"""The room with Sentry's middleware around it."""

from tests.compat.observed.site import with_sentry

application = with_sentry()
