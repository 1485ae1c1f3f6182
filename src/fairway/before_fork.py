"""What a project leaves behind at its import that two processes must not share, before workers are forked from it.

Django is here because of its database connections, which are closed: whoever needs one opens its own.
"""

from __future__ import annotations

import sys

from django.conf import settings
from django.db import connections

from fairway.layers.hub_layer import HubLayer


def prepare() -> str:
    """Close what can be closed. Return why this process must not be forked, or ""."""
    if not settings.configured:
        return ""
    connections.close_all()
    # A project that has not imported it has made none.
    registry = sys.modules.get("channels.layers")
    for alias, layer in registry.channel_layers.backends.items() if registry is not None else ():
        if not isinstance(layer, HubLayer):
            # Its workers would all have the same channel names, and get each other's messages.
            return f"the channel layer {alias!r} was made at the import of the application"
    return ""
