"""What the subjects and queues of a layer are called in Redis, and which shard has each. Pure.

`<prefix>:<db>:<subject>` for subjects, since publish and subscribe know no databases, `<prefix>:q:<queue>` for queues,
`<prefix>:f` for those that follow groups. No colon is left in the prefix, so that none of its names can be one of
another prefix.

Several hosts are shards. Each subject and queue has one of them, by rendezvous hashing, so that another host moves as
few as it must.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

_REMEMBERED = 10_000


class Names:
    """Of the layers with one prefix, over the shards at these places."""

    FOLLOWERS = "followers"
    """What stands for the followers of groups where a shard is chosen."""

    def __init__(self, places: Sequence[str], prefix: str) -> None:
        self._prefix = prefix.replace("%", "%25").replace(":", "%3A")
        self.followers = f"{self._prefix}:f".encode()
        self.pattern_of_queues = re.sub(r"([*?\[\]\\^-])", r"\\\1", self._prefix) + ":q:*"
        is_one = len(places) == 1
        self.index_of = _first if is_one else lru_cache(_REMEMBERED)(lambda name: _rendezvous(places, name))

    def subject(self, db: int, subject: str) -> bytes:
        """The channel of publish and subscribe."""
        return f"{self._prefix}:{db}:{subject}".encode()

    def wake_up(self, db: int, queue: str) -> bytes:
        """The channel on which readers of a queue are woken."""
        return self.subject(db, f"w.{queue}")

    def queue(self, queue: str) -> bytes:
        """The list."""
        return f"{self._prefix}:q:{queue}".encode()


def _first(name: str) -> int:
    return 0


def _rendezvous(places: Sequence[str], name: str) -> int:
    """The index of the place that the name belongs to, whatever other places there are."""

    def weight(index: int) -> bytes:
        return hashlib.blake2b(f"{places[index]} {name}".encode(), digest_size=8).digest()

    return max(range(len(places)), key=weight)
