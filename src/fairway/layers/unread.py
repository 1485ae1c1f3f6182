"""Channels that somebody has sent to, and that nobody reads: how many there may be.

An application may send to a channel whose name came from a client. Such a name may stand for nobody, and its messages
then wait until they expire. So a client that makes up names could fill the memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from math import inf

from fairway.layers.channel_queue import ChannelQueue, Target
from fairway.layers.drops import Drops

MOST_UNREAD = 10_000
"""How many channels without a reader may hold messages that were sent to them one by one; about 2 KB each, with a
short message. The messages of the one that was sent to the longest ago are dropped, as if they had expired.
"""


class Unread:
    """Channels of one hub, those that were sent to the longest ago first. Any thread may call it.

    Members of groups that were only sent to with their group do not count: somebody has added them.
    """

    __slots__ = ("_channels", "_drops", "_lock", "_names", "most")

    def __init__(self, channels: dict[str, Target], lock: threading.RLock, drops: Drops) -> None:
        self.most = MOST_UNREAD
        self._channels = channels
        self._lock = lock
        self._drops = drops
        self._names: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def sent(self, channel: str) -> None:
        """A message for this channel was queued."""
        with self._lock:
            queue = self._channels.get(channel)
            if type(queue) is not ChannelQueue or queue.readers:
                return
            self._names[channel] = None
            self._names.move_to_end(channel)
            while len(self._names) > self.most:
                self._drop(next(iter(self._names)))

    def forget(self, channel: str) -> None:
        """The channel holds no messages any more, or somebody else takes them. Call it under the lock."""
        self._names.pop(channel, None)

    def clear(self) -> None:
        self._names.clear()

    def _drop(self, channel: str) -> None:
        self.forget(channel)
        queue = self._channels.get(channel)
        if type(queue) is ChannelQueue and not queue.readers:
            del self._channels[channel]
            self._drops.crowded_out(channel, queue.drop_expired(inf), self.most)
