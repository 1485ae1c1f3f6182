"""The server of one event loop: lifespan, listening sockets, and the end of both.

`Server` serves one ASGI 3 application on bound sockets. It neither installs signal handlers nor runs a loop;
`fairway.server.process.run` does that.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Protocol

from fairway import running, whereabouts
from fairway.asgi.lifespan import Lifespan
from fairway.asgi.scope import UNKNOWN, Entrance, Origin, entrance_of
from fairway.asgi.types import Application
from fairway.logs import get_logger, switch_on
from fairway.protocols.proxy import ProxyHeader
from fairway.protocols.websocket.frames import SERVICE_RESTART
from fairway.server.accepting import AcceptPace
from fairway.server.access import AccessLog, EventLog
from fairway.server.addresses import UNBOUNDED
from fairway.server.admission import SHORT_OF_MEMORY, TOO_MANY, TOO_MANY_OF_ADDRESS, Answer
from fairway.server.config import Config
from fairway.server.context import ServerContext
from fairway.server.http1.connection import Http1Connection
from fairway.server.introduction import Introduction
from fairway.server.memory import ClientMemory
from fairway.server.negotiation import connection_for
from fairway.server.output.lanes import SOCKETS, TlsSocket
from fairway.server.proxy import Network, is_within
from fairway.server.refusal import Refusal, in_bytes
from fairway.server.tls.handshake import NOTHING, Handshakes

logger = get_logger("fairway.server")

# How many unsent bytes the kernel may hold for one client: enough to keep the connection busy, and few enough that a
# slow client soon shows in our own accounting.
NOTSENT_LOWAT_BYTES = 65536
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)

# After a minute in which nothing has come from a client, its system is asked four times whether it is there. While an
# application says nothing, nothing else notices that a client has gone whose end never arrives: its machine has lost
# its power, or more lies in front of its end than is read of a client that does not wait for its answer.
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}

_PAUSE_SECONDS = 0.5

# Seconds that an idle connection has for its next request when another worker replaces this one.
_LAST_REQUEST_SECONDS = 1.0

# How long a worker leaves accepting to others that have fewer connections.
_TURN_SECONDS = 0.002

# How often pauses are logged: a server without descriptors may pause twice a second for days.
_TELL_SECONDS = 60.0

# Seconds that cancelled tasks have to end.
_CUT_SECONDS = 1.0

# Most tasks named in one line of the log.
_MOST_NAMED = 5


class _Accepted(socket.socket):
    """A socket whose family and type are plain numbers. asyncio asks for both several times, and looking up the members
    of their enumerations would take longer than everything else in accepting.
    """

    __slots__ = ()
    family = socket.SocketType.family  # type: ignore[assignment]  # numbers, as said
    type = socket.SocketType.type  # type: ignore[assignment]
    lane = SOCKETS  # broadcasts are written to it directly, as to its base class


class _Counted(_Accepted):
    """A socket that holds a place of its address (`fairway.server.addresses`)."""

    __slots__ = ("on_close",)

    on_close: Callable[[], object] | None
    """If it is set, it is called once, when the socket is closed. uvloop detaches it instead, and closes the
    descriptor.
    """

    def close(self) -> None:
        super().close()
        self._closed_once()

    def detach(self) -> int:
        number = super().detach()
        self._closed_once()
        return number

    def _closed_once(self) -> None:
        on_close = getattr(self, "on_close", None)
        self.on_close = None
        if on_close is not None:
            on_close()


_family_of: Callable[[socket.socket], int] = socket.SocketType.family.__get__


class Sharing(Protocol):
    """What a server knows of others that accept connections from the same sockets."""

    def room(self, connections: int) -> int:
        """How many more connections this server may accept now, with so many that it has."""

    def has(self, connections: int) -> None:
        """This server has so many connections now."""


class Server:
    """Call `start`, then `stop`, each once. If others share the sockets, `sharing` says how many it may accept."""

    def __init__(
        self,
        app: Application,
        config: Config,
        access_log: EventLog | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.config = config
        self._app = app
        self._access_log = access_log
        self._sharing = sharing
        self._sockets: list[socket.socket] = []
        self._entrances: dict[socket.socket, Entrance | None] = {}
        self._resuming: dict[socket.socket, asyncio.TimerHandle] = {}
        self._connecting: dict[asyncio.Future[Any], Coroutine[Any, Any, Any]] = {}
        self._accepted = 0
        self._paces: dict[socket.socket, AcceptPace] = {}
        self._pauses = 0
        self._pauses_told_at = -inf
        self._handshakes: Handshakes | None = None
        self.context: ServerContext

    async def start(self, sockets: list[socket.socket]) -> None:
        """Run the application's lifespan startup, then accept connections. The caller keeps the sockets and closes
        them.

        Raises `LifespanFailed` when the application says that it cannot start.
        """
        loop = asyncio.get_running_loop()
        access = self._access_log or AccessLog(self.config.access_log)
        self._lifespan = Lifespan(self._app, self.config.lifespan, self.config.limits.lifespan_timeout)
        switch_on()
        state = await self._lifespan.startup()
        switch_on()  # the application may have configured logging only now
        self.context = ServerContext(self._app, self.config, loop, access)
        self.context.state = state
        if self.config.tls is not None:
            self._handshakes = Handshakes(self.context, self.config.tls, self._connect_over_tls)
        if self.config.limits.max_client_memory:
            ClientMemory(self.context)  # the wheel keeps it
        for listening in sockets:
            listening.setblocking(False)
            if listening.family in (socket.AF_INET, socket.AF_INET6) and sys.platform == "linux":
                # Accepted sockets inherit them: no system call for each connection.
                listening.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for name, value in KEEPALIVE.items():
                    listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            self._sockets.append(listening)
            self._entrances[listening] = entrance_of(listening)
            self._paces[listening] = AcceptPace()
            loop.add_reader(listening.fileno(), self._accept, listening)

    @property
    def addresses(self) -> list[str]:
        """The URLs that the server listens on. A Unix socket is `unix:PATH`."""
        scheme = "http" if self.config.tls is None else "https"
        return [_address(listening, scheme) for listening in self._sockets]

    @property
    def held(self) -> int:
        """How many connections there are, including those that are still being set up."""
        return len(self.context.connections) + self._accepted - self.context.counters.connections

    def _accept(self, listening: socket.socket) -> None:
        pace = self._paces[listening]
        # The time of uvloop's own clock is a number of whole milliseconds.
        most = pace.begin_pass(monotonic(), self.context.batch.is_asked)
        sharing = self._sharing if most else None
        if sharing is not None:
            most = min(most, sharing.room(self.held))
            if not most:
                self._rest(listening, _TURN_SECONDS)  # it is another worker's turn
                return
        admission, entrance = self.context.admission, self._entrances[listening]
        kind = _Accepted if admission.addresses is None else _Counted
        try:
            for _ in range(most):
                try:
                    accepted, peer = _accept(listening, kind)
                except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                    return
                except OSError as error:
                    self._pause_accepting(listening, error)
                    return
                accepted.setblocking(False)
                # Not `_connecting`: its futures are done a pass after their connections have been counted.
                if not admission.has_descriptor(self._accepted - self.context.counters.connections):
                    self._turn_away(accepted)
                    continue
                if not admission.has_memory():
                    self._refuse(accepted, SHORT_OF_MEMORY)
                    continue
                if self.config.introducers is not None and _is_trusted(accepted, self.config.introducers):
                    Introduction(self.context, accepted, self._introduced).begin()
                elif not self._has_place(accepted, peer):
                    pass
                elif self._handshakes is not None:
                    self._handshakes.begin(accepted)
                else:
                    self._accepted += 1
                    self._connect(accepted, UNKNOWN if entrance is None else (peer[:2], entrance))
            pace.more_wait()
        finally:
            if sharing is not None:
                sharing.has(self.held)

    def _has_place(self, accepted: socket.socket, peer: Any) -> bool:
        """Whether the client's address may have this connection too. If not, the connection is refused."""
        admission = self.context.admission
        if admission.addresses is None or not isinstance(peer, tuple):
            return True
        place = admission.place_of_socket(peer[:2], self._handshakes is None)
        if place is None:
            accepted.close()
            return False
        if place is not UNBOUNDED:
            accepted.on_close = place.give_back  # type: ignore[attr-defined]  # it is `_Counted`
        if place.is_beyond:
            self._refuse(accepted, TOO_MANY_OF_ADDRESS)
        return not place.is_beyond

    def _refuse(self, accepted: socket.socket, answer: Answer) -> None:
        # Over TLS, an answer would need a handshake first.
        if self._handshakes is not None:
            accepted.close()
        else:
            Refusal(self.context, accepted, answer).begin()

    def _turn_away(self, accepted: socket.socket) -> None:
        # One write, and then close: a client that has sent its request already may see a reset instead.
        with accepted, contextlib.suppress(OSError):
            if self._handshakes is None:  # without TLS there is no way to tell the client
                accepted.send(in_bytes(self.context, TOO_MANY))

    def _introduced(self, accepted: socket.socket, header: ProxyHeader) -> None:
        """A proxy has introduced the client. If it names no source, the connection is the proxy's own."""
        is_known = header.source is not None
        if is_known and not self._has_place(accepted, header.source):
            return
        if self._handshakes is not None:
            names = {"peername": header.source, "sockname": header.destination} if is_known else NOTHING
            self._handshakes.begin(accepted, names)
        else:
            self._accepted += 1
            self._connect(accepted, (header.source, Entrance(header.destination)) if is_known else UNKNOWN)

    def _connect(self, accepted: socket.socket, origin: Origin = UNKNOWN) -> None:
        # This coroutine waits for one thing, the call of `connection_made` in the next pass, so it needs no task. A
        # task would take as long as everything else here, for every connection.
        self._step(
            self.context.loop.connect_accepted_socket(
                partial(Http1Connection, self.context, accepted, origin), accepted
            ),
            accepted,
        )

    def _step(self, connecting: Coroutine[Any, Any, Any], accepted: socket.socket) -> None:
        try:
            waiter: asyncio.Future[Any] = connecting.send(None)
        except StopIteration:
            return
        except OSError as error:
            accepted.close()
            self._accepted -= 1
            logger.debug("a connection was lost before it was set up: %s", error)
        else:
            self._connecting[waiter] = connecting
            waiter.add_done_callback(partial(self._go_on, accepted))

    def _go_on(self, accepted: socket.socket, waiter: asyncio.Future[Any]) -> None:
        self._step(self._connecting.pop(waiter), accepted)

    def _connect_over_tls(self, endpoint: TlsSocket) -> asyncio.Protocol:
        self._accepted += 1
        return connection_for(endpoint.selected_alpn_protocol(), self.context, endpoint)

    def _pause_accepting(self, listening: socket.socket, error: OSError) -> None:
        loop = self.context.loop
        self._pauses += 1
        if loop.time() >= self._pauses_told_at + _TELL_SECONDS:
            self._pauses_told_at = loop.time()
            self.context.fault(
                "accept",
                None,
                f"accepting pauses for {_PAUSE_SECONDS:g} s: {error.strerror}; allow more descriptors, or fewer "
                f"connections ({self._pauses} pauses so far; they are logged once in {_TELL_SECONDS:g} s)",
            )
        self._rest(listening, _PAUSE_SECONDS)

    def _rest(self, listening: socket.socket, seconds: float) -> None:
        # The socket stays readable, so watching it would spin. Connections in the backlog are served later.
        loop = self.context.loop
        loop.remove_reader(listening.fileno())
        self._resuming[listening] = loop.call_later(seconds, self._resume_accepting, listening)

    def _resume_accepting(self, listening: socket.socket) -> None:
        del self._resuming[listening]
        self.context.loop.add_reader(listening.fileno(), self._accept, listening)

    def stop_accepting(self) -> None:
        """Leave new connections in the backlog, so that the caller can close the sockets."""
        for handle in self._resuming.values():
            handle.cancel()
        for listening in self._sockets:
            if listening not in self._resuming:
                self.context.loop.remove_reader(listening.fileno())
        self._resuming.clear()
        self._sockets.clear()
        self._entrances.clear()
        self._paces.clear()

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109  # a grace period: its end is no error
        """`end_connections`, then `end_lifespan`, even if the former is cancelled."""
        try:
            await self.end_connections(timeout)
        finally:
            await self.end_lifespan()

    async def end_connections(self, timeout: float, spread: float = 0.0) -> None:  # noqa: ASYNC109  # as above
        """Stop accepting, let requests finish and close WebSockets with 1001, for `timeout` seconds at most; then cut
        them. Cancelling it cuts everything at once.

        With a `spread`, another worker takes over. Then WebSockets (with 1012) and HTTP/2 connections are first closed
        one by one over `spread` seconds, so that their clients do not all reconnect at once. An idle HTTP/1.1
        connection has a moment for one more request, whose answer says that the connection closes.
        """
        context = self.context
        self.stop_accepting()
        context.draining = True
        try:
            await _wait(self._connecting)
            if spread:
                context.farewell = (SERVICE_RESTART, "server is restarting")
                await self._drain_one_by_one(spread)
            for connection in list(context.connections):
                connection.drain()
            async with asyncio.timeout(timeout):
                await self._all_ended()
        except TimeoutError:
            logger.warning(
                "%d connections and %d tasks did not end within %g s: cut",
                len(context.connections),
                len(context.tasks),
                timeout,
            )
        finally:
            await self._cut()
            context.close()

    async def _drain_one_by_one(self, seconds: float) -> None:
        connections = [one for one in self.context.connections if not isinstance(one, Http1Connection)]
        self.context.random.shuffle(connections)
        ends_at = self.context.loop.time() + seconds
        for connection in connections:
            if connection in self.context.connections:
                connection.drain()
                await asyncio.sleep(seconds / len(connections))
        # The next response on an HTTP/1.1 connection has `Connection: close`.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_LAST_REQUEST_SECONDS, max(0.0, ends_at - self.context.loop.time()))):
                await self.context.wait_no_connections()

    async def end_lifespan(self) -> None:
        """Run the application's lifespan shutdown, after everything else."""
        await self._lifespan.shutdown()

    async def _all_ended(self) -> None:
        await self.context.wait_no_connections()
        await _wait(self.context.tasks)

    async def _cut(self) -> None:
        self.abort()
        try:
            async with asyncio.timeout(_CUT_SECONDS):
                await self._all_ended()
        except TimeoutError:
            # A thread cannot be cancelled, and so a task that waits for one cannot either.
            logger.warning(
                "%d tasks do not end although they were cancelled: left behind: %s",
                len(self.context.tasks),
                "; ".join(self._names_of_tasks()),
            )
            running.left_behind.extend(self.context.tasks)

    def _names_of_tasks(self) -> list[str]:
        tasks = list(self.context.tasks)
        names = [f"{self.context.name_of(task)} in {whereabouts.of_task(task)}" for task in tasks[:_MOST_NAMED]]
        return names if len(tasks) <= _MOST_NAMED else [*names, "..."]

    def abort(self) -> None:
        """Drop every connection and cancel every application task."""
        for connection in list(self.context.connections):
            connection.abort()
        for task in list(self.context.tasks):
            task.cancel()


def _is_trusted(accepted: socket.socket, trusted: Collection[Network]) -> bool:
    try:
        name = accepted.getpeername()
    except OSError:
        return False
    # The permissions of a Unix socket decide who may connect to it.
    return not isinstance(name, tuple) or is_within(str(name[0]), trusted)


def _accept(listening: socket.socket, kind: type[_Accepted]) -> tuple[_Accepted, Any]:
    # `accept()` of the same module asks the listening socket for members of enumerations, makes them numbers again,
    # and has the class that it makes a socket of built in.
    number, peer = listening._accept()  # type: ignore[attr-defined]  # what `accept` calls, not in the stubs
    return kind(_family_of(listening), socket.SOCK_STREAM, listening.proto, number), peer


async def _wait(tasks: Collection[asyncio.Future[Any]]) -> None:
    if tasks:
        await asyncio.wait(list(tasks))


def _address(listening: socket.socket, scheme: str) -> str:
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"{scheme}://{host}:{port}"
