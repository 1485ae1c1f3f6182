"""Prepares a process that has imported the application for forking: closes what two processes must not share, and loads
what they should.

Django's database connections are closed. Each process opens a new connection when it needs one. The classes of the
channel layers are imported, because a layer is made only when it is used: the modules of the layer over Redis take
13 MB, which otherwise each worker would have for itself.
"""

from __future__ import annotations

import contextlib
import sys

from django.conf import settings
from django.db import connections

from fairway.layers.hub_layer import HubLayer


def prepare() -> str:
    """Close what can be closed. Return the reason why this process must not be forked, or an empty string."""
    if not settings.configured:
        return ""
    connections.close_all()
    # If the module was not imported, the project has made no layers.
    registry = sys.modules.get("channels.layers")
    if registry is None:
        return ""
    for alias in registry.channel_layers.configs:
        with contextlib.suppress(Exception):  # whoever uses the layer is told
            registry.channel_layers.backend_class(alias)
    for alias, layer in registry.channel_layers.backends.items():
        if not isinstance(layer, HubLayer):
            # All workers would have the same channel names, and receive each other's messages.
            return f"the channel layer {alias!r} was made at the import of the application"
    return ""
