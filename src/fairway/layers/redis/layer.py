"""The channel layer over Redis, with the options of channels_redis and its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.layer import MAX_MESSAGE_SIZE, BackplaneLayer
from fairway.layers.redis.address import addresses
from fairway.layers.redis.backplane import RedisBackplane
from fairway.layers.redis.blocking import BlockingRedis

# Options of channels_redis that are refused unless they have this value, and why.
_REFUSED: Mapping[str, tuple[Any, str]] = {
    "serializer_format": ("msgpack", "messages travel as MessagePack: remove it"),
    "on_disconnect": (None, "channels_redis 4 never calls it: remove it"),
    "on_reconnect": (None, "channels_redis 4 never calls it: remove it"),
}


class RedisChannelLayer(BackplaneLayer):
    """A layer for many processes and machines, over Redis 6.2 or later.

    `hosts` are URLs, pairs of host and port, or dictionaries of redis-py's options; several are shards. `prefix`
    separates sites that share a Redis. A call fails if Redis sends nothing for `answer_timeout` seconds. For
    `outage_wait` seconds after the connection is lost, calls wait for the next one; later calls fail at once.
    `trust_failover` says that a server that takes over has all messages, so that histories go on. Other options are
    those of `BackplaneLayer`.
    """

    close_pools = BackplaneLayer.close  # channels_redis' name for it

    def __init__(
        self,
        hosts: Any = None,
        prefix: str = "fairway",
        answer_timeout: float = 5.0,
        outage_wait: float = 2.0,
        random_prefix_length: int = 0,
        max_message_size: int = MAX_MESSAGE_SIZE,
        trust_failover: bool = False,
        **options: Any,
    ) -> None:
        """`random_prefix_length` is an option of channels_redis, and ignored: it keeps equal messages apart there."""
        for name, (accepted, reason) in _REFUSED.items():
            given = options.pop(name, accepted)
            if given and given != accepted:
                raise InvalidChannelLayerError(f"CHANNEL_LAYERS, CONFIG: {name} is not supported: {reason}")
        places = addresses(hosts)
        super().__init__(
            lambda: RedisBackplane(places, prefix, answer_timeout, outage_wait, max_message_size, trust_failover),
            max_message_size=max_message_size,
            prefix=prefix,
            blocking=BlockingRedis(places, prefix, trust_failover),
            **options,
        )
