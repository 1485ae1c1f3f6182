"""A whole server over TLS: who gets in, what applications are told, and what goes over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer
from fairway.server.limits import Limits
from fairway.server.output.fanout import FEW
from fairway.server.tls.files import Credentials, TlsFiles
from tests.fairway.server.tls import certificates
from tests.fairway.server.tls.peer import records
from tests.integration.conftest import Start
from tests.integration.layers import default_layer
from tests.integration.raw import CLOSE, DEADLINE, HANDSHAKE, TEXT, Client, Served, frame, next_pass

SECRET = b"the words that nobody may read on the way"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

over_tls = pytest.mark.parametrize("start", ["tls"], indirect=True)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says what it knows of TLS to a request, and repeats what a WebSocket says."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "http":
        facts = {"scheme": scope["scheme"], "tls": scope["extensions"].get("tls")}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(facts).encode()})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"] + scope["scheme"]})


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await next_pass()


# What applications are told ------------------------------------------------------------------------------------------


@over_tls
async def test_a_request_is_told_of_tls(start: Start) -> None:
    served = await start(echo)
    client = await served.connect()
    await client.send(GET)
    facts = json.loads((await client.response()).body)
    assert facts["scheme"] == "https"
    assert facts["tls"]["tls_version"] == 0x0304
    assert facts["tls"]["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    assert facts["tls"]["server_cert"].startswith("-----BEGIN CERTIFICATE-----\n")
    assert (facts["tls"]["client_cert_chain"], facts["tls"]["client_cert_name"]) == ([], None)
    assert served.server.addresses == [f"https://127.0.0.1:{served.port}"]


@over_tls
async def test_a_websocket_over_tls_is_wss(start: Start) -> None:
    client = await (await start(echo)).connect()
    await client.open()
    await client.send(frame(TEXT, b"hello "))
    assert await client.frame() == (TEXT, b"hello wss")
    await client.send(frame(CLOSE, b"\x03\xe8"))
    assert await client.close_frame() == (1000, "")
    assert await client.at_end()


@pytest.mark.slow
@over_tls
@pytest.mark.parametrize("wanted", ["none", "optional", "required"])
@pytest.mark.parametrize("shown", ["nothing", "ours", "somebody's"])
async def test_clients_with_certificates(start: Start, tmp_path: Path, wanted: str, shown: str) -> None:
    ca = str(certificates.authorities(tmp_path)) if wanted != "none" else ""
    served = await start(echo, client_certs=wanted, client_ca=ca)
    if shown != "nothing":
        other = certificates.trustme().CA() if shown == "somebody's" else None
        own = certificates.certificate(tmp_path, "client.pem", other, common_name="ann")
        served.trust = certificates.client_context(own)
    is_welcome = wanted == "none" or shown == "ours" or (wanted == "optional" and shown == "nothing")

    if is_welcome:
        client = await served.connect()
        await client.send(GET)
        tls = json.loads((await client.response()).body)["tls"]
        is_known = wanted != "none" and shown == "ours"
        assert len(tls["client_cert_chain"]) == is_known
        assert (tls["client_cert_name"] or "").startswith("CN=ann") == is_known
        assert tls["client_cert_error"] is None
        assert served.log == []
    else:

        async def come() -> None:
            client = await served.connect()
            await client.send(GET)
            await client.response()  # in TLS 1.3 a client learns of it only now

        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await come()
        await served.idle()
        [line] = served.log
        assert "the TLS handshake failed: " in line


def no_text() -> ssl.SSLError:
    """What OpenSSL says of a subject whose bytes are no text."""
    error = ssl.SSLError(1, "illegal characters")
    error.reason = "ILLEGAL_CHARACTERS"
    return error


@pytest.mark.slow
@over_tls
@pytest.mark.parametrize("error", [no_text(), ArithmeticError("on purpose")], ids=["of TLS", "of ours"])
async def test_a_certificate_that_cannot_be_read_keeps_nobody_else_out(
    start: Start, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """One whose authority let its subject be no text; and whatever else may go wrong with one of many handshakes."""
    unreadable = 3
    facts = Credentials.facts

    def read(credentials: Credentials, endpoint: ssl.SSLSocket) -> dict[str, Any]:
        nonlocal unreadable
        if unreadable:
            unreadable -= 1
            raise error
        return facts(credentials, endpoint)

    monkeypatch.setattr(Credentials, "facts", read)
    served = await start(echo, tls_handshakes_per_pass=1)
    failures: list[dict[str, Any]] = []
    served.context.loop.set_exception_handler(lambda loop, context: failures.append(context))

    async def come() -> int:
        try:
            client = await served.connect()
            await client.send(GET)
            return (await client.response()).status
        except (OSError, asyncio.IncompleteReadError):
            return 0

    is_ours = isinstance(error, ArithmeticError)
    comers = [asyncio.ensure_future(come()) for _ in range(8)]
    async with asyncio.timeout(DEADLINE):
        while sum(one.done() and one.result() == 200 for one in comers) < 5:
            await next_pass()
    assert [context["exception"] for context in failures] == [error] * (3 if is_ours else 0)
    if not is_ours:
        assert sorted(await asyncio.gather(*comers)) == [0] * 3 + [200] * 5
        assert all("the TLS handshake failed: " in line for line in served.log)
    for one in comers:
        one.cancel()
    served.context.loop.set_exception_handler(None)


# Who does not get in ------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def plain(served: Served) -> AsyncIterator[Client]:
    """A client that speaks no TLS."""
    trust, served.trust = served.trust, None
    client = await served.connect()
    served.trust = trust
    yield client


@over_tls
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GET, "a request in clear text where TLS is spoken: closed"),
        (HANDSHAKE, "a request in clear text where TLS is spoken: closed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "something else than TLS where TLS is spoken: closed"),
        (bytes(range(256)), "something else than TLS where TLS is spoken: closed"),
        (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", "the TLS handshake failed: "),
    ],
    ids=["request", "handshake", "ssh", "garbage", "hello too short"],
)
async def test_what_is_not_tls_is_one_line_and_closed(start: Start, data: bytes, words: str) -> None:
    served = await start(echo)
    async with plain(served) as client:
        await client.send(data)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(DEADLINE):
                answer = await client.reader.read()
            assert answer == b"" or records(answer) == [21], "no clear text: nothing, or an alert"
        await served.idle()
    [line] = served.log
    assert words in line


@over_tls
async def test_who_only_looks_whether_the_port_is_open_is_not_worth_a_line(start: Start) -> None:
    served = await start(echo)
    async with plain(served) as client:
        await until(lambda: served.context.connections)
        await client.close()
    async with plain(served) as client:
        await until(lambda: served.context.connections)
        client.reset()
    await served.idle()
    assert served.log == []


def hello() -> bytes:
    """The first words of a client."""
    outgoing = ssl.MemoryBIO()
    client = certificates.client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.slow
@over_tls
@pytest.mark.parametrize("said", [0, 100, 10_000], ids=["nothing", "half a hello", "hello"])
async def test_a_handshake_has_a_deadline(start: Start, said: int) -> None:
    served = await start(echo, request_head_timeout=0.4)
    async with plain(served) as client:
        await client.send(hello()[:said])
        assert len(served.context.connections) <= 1
        async with asyncio.timeout(DEADLINE):
            await client.reader.read()
        await served.idle()
    assert len(served.log) == bool(said)
    assert all("the TLS handshake was not complete in time" in line for line in served.log)


@over_tls
async def test_a_handshake_counts_as_a_connection_and_ends_when_the_server_stops(start: Start) -> None:
    served = await start(echo)
    async with plain(served) as client:
        await client.send(hello()[:100])
        await until(lambda: served.context.connections)
        async with asyncio.timeout(DEADLINE):
            await served.server.end_connections(DEADLINE)
        assert await client.at_end()
    assert served.log == []


@over_tls
async def test_beyond_the_bound_of_connections_the_answer_is_503_over_tls(start: Start) -> None:
    served = await start(echo, max_connections=1)
    first = await served.connect()
    await first.open()
    second = await served.connect()
    assert (await second.response()).status == 503


@over_tls
async def test_a_storm_of_handshakes_makes_four_steps_a_pass_and_others_are_served_in_between(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await start(echo)
    neighbour = await served.connect()
    await neighbour.open()
    loop = asyncio.get_running_loop()
    steps: dict[int, int] = {}
    number = 0

    def tick() -> None:
        nonlocal number
        number += 1
        loop.call_soon(tick)

    original = ssl.SSLSocket.do_handshake

    def counted(self: ssl.SSLSocket, block: bool = False) -> None:
        steps[number] = steps.get(number, 0) + 1
        original(self, block)

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", counted)
    tick()
    first_words = hello()
    clients = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(60)]
    for client in clients:
        client.sendall(first_words)
    answered_at = []
    while sum(steps.values()) < len(clients):
        await neighbour.send(frame(TEXT, b"?"))
        assert (await neighbour.frame())[1] == b"?wss"
        answered_at.append(sum(steps.values()))
    for client in clients:
        client.close()

    # A step is counted with the pass before it where a loop calls its readers before what was to be called soon.
    assert max(steps.values()) <= 2 * served.context.limits.tls_handshakes_per_pass
    assert len(steps) >= len(clients) / served.context.limits.tls_handshakes_per_pass / 2
    assert len({count for count in answered_at if count < len(clients)}) > 1, "answered while others were waiting"


# The wire ----------------------------------------------------------------------------------------------------------


class Relay:
    """Stands between clients and the server, and records what the server says, for each connection."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.said: list[bytearray] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._target)
        said = bytearray()
        self.said.append(said)
        self._writers += [writer, there[1]]
        for source, target, record in ((reader, there[1], None), (there[0], writer, said)):
            task = asyncio.create_task(self._pump(source, target, record))
            self._tasks.add(task)

    async def _pump(self, source: Any, target: Any, record: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if record is not None:
                    record += data
                target.write(data)
                await target.drain()
        target.close()

    def check(self) -> None:
        """Nothing but TLS records has come from the server, on any connection, and nothing could be read."""
        assert self.said
        for said in self.said:
            assert SECRET not in said
            records(bytes(said))


class Crowd(AsyncWebsocketConsumer):
    groups = ("all",)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "close":
            await self.send(SECRET.decode())
            await self.close(4000, SECRET.decode())
        else:
            await self.send(SECRET.decode())


@pytest.fixture
def layer() -> Any:
    with default_layer() as layer:
        yield layer


@pytest.mark.slow
@over_tls
async def test_no_clear_text_leaves_in_whatever_way_it_is_sent(start: Start, layer: InMemoryChannelLayer) -> None:
    served = await start(Crowd.as_asgi(), close_timeout=0.5)
    async with Relay(served.port) as relay:
        clients = [await served.connect(port=relay.port) for _ in range(FEW + 8)]
        for client in clients:
            await client.open()
        # By outboxes and by sweeps, while members leave in every way.
        for number in range(6):
            await layer.group_broadcast("all", SECRET.decode())
            await clients[number].send(frame(TEXT, b"close" if number % 2 else b"say"))
            await layer.group_broadcast("all", SECRET.decode() * 500)
            if number == 2:
                clients[-1].reset()
            if number == 3:
                clients[-2].writer.close()
            if number == 4:
                connections = list(served.context.connections)
                connections[0].abort()
                connections[1].drain()
        for client in clients[10:20]:
            got = [await client.frame() for _ in range(3)]
            assert got[0] == (TEXT, SECRET)
        await layer.group_broadcast("all", SECRET.decode())
        await served.server.end_connections(DEADLINE)
        relay.check()


@over_tls
async def test_no_clear_text_leaves_when_a_response_ends_by_a_linger(start: Start) -> None:
    async def respond(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(20):
            await send({"type": "http.response.body", "body": SECRET * 1000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    served = await start(respond, close_timeout=0.5)
    async with Relay(served.port) as relay:
        client = await served.connect(port=relay.port)
        # A body that nobody reads: the end must not be a reset that overtakes the answer.
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000))
        async with asyncio.timeout(DEADLINE):
            answer = await client.reader.read()
        assert answer.count(SECRET) >= 19_900
        assert answer.endswith(b"\r\n0\r\n\r\n")
        await served.idle()
        relay.check()


@over_tls
async def test_http_1_0_whose_body_ends_with_the_connection_is_whole_and_not_waited_for(start: Start) -> None:
    served = await start(echo)
    client = await served.connect()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        answer = await client.reader.read()  # to the end, which is said at once
    assert answer.endswith(b"}")


# Slow and large ----------------------------------------------------------------------------------------------------


class Slow:
    """A client over TLS that reads when it is told to, and whose kernel takes a few kilobytes for it. OpenSSL takes a
    whole record, 16 kilobytes, when it is asked for its first byte, and then nothing more until that is read.
    """

    def __init__(self, served: Served) -> None:
        assert served.trust is not None
        endpoint = socket.socket()
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        endpoint.settimeout(DEADLINE)
        endpoint.connect(("127.0.0.1", served.port))
        self.socket = served.trust.wrap_socket(endpoint, server_hostname="localhost")
        self.socket.sendall(HANDSHAKE)
        self.taken = 0

    def read(self, kilobytes: int) -> None:
        for _ in range(kilobytes):
            data = self.socket.recv(1024)
            assert data, f"dropped after {self.taken} bytes"
            self.taken += len(data)


@over_tls
async def test_a_client_that_reads_a_kilobyte_now_and_then_is_kept(start: Start) -> None:
    """One that takes a kilobyte a second, for minutes, where it must take a byte in half a minute. The server is told
    what time it is: how fast this machine is makes no difference.
    """
    messages = 40

    async def talk(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(messages):
            await send({"type": "websocket.send", "bytes": bytes(16_000)})
        await receive()

    served = await start(talk, write_stall_timeout=30.0, ping_interval=10_000.0)
    client = await asyncio.to_thread(Slow, served)
    with client.socket:
        await until(lambda: served.websockets)
        (connection,) = served.websockets
        outbox, timeout = connection.outbox, served.context.limits.write_stall_timeout
        judged = 0
        for _ in range(12):
            await until(lambda: outbox.pending.stalled_at is not None)
            pending, stalled_at = outbox.pending, outbox.pending.stalled_at
            await asyncio.to_thread(client.read, 30)
            # If all was taken and the socket is full again, the time has begun anew.
            if outbox.pending is pending:
                connection.handle_deadline(stalled_at + timeout)
                assert outbox.pending.stalled_at == stalled_at + timeout
                judged += 1
        assert judged >= 3
        await asyncio.to_thread(client.read, messages * 16_000 // 1024 - client.taken // 1024)
    await served.idle()
    assert served.context.counters.slow_consumers == 0


@over_tls
async def test_large_bodies_pass_both_ways_in_flat_memory(start: Start) -> None:
    size = 12 * 1024 * 1024
    piece = bytes(65536)

    async def double(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (event := await receive()).get("more_body"):
            await send({"type": "http.response.body", "body": event["body"], "more_body": True})
        await send({"type": "http.response.body", "body": event.get("body", b"")})

    served = await start(double)
    client = await served.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size)

    async def upload() -> None:
        for _ in range(size // len(piece)):
            await client.send(piece)

    tracemalloc.start()
    try:
        uploading = asyncio.create_task(upload())
        total = 0
        async with asyncio.timeout(3 * DEADLINE):
            while data := await client.reader.read(65536):
                total += len(data)
            await uploading
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total > size
    assert peak < 4 * 1024 * 1024


# Renewal -----------------------------------------------------------------------------------------------------------


@over_tls
async def test_a_certificate_is_renewed_and_a_broken_one_ignored_while_clients_come(
    start: Start, tmp_path: Path
) -> None:
    served = await start(echo)
    files = served.server.config.tls
    assert isinstance(files, TlsFiles)
    path = tmp_path / "server.pem"
    shown: list[bytes] = []
    kept = await served.connect()
    await kept.open()

    async def come() -> None:
        client = await served.connect()
        await client.send(GET)
        assert (await client.response()).status == 200
        shown.append(client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        await client.close()

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(come())
            if number == 10:
                certificates.certificate(tmp_path)
                files.reload_if_changed()
            if number == 20:
                path.write_text("broken")
                files.reload_if_changed()
            await next_pass()
    await come()
    assert len(shown) == 31
    assert len(set(shown)) == 2
    assert [line for line in served.log if "TLS keeps the certificate it has" in line]
    await kept.send(frame(TEXT, b"still here "))
    assert (await kept.frame())[1] == b"still here wss"


# Other implementations ----------------------------------------------------------------------------------------------

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")


class SClient:
    """`openssl s_client`, typed at."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""

    @classmethod
    async def connect(cls, port: int, *options: str) -> SClient:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options,
            stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return cls(process)

    async def read_until(self, words: str) -> str:
        """The text up to these words; they must come."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            while words not in self.text:
                data = await self.process.stdout.read(4096)
                assert data, f"ended without {words!r}:\n{self.text}"
                self.text += data.decode("latin-1")
        before, _, self.text = self.text.partition(words)
        return before

    async def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        await self.process.stdin.drain()

    async def end(self) -> str:
        with contextlib.suppress(OSError, RuntimeError):  # it may have ended by itself
            await self.type("Q\n")
        output, _ = await asyncio.wait_for(self.process.communicate(), DEADLINE)
        return self.text + output.decode("latin-1")


@pytest.mark.slow
@openssl
@over_tls
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-tls1_2"], "New, TLSv1.2, Cipher is ECDHE-"),
        (["-tls1_3"], "New, TLSv1.3, Cipher is TLS_"),
        (["-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        (["-alpn", "http/1.1,h2"], "ALPN protocol: h2"),
        (["-alpn", "spdy/1"], "No ALPN negotiated"),
        (["-tls1_2", "-cipher", "AES256-GCM-SHA384:@SECLEVEL=0"], "handshake failure"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"], "handshake failure"),
        (["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"], "protocol version"),
    ],
    ids=["1.2", "1.3", "http/1.1", "h2", "none", "no forward secrecy", "no authenticated cipher", "1.1"],
)
async def test_versions_ciphers_and_protocols(start: Start, options: list[str], words: str) -> None:
    served = await start(echo)
    client = await SClient.connect(served.port, *options)
    await client.read_until(words)
    await client.end()


@openssl
@over_tls
@pytest.mark.parametrize("asked", ["k", "K"], ids=["of the client's keys", "of both"])
async def test_keys_may_be_updated_between_two_requests(start: Start, asked: str) -> None:
    served = await start(echo)
    client = await SClient.connect(served.port, "-tls1_3", "-crlf")
    for _ in range(3):
        await client.type("GET / HTTP/1.1\nHost: a\n\n")
        await client.read_until('"scheme": "https"')
        await client.read_until("}}")
        await client.type(f"{asked}\n")
        await client.read_until("KEYUPDATE")
    await client.end()
    assert served.log == []


@openssl
@over_tls
async def test_nobody_renegotiates(start: Start) -> None:
    served = await start(echo)
    client = await SClient.connect(served.port, "-tls1_2", "-crlf")
    await client.type("GET / HTTP/1.1\nHost: a\n\n")
    await client.read_until('"scheme": "https"')
    await client.read_until("}}")
    await client.type("R\n")
    await client.read_until("RENEGOTIATING")
    assert "no renegotiation" in await client.end()


def test_limits_of_handshakes_are_settings() -> None:
    limits = Limits.from_settings({"TLS_HANDSHAKES_PER_PASS": 2, "CERTIFICATE_CHECK_INTERVAL": float("inf")})
    assert limits.tls_handshakes_per_pass == 2
