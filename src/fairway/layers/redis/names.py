"""The names of a layer's subjects and queues in Redis, and the shard that has each. Pure.

* `<prefix>:<db>:<subject>` for a subject: Pub/Sub knows no databases.
* `<prefix>:q:<queue>` for a queue.
* `<prefix>:f` for the queues that follow groups.
* `<prefix>:l2` for the leases of processes. A process in one of its terms is a *holder*, `<process>.<term>`.
* `<prefix>:e2:<holder>` for its entries, by subject; `<prefix>:e2:<holder>:<subject>` for those under a subject that
  has many, and `<prefix>:o2:<holder>` for these subjects; `<prefix>:d2:<holder>` while somebody sees to the holder.
* `<prefix>:m2:<subject>` and `<prefix>:s2:<subject>` for a subject's history: its place, and its messages.
* `<prefix>:i2:<subject>:<key>` for the key of a message that is sent once; `<prefix>:m2::changes` counts all messages,
  and `<prefix>:m2::reign` says which server has the histories, and how many had them before.

The digit is the version of what is there: releases that write it in another way have another one.

Colons in the prefix are escaped, so that names of different prefixes never collide.

Several hosts are shards. Rendezvous hashing assigns each subject and queue to one of them, so that adding a host moves
as few as possible.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

HISTORY_VERSION = PRESENCE_VERSION = 2

_REMEMBERED = 10_000


class Names:
    """The names for one prefix, over the shards at these places."""

    FOLLOWERS = "followers"
    """The name that chooses the shard for the list of followers."""

    def __init__(self, places: Sequence[str], prefix: str) -> None:
        self._prefix = prefix.replace("%", "%25").replace(":", "%3A")
        self.followers = f"{self._prefix}:f".encode()
        self.leases = f"{self._prefix}:l{PRESENCE_VERSION}".encode()
        self.changes = f"{self._prefix}:m{HISTORY_VERSION}::changes".encode()
        self.reign = f"{self._prefix}:m{HISTORY_VERSION}::reign".encode()
        self.pattern_to_flush = re.sub(r"([*?\[\]\\^-])", r"\\\1", self._prefix) + ":[dehilmoqs]*"
        self._flushed = re.compile(re.escape(self._prefix).encode() + rb":([dehimoqs]\d?:.*|l\d?)", re.DOTALL)
        is_one = len(places) == 1
        self.index_of = _first if is_one else lru_cache(_REMEMBERED)(lambda name: _rendezvous(places, name))

    def is_to_flush(self, key: bytes) -> bool:
        """Whether a key of the pattern is one of ours: others may have keys that begin with the same prefix."""
        return self._flushed.fullmatch(key) is not None

    def subject(self, db: int, subject: str) -> bytes:
        """The Pub/Sub channel of a subject."""
        return f"{self._prefix}:{db}:{subject}".encode()

    def wake_up(self, db: int, queue: str) -> bytes:
        """The Pub/Sub channel that wakes the readers of a queue."""
        return self.subject(db, f"w.{queue}")

    def queue(self, queue: str) -> bytes:
        """The list of a queue."""
        return f"{self._prefix}:q:{queue}".encode()

    @property
    def entries_of_all(self) -> bytes:
        """What the names of all hashes of entries begin with."""
        return f"{self._prefix}:e{PRESENCE_VERSION}:".encode()

    def entries(self, holder: str) -> bytes:
        """The hash of a holder's entries, by subject."""
        return self.entries_of_all + holder.encode()

    def many_entries(self, holder: str, subject: str) -> bytes:
        """The hash of a holder's entries under a subject that has many."""
        return self.entries(holder) + b":" + subject.encode()

    def subjects(self, holder: str) -> bytes:
        """The set of subjects that have hashes of their own."""
        return f"{self._prefix}:o{PRESENCE_VERSION}:{holder}".encode()

    def claim(self, holder: str) -> bytes:
        """The key that exists while somebody sees to a holder whose lease has ended."""
        return f"{self._prefix}:d{PRESENCE_VERSION}:{holder}".encode()

    def history(self, subject: str) -> tuple[bytes, bytes]:
        """The hash and the list of a subject's history."""
        version = HISTORY_VERSION
        return f"{self._prefix}:m{version}:{subject}".encode(), f"{self._prefix}:s{version}:{subject}".encode()

    def key(self, subject: str, key: str) -> bytes:
        """What remembers that a message with this key was sent to a subject."""
        return f"{self._prefix}:i{HISTORY_VERSION}:{subject}:{key}".encode()


def _first(name: str) -> int:
    return 0


def _rendezvous(places: Sequence[str], name: str) -> int:
    """The index of the place with the highest weight for this name."""

    def weight(index: int) -> bytes:
        return hashlib.blake2b(f"{places[index]} {name}".encode(), digest_size=8).digest()

    return max(range(len(places)), key=weight)
