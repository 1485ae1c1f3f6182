"""When another project's channel layer fails for a while: its readers wait, and no connection is closed for it.

Layers that are not ours are read by calling their `receive`, once for each consumer and each worker's channel. While
the service behind such a layer is away, all of those calls raise. Its readers share one `Outage`. It logs one line when
the layer begins to fail and another when it works again, and it limits how many of them try again in a second.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from weakref import WeakKeyDictionary

from fairway.delivery import Message, register_probe
from fairway.layers.channel_queue import wake
from fairway.logs import get_logger

logger = get_logger("fairway.layers")

MISTAKES = (TypeError, AttributeError, NameError, ImportError, AssertionError, NotImplementedError)
"""What a layer raises if it is written or used wrongly: an outage that begins with one is logged with a traceback."""

_SHORTEST_DELAY, _LONGEST_DELAY = 0.1, 5.0
_ATTEMPTS_PER_SECOND = 100
_WAKES_PER_SECOND = 5000
_SHORTEST_PATIENCE, _LONGEST_PATIENCE = 1.0, 60.0
_QUIET = 10.0

_Fetch: TypeAlias = Callable[[], Awaitable[Message]]


def backoff(failures: int, longest: float) -> float:
    """Seconds until the next try: they double up to `longest`, with jitter so that the tries do not come together."""
    return random.uniform(0.5, 1.0) * min(longest, _SHORTEST_DELAY * 2.0 ** min(failures, 20))


class Outage:
    """Shared by all readers of one layer, in any thread and event loop, while the layer fails.

    An outage ends with the first message. It also ends when a `receive` has waited, without failing, for longer than
    the failing calls took: that layer has nothing to deliver, and works. A layer that keeps failing and recovering
    gets at most one pair of log lines in ten seconds.
    """

    def __init__(self, name: str) -> None:
        self.is_on = False
        self._name = name
        self._is_said = False
        self._quiet_until = 0.0
        self._patience = _SHORTEST_PATIENCE
        self._waiting: set[asyncio.Future[None]] = set()

    def is_up(self) -> bool:
        """Whether the layer works, as far as its readers know. (`fairway.delivery.Probe`)"""
        return not self.is_on

    def begin(self, error: BaseException) -> None:
        """A call has failed: log it, unless this outage has been logged already."""
        self.is_on = True
        if self._is_said or time.monotonic() < self._quiet_until:
            return
        self._is_said = True
        self._quiet_until = time.monotonic() + _QUIET
        logger.error(
            "The channel layer %s is failing; trying again until it works: %s: %s",
            self._name, type(error).__name__, error, exc_info=error if isinstance(error, MISTAKES) else None,
        )  # fmt: skip

    def note(self, error: BaseException) -> None:
        """A call that need not be repeated has failed: log it, unless something was logged lately."""
        if not self._is_said and time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET
            logger.error("A call of the channel layer %s failed: %s: %s", self._name, type(error).__name__, error)

    def end(self) -> None:
        """The layer works again: log it, and let every reader try at once."""
        self.is_on = False
        if self._is_said:
            self._is_said = False
            logger.warning("The channel layer %s works again", self._name)
        for waiter in list(self._waiting):
            wake(waiter)

    async def receive(self, receive: _Fetch, unless: tuple[type[Exception], ...]) -> Message:
        """Call `receive`, which has just failed, again and again until it returns a message."""
        failures = 0
        while True:
            await self._pause(failures)
            began = time.monotonic()
            back = asyncio.get_running_loop().call_later(self._patience, self.end)
            try:
                message = await receive()
            except BaseException as error:
                if isinstance(error, unless) or not _is_failure(error):
                    raise
                self.begin(error)
            else:
                if self.is_on:
                    self.end()
                self._patience = _SHORTEST_PATIENCE
                return message
            finally:
                back.cancel()
            failures = 0 if self._judge(time.monotonic() - began) else failures + 1

    def _judge(self, seconds: float) -> bool:
        """Whether the layer was back for a while before an attempt failed. The attempt took `seconds`."""
        had_worked = seconds > self._patience
        # If calls hang before they fail, a second without a failure does not mean that the service is back.
        self._patience = max(self._patience, 2 * seconds) if seconds < _LONGEST_PATIENCE else _SHORTEST_PATIENCE
        return had_worked

    async def _pause(self, failures: int) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        waiting = len(self._waiting)
        seconds = max(backoff(failures, _LONGEST_DELAY), random.uniform(0.5, 1.0) * waiting / _ATTEMPTS_PER_SECOND)
        try:
            woken, _ = await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiting.discard(waiter)
        if woken:
            await asyncio.sleep(random.uniform(0, waiting / _WAKES_PER_SECOND))


def _is_failure(error: BaseException) -> bool:
    """Whether a call has failed, as opposed to being cancelled by its caller or ended with the process."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, Exception)


async def receive_through(outage: Outage, receive: _Fetch, unless: tuple[type[Exception], ...]) -> Message:
    """Await `receive`, and call it again while it fails. Errors of the types `unless` are raised."""
    try:
        return await receive()
    except BaseException as error:
        if isinstance(error, unless) or not _is_failure(error):
            raise
        outage.begin(error)
    # Wait outside of the `except` block, so that the traceback is not kept during the wait.
    return await outage.receive(receive, unless)


_outages: WeakKeyDictionary[object, Outage] = WeakKeyDictionary()


def outage_of(layer: object) -> Outage:
    """The outage that all readers of this layer share. Layers that are not hashable share one for each class."""
    name = type(layer).__qualname__
    try:
        return _outage_of(layer, name)
    except TypeError:
        return _outage_of(type(layer), name)


def _outage_of(key: object, name: str) -> Outage:
    outage = _outages.get(key)
    if outage is None:
        outage = _outages.setdefault(key, Outage(name))
        register_probe(f"channel layer {name}", outage)
    return outage
