"""The names of a layer's subjects and queues in Redis, and the shard that has each. Pure.

* `<prefix>:<db>:<subject>` for a subject: Pub/Sub knows no databases.
* `<prefix>:q:<queue>` for a queue.
* `<prefix>:f` for the queues that follow groups.

Colons in the prefix are escaped, so that names of different prefixes never collide.

Several hosts are shards. Rendezvous hashing assigns each subject and queue to one of them, so that adding a host moves
as few as possible.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

_REMEMBERED = 10_000


class Names:
    """The names for one prefix, over the shards at these places."""

    FOLLOWERS = "followers"
    """The name that chooses the shard for the list of followers."""

    def __init__(self, places: Sequence[str], prefix: str) -> None:
        self._prefix = prefix.replace("%", "%25").replace(":", "%3A")
        self.followers = f"{self._prefix}:f".encode()
        self.pattern_of_queues = re.sub(r"([*?\[\]\\^-])", r"\\\1", self._prefix) + ":q:*"
        is_one = len(places) == 1
        self.index_of = _first if is_one else lru_cache(_REMEMBERED)(lambda name: _rendezvous(places, name))

    def subject(self, db: int, subject: str) -> bytes:
        """The Pub/Sub channel of a subject."""
        return f"{self._prefix}:{db}:{subject}".encode()

    def wake_up(self, db: int, queue: str) -> bytes:
        """The Pub/Sub channel that wakes the readers of a queue."""
        return self.subject(db, f"w.{queue}")

    def queue(self, queue: str) -> bytes:
        """The list of a queue."""
        return f"{self._prefix}:q:{queue}".encode()


def _first(name: str) -> int:
    return 0


def _rendezvous(places: Sequence[str], name: str) -> int:
    """The index of the place with the highest weight for this name."""

    def weight(index: int) -> bytes:
        return hashlib.blake2b(f"{places[index]} {name}".encode(), digest_size=8).digest()

    return max(range(len(places)), key=weight)
