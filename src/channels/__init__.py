"""Real time for Django: consumers, routing, sessions, authentication and channel layers over ASGI.

The import surface of Django Channels 4.x. `__version__` is therefore the version of that interface,
which third-party packages compare against; the version of the distribution is `fairway.__version__`.
"""

from __future__ import annotations

__version__ = "4.3.2"

# Says whose files these are. Another distribution of the same import package lacks it; `fairway` looks when it starts.
__distribution__ = "fairway"

DEFAULT_CHANNEL_LAYER = "default"
