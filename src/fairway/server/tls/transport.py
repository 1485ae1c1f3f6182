"""One TLS connection after its handshake, as a transport (`fairway.server.transport`).

OpenSSL reads and writes the descriptor itself: there is no copy between it and the kernel, and an outbox may send on
the socket directly, as it does on a plain one (`fairway.server.output.lanes.TlsSocket`).

* *Reading or paused.* One call reads one record. After a full record it reads on, up to `READS_PER_PASS`. OpenSSL may
  hold decrypted bytes that no descriptor shows as readable, so each read asks for them (`pending`).
* *Writing.* Held data is sent record by record. OpenSSL must be given an unfinished record again with the same bytes,
  so the first piece of the held data is never joined with others or cut differently.
* *Waiting for the other direction.* A read may have to write first, for a key update say, and a write may have to read.
* *Open, ended, closing, lost.* Our side ends with close_notify and a FIN behind the held data. Both are tried once, and
  no answer is awaited. The peer's side has ended when the stream ends, with or without close_notify: HTTP and WebSocket
  notice by themselves what has been cut short. `connection_lost` is called once, in a pass of its own.

Clear text cannot leave. `SSLSocket.shutdown` takes the TLS object off the socket, and so does an `unwrap` that finds
the peer's close_notify. After that, `send` would send in clear. So nothing here calls `SSLSocket.shutdown`; `unwrap` is
called only together with the end of our side of the socket; and a `TlsSocket` refuses to send without TLS.
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
"""The size of a full record."""

READS_PER_PASS = 4

_HIGH_WATER = 65536


class Host(Protocol):
    """What the transports of one event loop share."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def fault(self, kind: str, scope: Mapping[str, Any] | None, text: str) -> None:
        """Log a fault of the peer in one line."""


class TlsTransport:
    """A transport over a socket whose handshake is complete. Call everything in its event loop only.

    `facts` answer `get_extra_info`: `tls`, for scopes, and addresses that replace the socket's own.
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
        self._read_waits = False  # until the socket can be written to
        self._write_waits = False  # until something arrives
        self._has_ended = self._peer_has_ended = False
        self._is_deaf = False  # TLS is broken: what still arrives is read and dropped
        self._closing = False

    def start(self) -> None:
        """Call `connection_made`, and begin to read."""
        assert self._protocol is not None
        self._protocol.connection_made(self)  # type: ignore[arg-type]  # it has all that this server uses
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
        """The bytes that have arrived, empty at the end of the stream. None if there are none, or after a loss."""
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
            return b""  # the end of the stream, if our own close_notify came first
        except ssl.SSLError as error:
            if self._has_ended and not self._held:
                self._is_deaf = True  # go on reading: closing now would reset the connection and lose our last bytes
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
            self._lose(error)  # it was a reset, which `ssl` reports as an end of the stream
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
        """Send as much of the held data as the socket takes."""
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
        """If nothing is held any more, do what has waited for that."""
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
        """Send close_notify and end our side of the socket, in one step: nothing can be sent in between or later."""
        with contextlib.suppress(OSError, ValueError):
            # This usually raises because the peer's close_notify has not arrived; ours has been sent then. It may also
            # fail to send ours, if the socket is full or unread data is in the way. The FIN follows in any case.
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
