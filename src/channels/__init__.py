"""Real time for Django: consumers, routing, sessions, authentication and channel layers over ASGI.

This package has the interface of Django Channels 4.x. `__version__` is the version of that interface, because
third-party packages compare it. The version of the distribution is `fairway.__version__`.
"""

from __future__ import annotations

__version__ = "4.3.2"

# Marks these files as ours. `fairway` checks this at its start, in case another distribution has replaced the package.
__distribution__ = "fairway"

DEFAULT_CHANNEL_LAYER = "default"
