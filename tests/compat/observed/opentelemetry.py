"""The room with OpenTelemetry's middleware around it."""

from tests.compat.observed.site import with_opentelemetry

application = with_opentelemetry()
