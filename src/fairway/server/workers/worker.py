"""What makes a server one of several: its slot on the board, and its channel to the supervisor.

The server asks for `room` before it accepts, and tells how many it `has` afterwards. In everything else a worker is a
server like any other. Signals stop it,
and so does the end of its supervisor, which it notices by the end of the channel.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fairway.logs import get_logger
from fairway.server.lateness import Lateness
from fairway.server.management.figures import Figures
from fairway.server.workers.board import BEAT_SECONDS, Board
from fairway.server.workers.messages import Channel, ChannelBroken
from fairway.server.workers.turns import Turns

logger = get_logger("fairway.server")


class Worker:
    """`seconds` is how long this worker may take to leave. `leave` is called when it has to; see `is_replaced`."""

    def __init__(self, board: Board, slot: int, channel: Channel, seconds: float, leave: Callable[[], object]) -> None:
        self._board = board
        self._slot = slot
        self._channel = channel
        self._seconds = seconds
        self._leave = leave
        self._turns = Turns()
        self._held: Callable[[], int] = int
        self._figures: Callable[[Lateness], Figures] = lambda _: {}
        self._abort: Callable[[], object] = leave
        self._beating: asyncio.TimerHandle | None = None
        self.is_replaced = False
        """Whether another worker takes this one's place, so that clients may reconnect at once."""

    def room(self, connections: int) -> int:
        """How many more connections it may accept now, with so many that it has."""
        now = time.monotonic()
        self._board.tell(self._slot, connections, now)
        return self._turns.room(connections, *self._board.others(self._slot, now), now)

    def has(self, connections: int) -> None:
        """It has so many connections now: the others shall know before the next one comes."""
        self._board.tell(self._slot, connections, time.monotonic())

    def begin(
        self,
        addresses: list[str],
        held: Callable[[], int],
        figures: Callable[[Lateness], Figures],
        abort: Callable[[], object],
    ) -> None:
        """The server accepts connections. `held` returns how many it has, `figures` returns its figures, and `abort`
        ends it at once. Call this in the server's event loop.
        """
        self._held = held
        self._abort = abort
        self._figures = figures
        self._lateness = Lateness(BEAT_SECONDS, time.monotonic() - BEAT_SECONDS)
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._listen)
        self._beat()
        self._channel.send("ready", addresses=addresses, seconds=self._seconds)

    def stop_accepting(self) -> None:
        """Leave new connections to the other workers."""
        if self._beating is not None:
            self._beating.cancel()
        self._board.clear(self._slot)

    def _beat(self) -> None:
        now = time.monotonic()
        self._lateness.beat(now)
        self._board.tell(self._slot, self._held(), now)
        self._beating = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def _listen(self) -> None:
        try:
            messages = self._channel.receive()
        except ChannelBroken as error:
            logger.error("the supervisor cannot be understood: %s", error)
            messages = None
        if messages is None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            logger.warning("the supervisor has gone: stopping")
            self._leave()
        for message in messages or ():
            if message["kind"] == "leave":
                self.is_replaced = True
                self._leave()
            elif message["kind"] == "abort":
                self._abort()
            elif message["kind"] == "tell":
                self._channel.send("figures", figures=self._figures(self._lateness))
