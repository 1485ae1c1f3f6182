"""`TlsTransport` over a pair of sockets: the contract of a transport, and that no clear text leaves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.fairway.loops import LoopFactory, on_each_loop, passes, run
from tests.fairway.server.tls.peer import Peer, Recorder, pair, records

from fairway.server.tls.transport import TlsTransport

SMALL = 4096
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


class Host:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.faults: list[str] = []

    def fault(self, kind: str, scope: Mapping[str, Any] | None, text: str) -> None:
        self.faults.append(text)


class Connection:
    """Both ends, and what our protocol was told."""

    def __init__(self, folder: Path, *, keep_open: bool = False, buffer: int = 0, **options: Any) -> None:
        self.host = Host()
        self.endpoint, self.peer = pair(folder, buffer=buffer, **options)
        self.protocol = Recorder(keep_open)
        self.transport = TlsTransport(self.host, self.endpoint, self.protocol, {"tls": {"a": 1}})  # type: ignore[arg-type]
        self.transport.start()

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the loop run until it holds; the peer takes nothing by itself."""
        async with asyncio.timeout(20):
            while not condition():
                await passes(1)

    async def until_lost(self) -> None:
        await self.until(lambda: "lost" in self.protocol.calls)


@contextmanager
def connected(folder: Path, **options: Any) -> Iterator[Connection]:
    connection = Connection(folder, **options)
    try:
        yield connection
    finally:
        connection.transport.abort()
        connection.peer.raw.close()


@on_each_loop
@VERSIONS
def test_what_the_peer_sends_arrives_and_what_is_written_reaches_it(
    tmp_path: Path, new_loop: LoopFactory, version: ssl.TLSVersion
) -> None:
    async def main() -> None:
        with connected(tmp_path, version=version) as it:
            it.peer.write(b"hello")
            await it.until(lambda: it.protocol.data == b"hello")
            it.transport.write(b"good morning")
            assert it.peer.read() == b"good morning"
            assert it.transport.get_write_buffer_size() == 0
            assert it.protocol.calls == ["made", "data"]
            assert set(records(it.peer.wire)) <= {20, 22, 23}

    run(new_loop, main())


@on_each_loop
def test_what_it_knows_of_the_connection(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path) as it:
            known = it.transport.get_extra_info
            assert known("socket") is it.endpoint
            assert known("tls") == {"a": 1}
            assert (known("peername"), known("sockname")) == (it.endpoint.getpeername(), it.endpoint.getsockname())
            assert (known("no such thing"), known("no such thing", 7)) == (None, 7)

    run(new_loop, main())


@on_each_loop
def test_as_long_as_reading_is_paused_nothing_arrives_not_even_the_end(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path) as it:
            it.transport.pause_reading()
            it.peer.write(b"hello")
            it.peer.say_goodbye()
            await passes(5)
            assert it.protocol.calls == ["made"]
            it.transport.resume_reading()
            await it.until_lost()
            assert it.protocol.data == b"hello"
            assert it.protocol.calls == ["made", "data", "eof", "lost"]

    run(new_loop, main())


@on_each_loop
def test_a_pause_from_within_data_received_is_heeded_at_once(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path) as it:
            received: list[int] = []

            def take(data: bytes) -> None:
                received.append(len(data))
                it.transport.pause_reading()

            it.protocol.data_received = take  # type: ignore[method-assign]
            it.peer.write(bytes(16384))
            it.peer.write(bytes(16384))
            it.peer.write(b"x")
            for expected in ([16384], [16384, 16384], [16384, 16384, 1]):
                await it.until(lambda: received == expected)  # noqa: B023  # it is awaited within the turn
                await passes(3)
                assert received == expected
                it.transport.resume_reading()

    run(new_loop, main())


@on_each_loop
def test_what_the_socket_does_not_take_is_held_and_goes_on_record_by_record(
    tmp_path: Path, new_loop: LoopFactory
) -> None:
    async def main() -> None:
        with connected(tmp_path, buffer=SMALL) as it:
            it.transport.set_write_buffer_limits(high=0)
            data = bytes(range(256)) * 400  # more than six records
            it.transport.write(memoryview(data))
            held = [it.transport.get_write_buffer_size()]
            assert held[0] > 0
            assert it.protocol.calls == ["made", "pause"]
            got = it.peer.read()
            while "resume" not in it.protocol.calls:
                await passes(1)
                held.append(it.transport.get_write_buffer_size())
                got += it.peer.read()
            assert got + it.peer.read() == data
            steps = {before - after for before, after in pairwise(held)}
            assert steps - {0} >= {16384}, "progress shows with each record"
            assert it.protocol.calls == ["made", "pause", "resume"]

    run(new_loop, main())


@on_each_loop
def test_what_is_written_while_something_is_held_follows_it(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path, buffer=SMALL) as it:
            pieces = [bytes([number]) * 20_000 for number in range(5)]
            for piece in pieces:
                it.transport.write(piece)
            got = b""
            while it.transport.get_write_buffer_size():
                got += it.peer.read()
                await passes(1)
            assert got + it.peer.read() == b"".join(pieces)

    run(new_loop, main())


@on_each_loop
def test_a_record_that_was_refused_to_an_outbox_is_sent_with_the_same_bytes(
    tmp_path: Path, new_loop: LoopFactory
) -> None:
    async def main() -> None:
        with connected(tmp_path, buffer=SMALL) as it:
            sent = 0
            with suppress(ssl.SSLWantWriteError):
                while True:
                    sent += it.endpoint.send(b"a" * 3000)
            it.transport.write(b"a" * 3000)  # as `Outbox.flush` does
            got = b""
            while it.transport.get_write_buffer_size():
                got += it.peer.read()
                await passes(1)
            assert got + it.peer.read() == b"a" * (sent + 3000)

    run(new_loop, main())


@on_each_loop
@VERSIONS
@pytest.mark.parametrize("held", [False, True], ids=["nothing held", "something held"])
def test_closing_sends_what_is_held_then_says_goodbye(
    tmp_path: Path, new_loop: LoopFactory, version: ssl.TLSVersion, held: bool
) -> None:
    async def main() -> None:
        with connected(tmp_path, version=version, buffer=SMALL) as it:
            data = b"last words" * (10_000 if held else 1)
            it.transport.write(data)
            it.transport.close()
            assert it.transport.is_closing()
            it.transport.write(b"too late")
            got = it.peer.read()
            while "lost" not in it.protocol.calls:
                await passes(1)
                got += it.peer.read()
            assert got + it.peer.read() == data
            assert it.peer.was_told_of_the_end
            assert it.peer.ended
            records(it.peer.wire)
            assert it.endpoint.fileno() == -1
            assert it.protocol.error is None

    run(new_loop, main())


@on_each_loop
@VERSIONS
def test_our_end_does_not_end_the_peers(tmp_path: Path, new_loop: LoopFactory, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        with connected(tmp_path, version=version, keep_open=True) as it:
            it.transport.write(b"last words")
            assert it.transport.can_write_eof()
            it.transport.write_eof()
            it.transport.write(b"too late")
            assert it.peer.read() == b"last words"
            assert it.peer.was_told_of_the_end
            it.peer.say_goodbye()
            await it.until(lambda: "eof" in it.protocol.calls)
            assert "lost" not in it.protocol.calls
            it.transport.close()
            await it.until_lost()
            records(it.peer.wire)

    run(new_loop, main())


@on_each_loop
def test_our_end_waits_for_what_is_held(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path, keep_open=True, buffer=SMALL) as it:
            it.transport.write(bytes(100_000))
            it.transport.write_eof()
            got = it.peer.read()
            while not it.peer.ended:
                await passes(1)
                got += it.peer.read()
            assert len(got) == 100_000
            assert it.peer.was_told_of_the_end
            assert "lost" not in it.protocol.calls

    run(new_loop, main())


@on_each_loop
def test_what_the_peer_goes_on_sending_after_our_end_breaks_nothing(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path, keep_open=True) as it:
            it.peer.write(b"before")  # it lies unread when our end is said
            it.transport.write(b"last words")
            it.transport.write_eof()
            for _ in range(5):
                it.peer.write(b"after")
                await passes(2)
            assert it.peer.read() == b"last words"
            it.peer.raw.shutdown(1)
            await it.until(lambda: "eof" in it.protocol.calls)
            assert it.protocol.data in (b"", b"before" + b"after" * 5)
            assert it.host.faults == []

    run(new_loop, main())


@on_each_loop
def test_after_our_end_nothing_can_be_sent_on_the_socket_in_whatever_way(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        for goodbye_first in (False, True):  # only then does OpenSSL's shutdown complete, and take TLS off the socket
            with connected(tmp_path, keep_open=True) as it:
                if goodbye_first:
                    it.peer.say_goodbye()
                    await it.until(lambda it=it: "eof" in it.protocol.calls)
                it.transport.write_eof()
                with pytest.raises(OSError, match=r"."):
                    it.endpoint.send(b"in clear text")
                with pytest.raises(OSError, match=r"."):
                    ssl.SSLSocket.send(it.endpoint, b"in clear text")
                it.peer.pump()
                assert b"in clear text" not in it.peer.wire
                records(it.peer.wire)

    run(new_loop, main())


@on_each_loop
def test_an_abort_forgets_what_is_held_and_says_nothing(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path, buffer=SMALL) as it:
            it.transport.write(bytes(100_000))
            it.transport.abort()
            it.transport.abort()
            assert it.protocol.calls[-1] != "lost", "in a pass of its own"
            assert it.transport.get_write_buffer_size() == 0
            await it.until_lost()
            await passes()
            assert it.protocol.calls.count("lost") == 1
            with pytest.raises(OSError, match=r"."):
                it.endpoint.send(b"in clear text")
            it.peer.read()
            assert it.peer.ended
            records(it.peer.wire)

    run(new_loop, main())


@on_each_loop
@pytest.mark.parametrize("says_goodbye", [True, False])
def test_the_peers_end_is_the_end_of_the_stream(tmp_path: Path, new_loop: LoopFactory, says_goodbye: bool) -> None:
    async def main() -> None:
        with connected(tmp_path) as it:
            it.peer.write(b"last words")
            if says_goodbye:
                it.peer.say_goodbye()
            it.peer.raw.shutdown(1)
            await it.until_lost()
            assert it.protocol.data == b"last words"
            assert it.protocol.calls == ["made", "data", "eof", "lost"]
            assert it.protocol.error is None

    run(new_loop, main())


@on_each_loop
def test_who_keeps_its_side_open_may_go_on_writing(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path, keep_open=True) as it:
            it.peer.say_goodbye()
            await it.until(lambda: "eof" in it.protocol.calls)
            it.transport.pause_reading()
            it.transport.resume_reading()
            it.transport.write(b"an answer")
            await passes(5)
            assert it.protocol.calls == ["made", "eof"]
            it.peer.pump()
            assert len(records(it.peer.wire)) > 0
            it.transport.close()
            await it.until_lost()

    run(new_loop, main())


@on_each_loop
def test_garbage_is_one_line_and_the_end(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path) as it:
            it.peer.raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
            await it.until_lost()
            [fault] = it.host.faults
            assert fault.startswith("TLS is broken: ")
            assert isinstance(it.protocol.error, ssl.SSLError)

    run(new_loop, main())


@on_each_loop
def test_a_reset_is_no_fault(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path) as it:
            it.peer.reset()
            await it.until_lost()
            assert it.protocol.calls == ["made", "lost"], "nothing can be answered any more"
            assert isinstance(it.protocol.error, OSError)
            assert it.host.faults == []

    run(new_loop, main())


class Reluctant:
    """An endpoint that has OpenSSL wait for the other direction, as a renegotiation would."""

    def __init__(self, endpoint: Any) -> None:
        self.endpoint = endpoint
        self.send_errors: list[Exception] = []
        self.recv_errors: list[Exception] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.endpoint, name)

    def send(self, data: Any) -> int:
        if self.send_errors:
            raise self.send_errors.pop()
        return int(self.endpoint.send(data))

    def recv(self, size: int) -> bytes:
        if self.recv_errors:
            raise self.recv_errors.pop()
        return bytes(self.endpoint.recv(size))


@contextmanager
def reluctant(folder: Path) -> Iterator[tuple[Reluctant, Peer, Recorder, TlsTransport]]:
    endpoint, peer = pair(folder)
    protocol, wrapped = Recorder(), Reluctant(endpoint)
    transport = TlsTransport(Host(), wrapped, protocol, {})  # type: ignore[arg-type]
    transport.start()
    try:
        yield wrapped, peer, protocol, transport
    finally:
        transport.abort()
        peer.raw.close()


@on_each_loop
@pytest.mark.parametrize("paused", [False, True])
def test_a_write_that_waits_for_a_read_goes_on_when_something_has_come(
    tmp_path: Path, new_loop: LoopFactory, paused: bool
) -> None:
    async def main() -> None:
        with reluctant(tmp_path) as (endpoint, peer, protocol, transport):
            if paused:
                transport.pause_reading()
            transport.set_write_buffer_limits(high=0)
            endpoint.send_errors.append(ssl.SSLWantReadError())
            transport.write(b"an answer")
            await passes(3)
            assert peer.read() == b""
            peer.write(b"something")
            async with asyncio.timeout(20):
                while "resume" not in protocol.calls:
                    await passes(1)
            assert peer.read() == b"an answer"
            await passes(3)
            assert protocol.data == (b"" if paused else b"something")

    run(new_loop, main())


@on_each_loop
def test_a_read_that_waits_for_a_write_goes_on_when_there_is_room(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with reluctant(tmp_path) as (endpoint, peer, protocol, _):
            endpoint.recv_errors.append(ssl.SSLWantWriteError())
            peer.write(b"something")
            async with asyncio.timeout(20):
                while protocol.data != b"something":
                    await passes(1)
            assert endpoint.recv_errors == []

    run(new_loop, main())
