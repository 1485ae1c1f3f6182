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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fairway.server.output.lanes import TlsSocket
from fairway.server.tls.transport import TlsTransport

if TYPE_CHECKING:
    import asyncio
    import socket

    from fairway.server.context import ServerContext
    from fairway.server.tls.files import Credentials, TlsFiles

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

    def begin(self, accepted: socket.socket) -> None:
        """Take over a socket that was accepted, and does not block."""
        Handshake(self, self._files.credentials, accepted).begin()

    def connected(self, endpoint: TlsSocket, credentials: Credentials) -> None:
        """The handshake is complete."""
        protocol = self._connect(endpoint)
        TlsTransport(self.context, endpoint, protocol, {"tls": credentials.details(endpoint)}).start()

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
        while waiting and self._left:
            handshake = waiting.popleft()
            if handshake.is_open:
                self._left -= 1
                handshake.step()
        if self._left < self.context.limits.tls_handshakes_per_pass:
            self._schedule()


class Handshake:
    """One of them. (`fairway.server.context.Drainable`, `fairway.timing.wheel.Entry`)"""

    __slots__ = ("_client", "_credentials", "_endpoint", "_host", "_number", "_until", "is_open", "wheel_slot")

    def __init__(self, host: Handshakes, credentials: Credentials, accepted: socket.socket) -> None:
        self.wheel_slot: int | None = None
        self.is_open = True
        self._host = host
        self._credentials = credentials
        self._endpoint: socket.socket | TlsSocket = accepted
        self._number = accepted.fileno()  # it is the same when the socket has been wrapped, or could not be
        self._client: Any = None
        self._until = 0.0

    def begin(self) -> None:
        context = self._host.context
        context.add(self)
        self._until = context.touch() + context.limits.request_head_timeout
        context.schedule(self, self._until)
        self._watch()

    def _watch(self) -> None:
        self._host.context.loop.add_reader(self._number, self._ready)

    def _ready(self) -> None:
        if self._host.take_turn(self):
            self.step()
        else:
            self._unwatch()

    def _unwatch(self) -> None:
        loop = self._host.context.loop
        loop.remove_reader(self._number)
        loop.remove_writer(self._number)

    def step(self) -> None:
        """Go on with the handshake, as far as what has arrived allows."""
        loop = self._host.context.loop
        try:
            endpoint = self._wrapped()
            endpoint.do_handshake()
        except ssl.SSLWantReadError:
            loop.remove_writer(self._number)
            self._watch()
        except ssl.SSLWantWriteError:
            self._unwatch()
            loop.add_writer(self._number, self._ready)
        except ssl.SSLEOFError:
            self._end()  # it has left, as those do who only look whether the port is open
        except ssl.SSLError as error:
            self._fail(_what_happened(error))
        except OSError:
            self._end()
        else:
            self._leave()
            self._host.connected(endpoint, self._credentials)

    def _wrapped(self) -> TlsSocket:
        endpoint = self._endpoint
        if not isinstance(endpoint, TlsSocket):
            # One that has left already raises here; `wrap_socket` would leave a socket unclosed.
            self._client = endpoint.getpeername()
            endpoint = self._endpoint = self._credentials.wrap(endpoint)
        return endpoint

    def _leave(self) -> None:
        """The handshake is over, one way or the other; the socket is still open."""
        context = self._host.context
        self.is_open = False
        self._unwatch()
        context.wheel.cancel(self)
        context.remove(self)

    def _end(self) -> None:
        if self.is_open:
            self._leave()
            self._endpoint.close()

    def _fail(self, text: str) -> None:
        client = self._client[:2] if isinstance(self._client, tuple) else None
        self._host.context.fault("tls", {"client": client, "path": "-"}, text)
        self._end()

    def handle_deadline(self, now: float) -> float | None:
        if now < self._until:
            return self._until
        if isinstance(self._endpoint, TlsSocket):
            self._fail("the TLS handshake was not complete in time")
        self._end()
        return None

    def drain(self) -> None:
        """Nothing is under way that would be worth finishing."""
        self._end()

    def abort(self) -> None:
        self._end()


def _what_happened(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    spoken = _NOT_TLS.get(reason)
    if spoken is not None:
        return f"{spoken} where TLS is spoken: closed"
    return f"the TLS handshake failed: {getattr(error, 'verify_message', None) or reason.lower().replace('_', ' ')}"
