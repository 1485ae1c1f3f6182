"""The same layer, with the arguments of channels_redis' second one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .core import RedisChannelLayer

__all__ = ["RedisPubSubChannelLayer"]


class RedisPubSubChannelLayer(RedisChannelLayer):
    """As `channels_redis.core.RedisChannelLayer`: names are checked, channels have a capacity, a worker's message goes
    to one worker.

    `on_disconnect` and `on_reconnect` are refused.
    """

    def __init__(
        self,
        hosts: Any = None,
        prefix: str = "asgi",
        on_disconnect: Any = None,
        on_reconnect: Any = None,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        serializer_format: str = "msgpack",
        **options: Any,
    ) -> None:
        super().__init__(
            hosts=hosts,
            prefix=prefix,
            on_disconnect=on_disconnect,
            on_reconnect=on_reconnect,
            symmetric_encryption_keys=symmetric_encryption_keys,
            serializer_format=serializer_format,
            random_prefix_length=0,
            **options,
        )
