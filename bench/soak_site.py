"""A server under soak, as its clients see it: they know what they may lose when a worker is killed, and nothing else.

Every connection learns which process has it. If that process is killed, its end is expected, and the client comes back.
Any other end is a fault. A connection that fails while it is being opened may belong to whichever worker was killed, so
within a moment of a kill that is expected, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

PATIENCE = 10.0
MOMENT = 3.0
"""Seconds after a kill in which connections may fail to open."""

LOST = (OSError, EOFError, ConnectionClosed, InvalidHandshake, TimeoutError)
"""How a connection ends that nobody has closed."""


class NotOpened(Exception):
    """A connection could not be opened."""


class Site:
    """One server as its clients see it. `rate` multiplies how often everything happens."""

    def __init__(self, name: str, port: int, rate: float):
        self.name = name
        self.port = port
        self.rate = rate
        self.counts = Counter()
        self.faults = []
        self.killed = {}

    def fault(self, text: str) -> None:
        self.faults.append(f"{time.strftime('%H:%M:%S')} {text}")
        if len(self.faults) <= 20:
            print(f"{self.name}: FAULT {text}", flush=True)

    def kills(self, pid: int) -> None:
        """Call this before the process is killed."""
        self.killed[pid] = time.monotonic()

    def lost(self, what: str, pid: int | None, error: BaseException) -> None:
        """A connection has failed, to a process or, while it was being opened, to one that is not known."""
        if pid is not None and pid in self.killed:
            self.counts["cut by a kill"] += 1
        elif pid is None and any(time.monotonic() - at < MOMENT for at in self.killed.values()):
            self.counts["cut while opening"] += 1
        else:
            self.fault(f"{what} of process {pid} has failed: {type(error).__name__} {error}")

    @contextlib.asynccontextmanager
    async def socket(self, path: str):
        """A WebSocket, and the process that has it. Failures are accounted for, and end the block.

        Raises `NotOpened` if there was nothing to begin it with.
        """
        pid = None
        try:
            async with asyncio.timeout(PATIENCE):
                connection = await connect(
                    f"ws://127.0.0.1:{self.port}{path}", compression=None, ping_interval=None, close_timeout=PATIENCE
                )
            async with connection:
                pid = int(await received(connection))
                self.counts["sockets"] += 1
                yield connection, pid
        except LOST as error:
            self.lost(path, pid, error)
            if pid is None:
                raise NotOpened from None

    async def pause(self, seconds: float) -> None:
        """About so long, divided by the rate."""
        await asyncio.sleep(random.uniform(0.5, 1.5) * seconds / self.rate)

    async def again(self, client: Callable[..., Awaitable[None]], *arguments) -> None:
        """Run a client, and then another one in its place, for ever."""
        while True:
            try:
                await client(*arguments)
            except NotOpened:
                pass  # that has been accounted for
            except Exception as error:
                self.fault(f"{client.__name__}: {type(error).__name__} {error}")
            await self.pause(0.3)


class Talker:
    def __init__(self, name: int, pid: int):
        self.name = name
        self.pid = pid
        self.number = 0
        self.said = deque()

    def due(self, now: float) -> int:
        """The last number that everybody must have seen by now."""
        while len(self.said) > 1 and self.said[1][0] <= now - PATIENCE:
            self.said.popleft()
        return self.said[0][1] if self.said and self.said[0][0] <= now - PATIENCE else 0


async def received(connection: ClientConnection) -> str:
    # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with the message.
    async with asyncio.timeout(PATIENCE):
        return await connection.recv()


async def what_is_left(site: Site, workers: int) -> dict[int, dict[str, int]]:
    """The tasks and threads of each process. Opens connections until each has been asked."""
    found = {}
    deadline = time.monotonic() + PATIENCE
    async with contextlib.AsyncExitStack() as kept:  # each that stays brings the next one closer to another worker
        while len(found) < workers and time.monotonic() < deadline:
            connection, pid = await kept.enter_async_context(site.socket("/left/"))
            await connection.send("?")
            found[pid] = json.loads(await connection.recv())
    return found
