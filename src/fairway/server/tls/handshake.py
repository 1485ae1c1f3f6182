"""From an accepted socket to a connection over TLS: the handshakes of one event loop.

A handshake takes two or three steps, each when something has arrived, and one of them costs a millisecond: that is
where the key is used. However many clients come at once, `tls_handshakes_per_pass` steps are made in a pass of the
loop; whoever else has something to read waits in a queue, unwatched, and in the meantime the others have their turn.

A socket is wrapped when its first bytes have come, so that one that says nothing is a few hundred bytes. It counts as
a connection from the beginning, and has `request_head_timeout` for the whole handshake.
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

# What OpenSSL calls it when a client speaks something else. `HTTP_REQUEST` is a request in clear text.
_NOT_TLS = {
    "HTTP_REQUEST": "a request in clear text",
    "HTTPS_PROXY_REQUEST": "a request in clear text",
    "WRONG_VERSION_NUMBER": "something else than TLS",
    "UNKNOWN_PROTOCOL": "something else than TLS",
    "RECORD_LAYER_FAILURE": "something else than TLS",
}


class Handshakes:
    """Belongs to one loop; everything is called in that loop only.

    `connect` makes the protocol of a connection whose handshake is complete.
    """

    def __init__(self, context: ServerContext, files: TlsFiles, connect: Connect) -> None:
        self.context = context
        self._files = files
        self._connect = connect
        self._left = context.limits.tls_handshakes_per_pass
        self._waiting: deque[Handshake] = deque()
        self._is_scheduled = False

    def begin(self, accepted: socket.socket, known: Mapping[str, Any] = NOTHING) -> None:
        """Take over a socket that was accepted, and does not block. `known`: addresses that are not the socket's."""
        Handshake(self, self._files.credentials, accepted, known).begin()

    def connected(self, endpoint: TlsSocket, facts: Mapping[str, Any]) -> None:
        """The handshake is complete."""
        protocol = self._connect(endpoint)
        TlsTransport(self.context, endpoint, protocol, facts).start()

    def take_turn(self, handshake: Handshake) -> bool:
        """Whether a step may be made now. If not, `Handshake.step` is called in a later pass."""
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
            # Whatever has become of one: nobody else would let the others go on.
            if waiting or self._left < self.context.limits.tls_handshakes_per_pass:
                self._schedule()


class Handshake(Arrival):
    """One of them. `known` are facts for its transport (`TlsTransport`)."""

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
            facts = self._credentials.facts(endpoint)  # which reads the client's certificate
        except ssl.SSLWantReadError:
            self._unwatch()
            self._watch()
        except ssl.SSLWantWriteError:
            self._unwatch()
            self._watch_for_room()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._end()  # it has left, as those do who only look whether the port is open
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
            # One that has left already raises here; `wrap_socket` would leave a socket unclosed.
            self._peer = endpoint.getpeername()
            endpoint = self.endpoint = self._credentials.wrap(endpoint)
        return endpoint

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
