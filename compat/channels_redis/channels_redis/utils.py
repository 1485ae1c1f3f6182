"""Entries of `hosts`, and redis-py's connections to them."""

from __future__ import annotations

import binascii
from typing import Any

import redis.asyncio

DEFAULT_HOSTS = ({"address": "redis://localhost:6379"},)


def decode_hosts(hosts: Any) -> list[dict[str, Any]]:
    """Each entry as a dictionary: of redis-py's options, or with the URL as `address`."""
    if not hosts:
        return [dict(host) for host in DEFAULT_HOSTS]
    if isinstance(hosts, str | bytes):
        raise ValueError("hosts is a list of hosts: put the URL into one")
    return [_decoded(host) for host in hosts]


def _decoded(host: Any) -> dict[str, Any]:
    if isinstance(host, dict):
        return host
    if isinstance(host, tuple | list):
        return {"host": host[0], "port": host[1]}
    return {"address": host}


def create_pool(host: dict[str, Any]) -> Any:
    """A pool of redis-py's connections to what `decode_hosts` has made of an entry."""
    options = dict(host)
    if "address" in options:
        return redis.asyncio.ConnectionPool.from_url(options.pop("address"), **options)
    master = options.pop("master_name", None)
    if master is None:
        return redis.asyncio.ConnectionPool(**options)
    sentinel = redis.asyncio.Sentinel(
        options.pop("sentinels"), sentinel_kwargs=options.pop("sentinel_kwargs", None), **options
    )
    return redis.asyncio.SentinelConnectionPool(master, sentinel)


def _consistent_hash(value: str | bytes, ring_size: int) -> int:
    """The place of a value on a ring of so many."""
    data = value.encode() if isinstance(value, str) else value
    return (binascii.crc32(data) & 0xFFF) * ring_size // 0x1000


async def _close_redis(connection: Any) -> None:
    """Close a client of redis-py's, and what it is connected by."""
    await connection.aclose(close_connection_pool=True)
