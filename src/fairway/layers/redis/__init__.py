"""The channel layer over Redis: as `BACKEND` in `CHANNEL_LAYERS`, "fairway.layers.redis.RedisChannelLayer"."""

from __future__ import annotations

try:
    from fairway.layers.redis.layer import RedisChannelLayer
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.partition(".")[0] not in ("hiredis", "ormsgpack", "redis"):
        raise
    raise ImportError(
        f"the channel layer over Redis needs {missing.name}: pip install hiredis ormsgpack redis", name=missing.name
    ) from missing

__all__ = ["RedisChannelLayer"]
