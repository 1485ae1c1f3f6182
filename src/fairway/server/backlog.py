"""Connections of one event loop that have read more than they have decoded.

One read may hold more than should be decoded at once: more messages than the inbox has room for, hundreds of control
frames, or compressed messages that would keep the loop busy for too long. The connection keeps the rest as bytes and
does not read its socket meanwhile, so *something has to make it go on*. If the inbox is full, the consumer does, when
it has taken something. In every other case the backlog does, in the next pass of the loop, whatever the application is
doing.

All connections share one allowance of bytes to inflate. Once it is used up, the time until it is refilled depends on
how far it was exceeded. So however many clients send compression bombs together, a pass takes about as long as one of
their messages, and most passes inflate nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from fairway.protocols.websocket.deflate import Inflation

# How many messages and control frames of one connection are decoded in a pass, and how many connections with a rest are
# called in a pass. Everything else in the loop waits while the application handles the messages: about half a
# millisecond, at 30 µs for a JSON echo. With 64 messages and no bound on connections, ten flooding clients made a
# neighbour wait for 130 ms.
DECODED_PER_PASS = 8
READERS_PER_PASS = 2

# What counts as a large read, and how many bytes of such reads are decoded in a pass: a millisecond for non-ASCII text.
# A message of a megabyte takes another one or two at its end, and twenty sockets may reach their ends together.
LARGE_READ = 1 << 14
READ_PER_PASS = 1 << 19

# About a millisecond of inflating. The message that exceeds it may be of any allowed length.
INFLATED_PER_PASS = 1 << 18

# The rate beyond the allowance. Ordinary messages are a few KiB, and handling them costs more than inflating them.
INFLATED_PER_SECOND = 1 << 25


class Reader(Protocol):
    """A connection that holds undecoded bytes."""

    def go_on_reading(self) -> None:
        """Decode some of them. Called once after each `Backlog.add`."""


class Backlog(Inflation):
    """The backlog of one event loop. Call everything in that loop only."""

    __slots__ = ("_loop", "_scheduled", "_to_decode", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(INFLATED_PER_PASS)
        self._loop = loop
        self._scheduled = False
        self._to_decode = READ_PER_PASS
        self._waiting: deque[Reader] = deque()

    def add(self, reader: Reader) -> None:
        """Call the reader in a later pass, after those before it have had their turn."""
        self._waiting.append(reader)
        self._schedule()

    def may_decode(self, size: int) -> bool:
        """Whether a large read may be decoded in this pass. If not, the connection keeps the bytes, and pauses reading
        until it is called back.
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
        # Refill only when half of it is used, so that clients with short compressed messages cause no extra passes.
        if self.left <= INFLATED_PER_PASS // 2:
            self._schedule()

    def _schedule(self) -> None:
        if self._scheduled:
            return
        self._scheduled = True
        if self.left > 0:
            self._loop.call_soon(self._next_pass)
        else:
            # Not from within the timer: on uvloop, tasks woken there run before any socket is polled, and a neighbour
            # would wait for inflating and handling together.
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
