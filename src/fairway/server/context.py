"""What all connections of one server share: application, limits, clock, timing wheel, batch, logs and counters.

One object per event loop. Connections register here, so that the server can count, drain and cut them.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import Context
from types import CoroutineType, MappingProxyType
from typing import Any, Protocol

from fairway.asgi.calling import enter_application
from fairway.asgi.types import Application, Scope
from fairway.delivery import CounterSet, Record, register_source
from fairway.logs import ErrorLog, FaultLog, get_logger
from fairway.protocols.websocket.frames import GOING_AWAY
from fairway.server.access import EventLog, client_text, target_text
from fairway.server.admission import Admission
from fairway.server.asked import Asked
from fairway.server.backlog import Backlog
from fairway.server.collector import Collector
from fairway.server.config import Config
from fairway.server.defaults import ResponseDefaults
from fairway.server.http2.limits import protocol_limits, stream_high_water
from fairway.server.output.batch import Batch
from fairway.server.paused import Paused
from fairway.timing.clock import Clock

logger = get_logger("fairway.server")

DRAINED_LINGER_SECONDS = 1.0
"""How long a connection lingers at most while the server stops. It is enough for an answer to arrive."""


class Drainable(Protocol):
    """A connection, as far as a stopping server knows it."""

    def drain(self) -> None:
        """Finish the exchanges under way, accept no new ones, then close."""

    def abort(self) -> None:
        """Drop the connection now."""


class Served(Protocol):
    """The exchange that a task of the application serves."""

    @property
    def scope(self) -> Mapping[str, Any]: ...


class Counters(CounterSet):
    """What has happened since the server started. `responses` has a count for each first digit of the status; index 0
    counts clients that left before there was a response.
    """

    __slots__ = (
        "address_refusals",
        "connections",
        "dropped_frames",
        "errors",
        "faults",
        "memory_drops",
        "messages_received",
        "rate_excesses",
        "refused",
        "requests",
        "responses",
        "slow_consumers",
        "slow_senders",
        "websockets",
    )

    def __init__(self) -> None:
        self.connections = self.requests = self.websockets = self.messages_received = 0
        self.errors = self.faults = self.memory_drops = self.rate_excesses = self.slow_senders = self.slow_consumers = (
            self.dropped_frames
        ) = 0
        self.refused = self.address_refusals = 0
        self.responses = [0] * 10  # an application may send a status up to 999

    @property
    def has_open_requests(self) -> bool:
        """Whether any HTTP request has begun, and its response is not complete."""
        return self.requests > sum(self.responses)

    def statistics(self) -> Record:
        """All counters by name. Responses have one counter per class: `responses_2xx`, ..., `responses_none`."""
        numbers = dict(super().statistics())
        del numbers["responses"]
        return MappingProxyType(
            numbers | {f"responses_{f'{digit}xx' if digit else 'none'}": self.responses[digit] for digit in range(6)}
        )


class ServerContext(Clock):
    """The clock of all deadlines, and everything else that connections share. Call it in its event loop only."""

    def __init__(self, app: Application, config: Config, loop: asyncio.AbstractEventLoop, access: EventLog) -> None:
        super().__init__(loop)
        self.app = app
        self.config = config
        self.limits = limits = config.limits
        self.http2_limits = protocol_limits(limits)
        self.stream_high_water = stream_high_water(limits)
        self.ping_times = (limits.ping_interval, limits.ping_timeout, limits.close_timeout)
        self.access = access
        self.logs_access = access.enabled
        self.faults = FaultLog()
        self.errors = ErrorLog(logger)
        self.counters = Counters()
        is_asked = Asked(self.counters, loop.time)
        self.batch = Batch(loop, is_asked)
        self.backlog = Backlog(loop, is_asked)
        self.paused = Paused(self.touch, self.schedule)
        self.connections: set[Drainable] = set()
        self.tasks: dict[asyncio.Task[None], Served] = {}
        register_source("server", self.counters)
        self.collector: Collector | None = None
        self.state: dict[str, Any] | None = None
        self.admission = Admission(self.connections, limits, config.proxies, self.counters, self.fault)
        self.draining = False
        self.farewell = (GOING_AWAY, "server is shutting down")
        self.random = random.Random()
        self._defaults = ResponseDefaults(config.server_name, int(self.now))
        self._idle: asyncio.Event = asyncio.Event()

    def run(
        self, scope: Scope, receive: Any, send: Any, served: Served, ended: Callable[[asyncio.Task[None]], object]
    ) -> asyncio.Task[None]:
        """Start a task that calls the application, in an empty context: no exchange sees another's context variables.

        When the task has ended, `ended` is called. It must call `forget`; one callback needs less memory than two.
        """
        variables = Context()
        return self._start(variables.run(_call, self.app, scope, receive, send), variables, served, ended)

    def forget(self, task: asyncio.Task[None], began: float = math.inf, weight: int = 0) -> None:
        """The task has ended. `began` is its start, or somewhat later; `weight` is the size of its bodies in bytes."""
        self.tasks.pop(task, None)
        if self.collector is not None:
            self.collector.task_ended(began, weight)

    def name_of(self, task: asyncio.Task[Any]) -> str:
        """The target and the client of the task's exchange, for a log."""
        served = self.tasks.get(task)
        if served is None:
            return "a task of the application"
        return f"{target_text(served.scope)} for {client_text(served.scope)}"

    def _start(
        self,
        coroutine: Coroutine[Any, Any, None],
        variables: Context,
        served: Served,
        ended: Callable[[asyncio.Task[None]], object],
    ) -> asyncio.Task[None]:
        # Not part of `run`: if the application's call raises, the frame of `run` is in the traceback. If that frame
        # referred to the task, task, error and traceback would form a cycle. Callers of `run` must avoid the same.
        # All tasks share one name, because asyncio makes a new string for every task without a name.
        task: asyncio.Task[None] = self.loop.create_task(coroutine, name="fairway application", context=variables)
        self.tasks[task] = served
        # Without an explicit context, the callback would get a copy of the current one.
        task.add_done_callback(ended, context=variables)
        return task

    def fault(self, kind: str, scope: Mapping[str, Any] | None, text: str) -> None:
        """Log one line about a fault of a peer or of the application. The rate of lines is limited for each `kind`."""
        self.counters.faults += 1
        faults = self.faults
        # During an attack most faults are only counted.
        if not faults.counts(self.touch(), kind):
            return
        if scope is None:
            faults.write("%s", text)
        else:
            faults.write("%s %s: %s", client_text(scope), target_text(scope), text)

    def client_stalled(self, scope: Mapping[str, Any]) -> None:
        """Note that a client has taken no byte for `write_stall_timeout` and was dropped."""
        self.counters.slow_consumers += 1
        self.fault("slow client", scope, f"client took no data for {self.limits.write_stall_timeout:g} s")

    def cancel_hanging(self, task: asyncio.Task[None], scope: Mapping[str, Any]) -> None:
        """Cancel an application that has not ended within `disconnect_timeout` after it was told of a disconnect."""
        seconds = self.limits.disconnect_timeout
        text = f"application did not end within {seconds:g} s after the disconnect: cancelled"
        self.fault("application hangs", scope, text)
        task.cancel()

    def application_error(self, kind: str, scope: Mapping[str, Any], error: BaseException) -> None:
        """Log what the application raised, with the target and the client. An error that repeats gets a traceback from
        time to time, and one line otherwise.

        An error with the attribute `asgi_fault` (a few words that say what happened) is always one line, because its
        traceback would say nothing about the application.
        """
        fault = getattr(error, "asgi_fault", None)
        if isinstance(fault, str):
            self.fault("fault", scope, f"{fault}: {type(error).__name__}: {error}")
            return
        self.counters.errors += 1
        text = "exception in application for %s %s from %s"
        self.errors.report(self.touch(), error, text, kind, target_text(scope), client_text(scope))

    def ticked(self) -> None:
        self._flush_logs(self.now)

    def _flush_logs(self, now: float) -> None:
        self.faults.flush(now)
        self.errors.flush(now)

    def defaults(self) -> ResponseDefaults:
        """The header fields that all responses of the current second share."""
        second = int(self.touch())
        if self._defaults.second != second:
            self._defaults = ResponseDefaults(self.config.server_name, second)
        return self._defaults

    def add(self, connection: Drainable) -> None:
        self.connections.add(connection)
        if self.collector is not None:
            self.collector.connection_added()

    @property
    def linger_seconds(self) -> float:
        """How long a peer may take to end its side after we have ended ours (RFC 9112 section 9.6)."""
        seconds = self.limits.close_timeout
        return min(seconds, DRAINED_LINGER_SECONDS) if self.draining else seconds

    def remove(self, connection: Drainable) -> None:
        """The connection's transport is gone."""
        self.connections.discard(connection)
        if self.admission.addresses is not None:
            self.admission.addresses.release(connection)
        if not self.connections:
            self._idle.set()

    async def wait_no_connections(self) -> None:
        """Wait until there are no connections. Cancelling loses nothing."""
        while self.connections:
            self._idle.clear()
            await self._idle.wait()

    def close(self) -> None:
        """Stop the clock and the collector, and log what the logs have held back."""
        self.stop()
        if self.collector is not None:
            self.collector.close()
            self.collector = None
        self._flush_logs(math.inf)


def _call(app: Application, scope: Scope, receive: Any, send: Any) -> Coroutine[Any, Any, None]:
    """Call the application, and return a coroutine whatever it does: it may return any awaitable, or raise at once."""
    try:
        awaitable = enter_application(app, scope, receive, send)
    except BaseException as error:
        return _raise(error)
    return awaitable if isinstance(awaitable, CoroutineType) else _await(awaitable)


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _raise(error: BaseException) -> None:
    try:
        raise error
    finally:
        del error  # otherwise a cycle: its traceback refers to this frame
