"""The queues that follow groups, in Redis: one sorted set, whose scores are the times of expiry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairway.layers.backplane import Followers
from fairway.layers.redis.scripts import FOLLOW, FOLLOWING
from fairway.layers.redis.shard import Shard


class RedisFollowers(Followers):
    """`shard` is called each time, because there is no shard before the backplane has been started."""

    def __init__(self, shard: Callable[[], Shard], key: bytes) -> None:
        self._key = key
        self._shard = shard

    async def add(self, group: str, queue: str, expiry: float) -> None:
        await self._shard().run(FOLLOW, self._key, [_member(group, queue), max(1, int(expiry * 1000))])

    async def remove(self, group: str, queue: str) -> None:
        await self._shard().call(b"ZREM", self._key, _member(group, queue))

    async def all(self) -> Sequence[tuple[str, str, float]]:
        rows = await self._shard().run(FOLLOWING, self._key, [])
        return [(*parts(member), int(left) / 1000) for member, left in zip(rows[::2], rows[1::2], strict=True)]


def _member(group: str, queue: str) -> bytes:
    return f"{group} {queue}".encode()


def parts(member: bytes) -> tuple[str, str]:
    """The group and the queue in a member of the set."""
    group, _, queue = member.decode("ascii", "replace").partition(" ")
    return group, queue
