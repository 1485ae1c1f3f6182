"""The room with nothing around it."""

from tests.compat.observed.site import plain

application = plain
