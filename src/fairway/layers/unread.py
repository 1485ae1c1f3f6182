"""Channels that somebody has sent to, and that nobody reads: how many there may be, and what they may hold.

An application may send to a channel whose name came from a client. Such a name may stand for nobody, and its messages
then wait until they expire. So a client that makes up names could fill the memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from math import inf

from fairway.delivery import Message
from fairway.layers.channel_queue import ChannelQueue, Target
from fairway.layers.drops import Drops
from fairway.layers.footprint import footprint

MOST_UNREAD = 10_000
MOST_BYTES = 64 * 1024 * 1024
"""How many channels without a reader may hold messages that were sent to them one by one, and how many bytes of memory
these may take, unless they are all of one channel. Beyond that, the messages of the channel that was sent to the
longest ago are dropped.
"""

OVERHEAD = 500
BARE = 1300
"""Bytes that a message takes in addition to its own, and a channel in addition to its messages: measured, see
`tests/fairway/layers/test_footprints.py`.
"""


class Unread:
    """Channels of one hub, those that were sent to the longest ago first. Any thread may call it.

    Members of groups that were only sent to with their group do not count: somebody has added them.
    """

    __slots__ = ("_channels", "_drops", "_let_go", "_lock", "_sizes", "most", "most_bytes", "size")

    size: int
    """Bytes that all of them take."""

    def __init__(
        self,
        channels: dict[str, Target],
        lock: threading.RLock,
        drops: Drops,
        let_go: Callable[[str, ChannelQueue], None],
    ) -> None:
        """`let_go` is called with a queue that has been emptied: a member may stand behind it."""
        self.most = MOST_UNREAD
        self.most_bytes = MOST_BYTES
        self.size = 0
        self._channels = channels
        self._lock = lock
        self._drops = drops
        self._let_go = let_go
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sizes)

    def sent(self, channel: str, message: Message) -> None:
        """This message was queued for the channel."""
        size = footprint(message) + OVERHEAD
        sizes = self._sizes
        with self._lock:
            queue = self._channels.get(channel)
            if type(queue) is not ChannelQueue or queue.readers:
                return
            before = sizes.get(channel, 0)
            if not before:
                size += BARE + len(channel)
            sizes[channel] = before + size
            sizes.move_to_end(channel)
            self.size += size
            while len(sizes) > self.most or (self.size > self.most_bytes and len(sizes) > 1):
                self._drop(next(iter(sizes)))

    def forget(self, channel: str) -> None:
        """The channel holds no messages any more, or somebody else takes them. Call it under the lock."""
        self.size -= self._sizes.pop(channel, 0)

    def clear(self) -> None:
        self._sizes.clear()
        self.size = 0

    def _drop(self, channel: str) -> None:
        self.forget(channel)
        queue = self._channels.get(channel)
        if type(queue) is ChannelQueue and not queue.readers:
            dropped = queue.drop_expired(inf)
            self._let_go(channel, queue)
            self._drops.crowded_out(channel, dropped, len(self._sizes))
