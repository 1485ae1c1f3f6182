"""The public names of channels_redis, over Fairway's layer for Redis.

For packages that import them, and projects that change their layer without changing their settings.
"""

from __future__ import annotations

__version__ = "4.3.0"
