"""One TLS connection after its handshake, as a transport (`fairway.server.transport`).

OpenSSL reads and writes the descriptor itself: there is no copy between it and the kernel, and an outbox may send on
the socket directly, as it does on a plain one (`fairway.server.output.lanes.TlsSocket`).

* Reading or paused. A call reads a record, and full ones are followed by more, up to `READS_PER_PASS`. What OpenSSL
  holds decrypted (`pending`) shows on no descriptor, so that it is asked.
* Writing. What is held is sent record by record: OpenSSL wants a record that it has begun again with the same bytes, so
  the first bytes of what is held are never joined with others, nor cut differently.
* Either may wait for the other: a read may have to write first, as for a key update, and a write to read.
* Open, ended, closing, lost. Our end is close_notify and a FIN, behind what is held; it is tried once and not waited
  for. The peer's shows as the end of the stream, whether it said close_notify or not: what is cut short shows in HTTP
  and WebSocket themselves. `connection_lost` is called once, in a pass of its own.

Clear text cannot leave. `SSLSocket.shutdown` takes the TLS object off the socket, and so does an `unwrap` that finds
the peer's close_notify: a `send` after that is one of a plain socket. The first is not called here at all, the second
only together with the end of our side of the socket, and a `TlsSocket` refuses to send without TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fairway.server.output.lanes import TlsSocket

READ_BYTES = 16384
"""As much as a record holds."""

READS_PER_PASS = 4

_HIGH_WATER = 65536


class Host(Protocol):
    """What all transports of one event loop share."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def fault(self, kind: str, scope: Mapping[str, Any] | None, text: str) -> None:
        """One line about a fault of the peer."""


class TlsTransport:
    """Belongs to one loop; everything is called in that loop only.

    `endpoint` is a socket whose handshake is complete. `facts` are what `get_extra_info` knows: `tls`, for scopes, and
    addresses, if they are other than the socket's.
    """

    __slots__ = (
        "_closing",
        "_endpoint",
        "_facts",
        "_has_ended",
        "_held",
        "_high",
        "_host",
        "_is_deaf",
        "_peer_has_ended",
        "_protocol",
        "_read_waits",
        "_reading",
        "_unsent",
        "_write_waits",
        "_writing_paused",
    )

    def __init__(self, host: Host, endpoint: TlsSocket, protocol: asyncio.Protocol, facts: Mapping[str, Any]) -> None:
        self._host = host
        self._endpoint = endpoint
        self._protocol: asyncio.Protocol | None = protocol
        self._facts = facts
        self._unsent: list[memoryview] | None = None
        self._held = 0
        self._high = _HIGH_WATER
        self._writing_paused = False
        self._reading = True
        self._read_waits = False  # for the socket to take something
        self._write_waits = False  # for something to arrive
        self._has_ended = self._peer_has_ended = False
        self._is_deaf = False  # what arrives cannot be understood any more
        self._closing = False

    def start(self) -> None:
        """Call `connection_made`, and read."""
        assert self._protocol is not None
        self._protocol.connection_made(self)  # type: ignore[arg-type]  # as much of one as this server uses
        if self._reading and not self._closing:
            self._read_on()

    # The contract ---------------------------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol, /) -> None:
        self._protocol = protocol  # type: ignore[assignment]  # a stream's, never less

    def get_extra_info(self, name: str, default: Any = None, /) -> Any:
        if name in self._facts:
            return self._facts[name]
        if name == "socket":
            return self._endpoint
        with contextlib.suppress(OSError):
            if name == "peername":
                return self._endpoint.getpeername()
            if name == "sockname":
                return self._endpoint.getsockname()
        return default

    def get_write_buffer_size(self) -> int:
        return self._held

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | memoryview, /) -> None:
        if self._closing or self._has_ended or not data:
            return
        self._held += len(data)
        if self._unsent is None:
            self._unsent = [memoryview(data)]
            self._send()
        else:
            self._unsent.append(memoryview(data))
        if self._held > self._high and not self._writing_paused and self._protocol is not None:
            self._writing_paused = True
            self._protocol.pause_writing()

    def pause_reading(self) -> None:
        self._reading = False
        if not (self._write_waits or self._peer_has_ended or self._closing):
            self._host.loop.remove_reader(self._endpoint.fileno())

    def resume_reading(self) -> None:
        self._reading = True
        if not (self._peer_has_ended or self._closing):
            self._read_on()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._has_ended or self._closing):
            self._has_ended = True
            if not self._held:
                self._end()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._held:
            self._end()
            self._lose(None)
        elif not self._write_waits:
            self._host.loop.remove_reader(self._endpoint.fileno())

    def abort(self) -> None:
        self._closing = True
        self._lose(None)

    # Reading --------------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        loop = self._host.loop
        loop.add_reader(self._endpoint.fileno(), self._readable)
        if self._endpoint.pending():
            loop.call_soon(self._readable)

    def _readable(self) -> None:
        if self._write_waits:
            self._write_waits = False
            if not self._reading or self._closing:
                self._host.loop.remove_reader(self._endpoint.fileno())
            self._send()
            self._sent()
        for _ in range(READS_PER_PASS):
            if not self._reading or self._closing or self._peer_has_ended:
                return
            data = self._receive()
            if data is None:
                return
            if not data:
                self._end_of_stream()
                return
            if not self._is_deaf:
                assert self._protocol is not None
                self._protocol.data_received(data)
            if len(data) < READ_BYTES:
                break
        if self._reading and not self._closing and self._endpoint.pending():
            self._host.loop.call_soon(self._readable)

    def _receive(self) -> bytes | None:
        """What has arrived, nothing at the end of the stream; None if there is none yet, or the connection is lost."""
        try:
            if self._is_deaf:
                return socket.socket.recv(self._endpoint, READ_BYTES)
            return self._endpoint.recv(READ_BYTES)
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        except ssl.SSLWantWriteError:
            self._read_waits = True
            self._host.loop.add_writer(self._endpoint.fileno(), self._writable)
            return None
        except ssl.SSLZeroReturnError:
            return b""  # the end of the stream, when ours has been said before
        except ssl.SSLError as error:
            if self._has_ended and not self._held:
                self._is_deaf = True  # our last words are on their way: a reset must not overtake them
                return b"\0"
            self._report(error)
            self._lose(error)
        except OSError as error:
            self._lose(error)
        return None

    def _end_of_stream(self) -> None:
        try:
            self._endpoint.getpeername()
        except OSError as error:
            self._lose(error)  # `ssl` reports a reset as an end, but then there is no peer any more
            return
        self._peer_has_ended = True
        if not self._write_waits:
            self._host.loop.remove_reader(self._endpoint.fileno())
        assert self._protocol is not None
        if not self._protocol.eof_received():
            self.close()

    # Writing --------------------------------------------------------------------------------------------------

    def _writable(self) -> None:
        if self._read_waits:
            self._read_waits = False
            self._readable()
        self._send()
        self._sent()

    def _send(self) -> None:
        """Send what is held, as far as the socket takes it."""
        unsent = self._unsent
        loop = self._host.loop
        try:
            while unsent:
                piece = unsent[0]
                sent = self._endpoint.send(piece)
                self._held -= sent
                if sent < len(piece):
                    unsent[0] = piece[sent:]
                else:
                    del unsent[0]
            self._unsent = None
        except (ssl.SSLWantWriteError, BlockingIOError):
            loop.add_writer(self._endpoint.fileno(), self._writable)
        except ssl.SSLWantReadError:
            self._write_waits = True
            loop.remove_writer(self._endpoint.fileno())
            loop.add_reader(self._endpoint.fileno(), self._readable)
        except OSError as error:
            self._lose(error)

    def _sent(self) -> None:
        """Go on if nothing is held any more."""
        if self._held or self._protocol is None:
            return
        if not self._read_waits:
            self._host.loop.remove_writer(self._endpoint.fileno())
        if self._closing:
            self._end()
            self._lose(None)
            return
        if self._has_ended:
            self._end()
        if self._writing_paused:
            self._writing_paused = False
            self._protocol.resume_writing()

    # Ending ---------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Say close_notify, and end our side of the socket, in one breath: what is sent after this is refused."""
        with contextlib.suppress(OSError, ValueError):
            # Most often this fails because the peer has not said it yet: ours is said. Where it cannot be said, because
            # the socket is full, or what the peer has said meanwhile is in the way, there is still the end itself.
            self._endpoint.unwrap()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._endpoint, socket.SHUT_WR)

    def _lose(self, error: Exception | None) -> None:
        if self._protocol is None or self._endpoint.fileno() < 0:
            return
        self._closing = True
        self._unsent = None
        self._held = 0
        loop, number = self._host.loop, self._endpoint.fileno()
        loop.remove_reader(number)
        loop.remove_writer(number)
        self._endpoint.close()
        loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        assert protocol is not None
        protocol.connection_lost(error)

    def _report(self, error: ssl.SSLError) -> None:
        peer = self.get_extra_info("peername")
        client = peer[:2] if isinstance(peer, tuple) else None
        self._host.fault("tls", {"client": client, "path": "-"}, f"TLS is broken: {error.reason or error}")
