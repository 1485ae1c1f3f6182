"""From an accepted socket to a connection over TLS: the handshakes of one event loop.

A handshake takes two or three steps, each when something has arrived. The step that uses the key costs a millisecond.
So however many clients come at once, one pass of the loop makes at most `tls_handshakes_per_pass` steps. Handshakes
beyond that wait in a queue, and their sockets are not watched meanwhile, so that everybody else gets a turn.

A socket is wrapped only when its first bytes have arrived, so that a silent one costs a few hundred bytes. It counts as
a connection from the moment it is accepted, and has `request_head_timeout` for the whole handshake.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fairway.server.arrival import Arrival
from fairway.server.output.lanes import TlsSocket
from fairway.server.tls.transport import TlsTransport

if TYPE_CHECKING:
    import asyncio
    import socket

    from fairway.server.context import ServerContext
    from fairway.server.tls.files import Credentials, TlsFiles

NOTHING: Mapping[str, Any] = {}

Connect = Callable[[TlsSocket], "asyncio.Protocol"]

# OpenSSL's reasons for clients that do not speak TLS, and what to call them.
_NOT_TLS = {
    "HTTP_REQUEST": "a request in clear text",
    "HTTPS_PROXY_REQUEST": "a request in clear text",
    "WRONG_VERSION_NUMBER": "something else than TLS",
    "UNKNOWN_PROTOCOL": "something else than TLS",
    "RECORD_LAYER_FAILURE": "something else than TLS",
}


class Handshakes:
    """The handshakes of one event loop. Call everything in that loop only.

    `connect` makes the protocol for a connection whose handshake is complete.
    """

    def __init__(self, context: ServerContext, files: TlsFiles, connect: Connect) -> None:
        self.context = context
        self._files = files
        self._connect = connect
        self._left = context.limits.tls_handshakes_per_pass
        self._waiting: deque[Handshake] = deque()
        self._is_scheduled = False

    def begin(self, accepted: socket.socket, known: Mapping[str, Any] = NOTHING) -> None:
        """Take over an accepted, non-blocking socket. `known`: addresses that replace the socket's own."""
        Handshake(self, self._files.credentials, accepted, known).begin()

    def connected(self, endpoint: TlsSocket, facts: Mapping[str, Any]) -> None:
        """A handshake is complete: start the connection."""
        protocol = self._connect(endpoint)
        TlsTransport(self.context, endpoint, protocol, facts).start()

    def take_turn(self, handshake: Handshake) -> bool:
        """Whether the handshake may make a step now. If not, `Handshake.step` is called in a later pass."""
        if self._left and not self._waiting:
            self._left -= 1
            self._schedule()
            return True
        self._waiting.append(handshake)
        return False

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self.context.loop.call_soon(self._next_pass)

    def _next_pass(self) -> None:
        self._is_scheduled = False
        self._left = self.context.limits.tls_handshakes_per_pass
        waiting = self._waiting
        try:
            while waiting and self._left:
                handshake = waiting.popleft()
                if handshake.is_open:
                    self._left -= 1
                    handshake.step()
        finally:
            # Also if a step raised: nobody else would schedule the others.
            if waiting or self._left < self.context.limits.tls_handshakes_per_pass:
                self._schedule()


class Handshake(Arrival):
    """One handshake. `known` are facts for its transport (`TlsTransport`)."""

    __slots__ = ("_credentials", "_host", "_known")

    kind = "tls"

    def __init__(
        self, host: Handshakes, credentials: Credentials, accepted: socket.socket, known: Mapping[str, Any]
    ) -> None:
        super().__init__(host.context, accepted)
        self._host = host
        self._credentials = credentials
        self._known = known

    def _ready(self) -> None:
        if self._host.take_turn(self):
            self.step()
        else:
            self._unwatch()

    def step(self) -> None:
        try:
            endpoint = self._wrapped()
            endpoint.do_handshake()
            facts = self._credentials.facts(endpoint)  # may raise: it parses the client's certificate
        except ssl.SSLWantReadError:
            self._unwatch()
            self._watch()
        except ssl.SSLWantWriteError:
            self._unwatch()
            self._watch_for_room()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._end()  # the client has left, like a probe that only checks whether the port is open
        except ssl.SSLError as error:
            self._fail(_what_happened(error))
        except OSError:
            self._end()
        else:
            self._leave()
            self._host.connected(endpoint, {**facts, **self._known} if self._known else facts)

    def _wrapped(self) -> TlsSocket:
        endpoint = self.endpoint
        if not isinstance(endpoint, TlsSocket):
            # If the client has left already, this raises. `wrap_socket` would too, and would leave a socket open.
            self._peer = endpoint.getpeername()
            endpoint = self.endpoint = self._take_over(endpoint)
        return endpoint

    def _take_over(self, accepted: socket.socket) -> TlsSocket:
        """Who is to know when the socket is closed waits for the other one now, which this one becomes."""
        on_close = getattr(accepted, "on_close", None)
        if on_close is None:
            return self._credentials.wrap(accepted)
        accepted.on_close = None  # type: ignore[attr-defined]
        try:
            wrapped = self._credentials.wrap(accepted)
        except BaseException:
            on_close()
            raise
        wrapped.on_close = on_close
        return wrapped

    def _out_of_time(self) -> None:
        if isinstance(self.endpoint, TlsSocket):
            self._fail("the TLS handshake was not complete in time")
        else:
            self._end()


def _what_happened(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    spoken = _NOT_TLS.get(reason)
    if spoken is not None:
        return f"{spoken} where TLS is spoken: closed"
    return f"the TLS handshake failed: {getattr(error, 'verify_message', None) or reason.lower().replace('_', ' ')}"
