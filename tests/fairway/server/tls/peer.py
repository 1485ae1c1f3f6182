"""The other end of a TLS connection, by hand: what it reads off the wire, and when, is what a test says."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

from tests.fairway.server.tls.certificates import limits

from fairway.server.output.lanes import TlsSocket
from fairway.server.tls.files import Credentials


class Recorder:
    """A protocol that remembers what it was told."""

    def __init__(self, keep_open: bool = False) -> None:
        self.transport: Any = None
        self.calls: list[str] = []
        self.data = b""
        self.error: Exception | None = None
        self._keep_open = keep_open

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.calls[-1:] != ["data"]:
            self.calls.append("data")

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self._keep_open

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.calls.append("lost")
        self.error = error


class Peer:
    """A client over memory, and its socket. `wire` is everything that has come over it."""

    def __init__(
        self, raw: socket.socket, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, secrets: Path | None = None
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if secrets is not None:
            context.keylog_filename = str(secrets)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = version
        self.raw = raw
        self.wire = b""
        self.ended = False
        self._from_wire, self._to_wire = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._from_wire, self._to_wire)

    def pump(self) -> None:
        """Send what there is to be sent, and take what has come."""
        if self._to_wire.pending:
            self.raw.send(self._to_wire.read())
        while not self.ended:
            try:
                data = self.raw.recv(1 << 16)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            self.wire += data
            self._from_wire.write(data)
            self.ended = not data

    def handshake(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.pump()

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self.pump()

    def read(self) -> bytes:
        """Everything that has come, decrypted."""
        self.pump()
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.tls.read(1 << 16):
                data += piece
        return data

    @property
    def was_told_of_the_end(self) -> bool:
        """Whether close_notify has come."""
        try:
            return self.tls.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except (ssl.SSLWantReadError, ssl.SSLEOFError):
            return False

    def reset(self) -> None:
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.raw.close()

    def say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.pump()


def pair(
    folder: Path,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    buffer: int = 0,
    secrets: Path | None = None,
) -> tuple[TlsSocket, Peer]:
    """A server's TLS socket after its handshake, and the peer. `buffer`: bytes that the kernel keeps between them.
    `secrets`: the file for the peer's secrets.
    """
    ours, theirs = socket.socketpair() if buffer else _tcp_pair()
    for end in (ours, theirs):
        end.setblocking(False)
        if buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    endpoint = Credentials(limits(folder)).wrap(ours)
    peer = Peer(theirs, version, secrets)
    peer.handshake()
    for _ in range(4):
        with contextlib.suppress(ssl.SSLWantReadError):
            endpoint.do_handshake()
        peer.handshake()
    peer.read()  # the session ticket
    return endpoint, peer


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        return listening.accept()[0], theirs


def records(wire: bytes) -> list[int]:
    """The kinds of the TLS records in these bytes (RFC 8446 section 5.1); fails if there is anything else."""
    kinds = []
    while wire:
        kind, version, size = wire[0], wire[1:3], int.from_bytes(wire[3:5], "big")
        assert kind in (20, 21, 22, 23), f"no TLS record: {wire[:40]!r}"
        assert version in (b"\x03\x01", b"\x03\x03"), f"no TLS record: {wire[:40]!r}"
        assert size <= 16384 + 256
        if len(wire) < 5 + size:
            break  # it was cut off
        kinds.append(kind)
        wire = wire[5 + size :]
    return kinds
