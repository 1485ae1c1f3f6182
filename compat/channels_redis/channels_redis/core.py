"""The layer, by the name and with the arguments that it has in channels_redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio

from fairway.layers.errors import ChannelFull
from fairway.layers.redis import RedisChannelLayer as FairwayLayer

from .serializers import registry
from .utils import _consistent_hash, create_pool, decode_hosts

__all__ = ["ChannelFull", "RedisChannelLayer"]


class RedisChannelLayer(FairwayLayer):
    """Fairway's layer over Redis; further arguments are its own.

    `random_prefix_length` and `serializer_format` are for `serialize`, which the layer itself does not use.
    """

    brpop_timeout = 5  # of a command that this layer does not send

    def __init__(
        self,
        hosts: Any = None,
        prefix: str = "asgi",
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[Any, int] | None = None,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        random_prefix_length: int = 12,
        serializer_format: str = "msgpack",
        **options: Any,
    ) -> None:
        super().__init__(
            hosts=hosts,
            prefix=prefix,
            expiry=expiry,
            group_expiry=group_expiry,
            capacity=capacity,
            channel_capacity=channel_capacity,
            symmetric_encryption_keys=symmetric_encryption_keys,
            random_prefix_length=random_prefix_length,
            serializer_format=serializer_format,
            **options,
        )
        self.prefix = prefix
        self.hosts = decode_hosts([hosts] if isinstance(hosts, str | bytes) else hosts)
        self.ring_size = len(self.hosts)
        self._serializer = registry.get_serializer(
            serializer_format,
            symmetric_encryption_keys=symmetric_encryption_keys,
            random_prefix_length=random_prefix_length,
            expiry=expiry,
        )

    @property
    def client_prefix(self) -> str:
        """The name of this process, which its channels have in theirs."""
        return self.node.name

    def create_pool(self, index: int) -> Any:
        """A new pool of redis-py's connections to one of the hosts."""
        return create_pool(self.hosts[index])

    def connection(self, index: int) -> redis.asyncio.Redis:
        """A new client of redis-py's for one of the hosts, for commands of one's own; whoever asks closes it."""
        if not 0 <= index < self.ring_size:
            raise ValueError(f"there are {self.ring_size} hosts, and none has the index {index}")
        return redis.asyncio.Redis.from_pool(self.create_pool(index))

    def consistent_hash(self, value: str | bytes) -> int:
        """The host that channels_redis has for a name; this layer has its own rule."""
        return _consistent_hash(value, self.ring_size)

    def serialize(self, message: Any) -> bytes:
        """A message as channels_redis sends it."""
        return self._serializer.serialize(message)

    def deserialize(self, message: bytes) -> Any:
        """A message that channels_redis has sent."""
        return self._serializer.deserialize(message)

    async def wait_received(self) -> None:
        """Nothing is under way in this process that could be waited for."""

    def _group_key(self, group: str) -> bytes:
        """The key of a group in channels_redis; this layer keeps no members in Redis."""
        return f"{self.prefix}:group:{group}".encode()
