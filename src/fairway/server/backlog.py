"""Connections of one event loop that have been read ahead of.

A read may hold more than is to be decoded in one go: more messages than the inbox has room for, hundreds of control
frames, or compressed messages that would keep the loop busy for longer than the others should wait. What is left stays
with the connection as bytes, its socket is not read meanwhile, and *somebody has to come back to it*. If the inbox is
full that is the consumer, when it has taken something. In every other case it is the backlog, in the next pass of the
loop: nothing here depends on what the application does.

One allowance of bytes to inflate is shared by all connections. When it is used up, the time until it is refilled
depends on how far it was exceeded. So however many clients send compression bombs together, a pass takes about as long
as one of their messages, and most passes inflate nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from fairway.protocols.websocket.deflate import Inflation

# So many messages and control frames of one connection are decoded in a pass, and so many connections that have sent
# more go on in it. All others of the loop wait for what the application makes of these: about half a millisecond, at
# 30 µs for a JSON echo. With 64 and no bound of connections, ten clients that flood made a neighbour wait for 130 ms.
DECODED_PER_PASS = 8
READERS_PER_PASS = 2

# Of reads as large as this, so many bytes are decoded in a pass: a millisecond, if the text is wide. A megabyte that
# comes to its end takes one or two of its own, and on twenty sockets they may come to their ends together.
LARGE_READ = 1 << 14
READ_PER_PASS = 1 << 19

# About a millisecond of inflating; the message that passes it may be as long as a message may be.
INFLATED_PER_PASS = 1 << 18

# Beyond the allowance, so much a second. An ordinary client's messages are a few KiB, and what is done with them costs
# more than inflating them.
INFLATED_PER_SECOND = 1 << 25


class Reader(Protocol):
    """A connection that holds bytes which are yet to be decoded."""

    def go_on_reading(self) -> None:
        """Decode some of them. Called once after each `Backlog.add`."""


class Backlog(Inflation):
    """Belongs to one loop; everything is called in that loop only."""

    __slots__ = ("_loop", "_scheduled", "_to_decode", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(INFLATED_PER_PASS)
        self._loop = loop
        self._scheduled = False
        self._to_decode = READ_PER_PASS
        self._waiting: deque[Reader] = deque()

    def add(self, reader: Reader) -> None:
        """Have it go on in a later pass, when those before it have had their turn."""
        self._waiting.append(reader)
        self._schedule()

    def may_decode(self, size: int) -> bool:
        """Whether a large read is to be decoded in this pass. If not, the connection keeps the bytes, and stops reading
        until it has come back to them.
        """
        left = self._to_decode
        if left <= 0:
            return False
        if left == READ_PER_PASS:
            self._loop.call_soon(self._refill)
        self._to_decode = left - size
        return True

    def _refill(self) -> None:
        self._to_decode = READ_PER_PASS

    def spend(self, size: int) -> None:
        self.left -= size
        # Half an allowance is as good as a whole one: clients that compress short messages cost no pass of their own.
        if self.left <= INFLATED_PER_PASS // 2:
            self._schedule()

    def _schedule(self) -> None:
        if self._scheduled:
            return
        self._scheduled = True
        if self.left > 0:
            self._loop.call_soon(self._next_pass)
        else:
            # Not from within the timer: on uvloop what is woken then runs before any socket is looked at, and a
            # neighbour would wait for the inflating and for the handling together.
            self._loop.call_later(-self.left / INFLATED_PER_SECOND, self._loop.call_soon, self._next_pass)

    def _next_pass(self) -> None:
        self._scheduled = False
        self.left = INFLATED_PER_PASS
        waiting = self._waiting
        try:
            for _ in range(min(len(waiting), READERS_PER_PASS)):
                if self.left <= 0:
                    break
                waiting.popleft().go_on_reading()
        finally:
            if waiting:
                self._schedule()
