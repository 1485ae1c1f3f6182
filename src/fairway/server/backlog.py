"""Connections of one event loop that have read more than they have decoded.

One read may hold more than should be decoded at once: more messages than the inbox has room for, hundreds of control
frames, compressed messages that would keep the loop busy for too long, thousands of chunks of a body (HTTP/1.1), or
thousands of frames (HTTP/2). The connection keeps the rest as bytes and does not read its socket meanwhile, so
*something has to make it go on*. If the inbox or the buffer of the body is full, the application does, when it has
taken something. In every other case the backlog does, in the next pass of the loop, whatever the application is doing.

All connections share one allowance of bytes to inflate in a pass, which ends in the middle of a long message. If it is
used up in pass after pass, there is a rate as well. So however many clients send compression bombs together, a pass
takes half a millisecond longer, and most passes inflate nothing. A message that was begun is finished before others
begin: each of them needs its window, and holds what has been inflated. Then it is the others' turn, however many
messages the same client has sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from fairway.protocols.websocket.deflate import Inflating, Inflation, inflate_short

# How many messages and control frames of one connection are decoded in a pass, and how many connections with a rest are
# called in a pass. Everything else in the loop waits while the application handles the messages: about half a
# millisecond, at 30 µs for a JSON echo. With 64 messages and no bound on connections, ten flooding clients made a
# neighbour wait for 130 ms.
DECODED_PER_PASS = 8
READERS_PER_PASS = 2

# The same while a request is under way, which may need the loop a dozen times.
READERS_BESIDE_REQUESTS = 1

# What counts as a large read, and how many bytes of such reads are decoded in a pass: a millisecond for non-ASCII text.
LARGE_READ = 1 << 14
READ_PER_PASS = 1 << 19

# A read of so much takes a quarter of a millisecond, even if nothing is decoded, because the memory is fresh. So such a
# connection is read again when it is its turn, and not with all others. While a request is under way, others have the
# loop for themselves before that: 2 ms behind a quarter of a megabyte. A page may need the loop a dozen times.
LARGEST_READ = 1 << 16
READ_REST = 8e-9

# A long message takes more at its end, when its pieces are joined: up to 2.5 ms for a megabyte, because wide text takes
# four bytes of fresh memory for each character. Twenty sockets may reach their ends together. So nothing large is
# decoded for a while after such an end: for so many seconds for each byte of memory. A shorter rest than that is none.
JOINED_REST = 2.5e-9
SHORTEST_REST = 0.001

# About half a millisecond of inflating, and a quarter of that while a request is under way.
INFLATED_PER_PASS = 1 << 18
INFLATED_BESIDE_REQUESTS = 1 << 16

# The rate at which whole allowances are used up, and how far ahead of it they may be: a message of a megabyte is
# inflated in consecutive passes. Ordinary messages are a few KiB, and handling them costs more than inflating them.
INFLATED_PER_SECOND = 1 << 25
INFLATED_AHEAD = 1 << 20

# Data that takes long counts as if more had come out of it, because it may consist of blocks that give nothing. What
# compressors make is inflated faster than at this rate. Shorter messages are over in a tenth of a millisecond, and are
# not measured.
SLOWEST_INFLATED = 1 << 27
MEASURED_FROM = 1 << 10


class Reader(Protocol):
    """A connection that holds undecoded bytes."""

    def go_on_reading(self) -> bool:
        """Decode some of them. Called once, however often `Backlog.add` was called before. True if a message was only
        half inflated.
        """


class Backlog(Inflation):
    """The backlog of one event loop. Call everything in that loop only."""

    __slots__ = (
        "_cpu_time",
        "_given",
        "_has_requests",
        "_loop",
        "_paid_until",
        "_rests_until",
        "_scheduled",
        "_to_decode",
        "_waiting",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        has_requests: Callable[[], bool] = lambda: False,
        cpu_time: Callable[[], float] = time.thread_time,
    ) -> None:
        """`has_requests` says whether a request is under way for which others should make room."""
        super().__init__(INFLATED_PER_PASS)
        self._has_requests = has_requests
        self._loop = loop
        self._cpu_time = cpu_time
        self._given = INFLATED_PER_PASS  # what was left when this pass began
        self._paid_until = 0.0  # until when the rate has no room for what was inflated
        self._rests_until = 0.0  # until when nothing large is decoded
        self._scheduled = False
        self._to_decode = READ_PER_PASS
        self._waiting: OrderedDict[Reader, None] = OrderedDict()  # in the order of their turns

    def add(self, reader: Reader) -> None:
        """Call the reader in a later pass, after those before it have had their turn. A reader that waits keeps its
        turn.
        """
        self._waiting[reader] = None
        self._schedule()

    def may_decode(self, size: int) -> bool:
        """Whether a large read may be decoded in this pass. If not, the connection keeps the bytes, and pauses reading
        until it is called back.
        """
        left = self._to_decode
        if left <= 0 or (self._rests_until and self._rest() > 0):
            return False
        if left == READ_PER_PASS:
            self._loop.call_soon(self._refill)
        self._to_decode = left - size
        return True

    def has_read(self, size: int) -> bool:
        """Note a read of so many bytes. True if it is so large that others should be read before this connection."""
        if size < LARGEST_READ:
            return False
        if self._has_requests():
            self._rests_until = max(self._rests_until, self._loop.time() + size * READ_REST)
        return True

    def joined(self, size: int) -> None:
        """Note that a message which takes so many bytes of memory is complete."""
        rest = size * JOINED_REST
        if rest >= SHORTEST_REST:
            self._rests_until = max(self._rests_until, self._loop.time() + rest)

    def _rest(self) -> float:
        return self._rests_until - self._loop.time()

    def _refill(self) -> None:
        self._to_decode = READ_PER_PASS

    def spend(self, size: int) -> None:
        self.left -= size
        # Refill only when half of it is used, so that clients with short compressed messages cause no extra passes.
        if self.left <= self._given // 2:
            self._schedule()

    def take(self, inflating: Inflating, most: int) -> bytes:
        if inflating.held_bytes < MEASURED_FROM:
            return super().take(inflating, most)
        began = self._cpu_time()
        piece = inflating.take(most)
        self._spend_since(began, len(piece))
        return piece

    def take_short(self, data: bytes) -> bytes | None:
        if len(data) < MEASURED_FROM:
            return super().take_short(data)
        began = self._cpu_time()
        message = inflate_short(data)
        self._spend_since(began, len(message or b""))
        return message

    def _spend_since(self, began: float, size: int) -> None:
        self.spend(max(size, int((self._cpu_time() - began) * SLOWEST_INFLATED)))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._next_pass)

    def _next_pass(self) -> None:
        wait = max(self._wait() if self.left <= 0 else 0.0, self._rest())
        if wait > 0:
            # Not from within the timer: on uvloop, tasks woken there run before any socket is polled, and a neighbour
            # would wait for inflating and handling together.
            self._loop.call_later(wait, self._loop.call_soon, self._go_on)
        else:
            self._go_on()

    def _wait(self) -> float:
        """How long the rate makes those wait who have used up an allowance."""
        now = self._loop.time()
        self._paid_until = max(now, self._paid_until) + (self._given - self.left) / INFLATED_PER_SECOND
        return self._paid_until - now - INFLATED_AHEAD / INFLATED_PER_SECOND

    def _go_on(self) -> None:
        self._scheduled = False
        is_asked = self._has_requests()
        self.left = self._given = INFLATED_BESIDE_REQUESTS if is_asked else INFLATED_PER_PASS
        waiting = self._waiting
        try:
            for _ in range(min(len(waiting), READERS_BESIDE_REQUESTS if is_asked else READERS_PER_PASS)):
                reader, _ = waiting.popitem(last=False)
                is_inflating = reader.go_on_reading()
                if self._rest() > 0:
                    break
                if self.left <= 0:
                    # Only to finish the message: behind it, a client may have any number of others.
                    if is_inflating and reader in waiting:
                        waiting.move_to_end(reader, last=False)
                    break
        finally:
            if waiting:
                self._schedule()
