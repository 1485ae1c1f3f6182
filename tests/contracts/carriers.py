"""Ways to reach an application, behind one small client: a communicator, the project's server, uvicorn.

Where the ASGI specification leaves servers a choice, a carrier's `Traits` say what it chose, so that a test states the
difference instead of hiding it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import websockets
from websockets.asyncio.client import ClientConnection

from channels.testing import HttpCommunicator, WebsocketCommunicator
from fairway.server.config import Config
from fairway.server.listener import Server
from fairway.server.websocket.connection import WebSocketConnection
from tests.contracts.journal import DEADLINE, Journal
from tests.fairway.server.tls import certificates
from tests.integration.gateway import Gateway
from tests.integration.http2 import Http2Client
from tests.integration.raw import Client

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Traits:
    """What differs between carriers."""

    rejection: int
    """What a client learns of a rejection: the HTTP status, or the close code where there is no HTTP."""

    code_after_rejection: int
    """The code that `disconnect()` gets after the consumer rejected the handshake."""

    code_of_loss: int
    """The code that `disconnect()` gets when the client vanished without a Close."""

    code_of_failure: int
    """The code that the client gets when the application failed."""

    code_of_stop: int
    """The code that client and consumer get when the server stops."""

    answer_after_start: int
    """The status that a client sees when the application fails between the start of its response and the body; 0 where
    the response is broken off instead."""

    answers_half_closed: bool
    """Whether a client that has ended its side of the stream still gets its answer, or counts as gone."""

    tracebacks: int
    """How often a failure of the application is in the log: a communicator raises it in the test instead."""

    late_sends_refused: bool
    """Whether `send` fails when the client has gone: behind a communicator there is nobody to notice."""


@dataclass
class Rejected(Exception):
    """The handshake was answered with something else than an acceptance."""

    answer: int


@dataclass
class Ended:
    """How a connection ended, as the client saw it."""

    code: int | None
    reason: str = ""


@dataclass
class Response:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Carrier:
    """Serves one application at a time; `calls` and `errors` are what its calls came to."""

    traits: Traits

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.scopes: list[dict[str, Any]] = []
        self._ended = Journal()
        self._application: Any = None
        self._clients: list[Any] = []

    async def serve(self, application: Any) -> None:
        """Serve the application from now on."""
        self._application = application

    async def _observed(self, scope: Any, receive: Any, send: Any) -> Any:
        # Notes how each call ends, and hands `receive` and `send` on as they are.
        if scope["type"] == "lifespan":
            return None
        self.scopes.append(scope)
        try:
            return await self._application(scope, receive, send)
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self._ended.note("call")

    async def finished(self, count: int = 1) -> None:
        """Return when so many calls of the application have ended."""
        await self._ended.length(count)

    async def connect(self, path: str = "/", headers: Headers = (), subprotocols: Sequence[str] = ()) -> Any:
        """A client whose connection was accepted; `Rejected` otherwise."""
        raise NotImplementedError

    async def request(self, method: str = "GET", path: str = "/", body: bytes = b"", headers: Headers = ()) -> Response:
        """Make one HTTP request."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Stop serving, as on SIGTERM."""

    async def close(self) -> None:
        """Let go of everything."""
        for client in self._clients:
            await client.dispose()
        await self.stop()


# The communicator ---------------------------------------------------------------------------------------------------


class CommunicatorClient:
    """What a server and a client do together, played by a communicator."""

    def __init__(self, communicator: WebsocketCommunicator) -> None:
        self._communicator = communicator
        self.headers: list[tuple[bytes, bytes]] = []
        self.subprotocol: str | None = None

    async def send_text(self, text: str) -> None:
        await self._communicator.send_input({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        await self._communicator.send_input({"type": "websocket.receive", "bytes": data})

    async def receive(self) -> str | bytes:
        return await self._communicator.receive_from(DEADLINE)

    async def ended(self) -> Ended:
        """Wait for the application's close, and confirm it; or for its failure."""
        try:
            message = await self._communicator.receive_output(DEADLINE)
        except Exception as error:
            if isinstance(error, TimeoutError):
                raise
            return Ended(1011)  # what a server would say
        assert message["type"] == "websocket.close", message
        code = message.get("code", 1000)
        await self.say_disconnect(code)
        return Ended(code, message.get("reason", ""))

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        await self.say_disconnect(1005 if code is None else code, reason)

    async def vanish(self) -> None:
        await self.say_disconnect(1006)

    @property
    def is_over(self) -> bool:
        """Whether the application has ended."""
        return self._communicator.future.done()

    async def say_disconnect(self, code: int, reason: str = "") -> None:
        await self._communicator.send_input({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def dispose(self) -> None:
        if not self.is_over:
            await self.say_disconnect(1006)
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await self._communicator.wait(DEADLINE)


class CommunicatorCarrier(Carrier):
    traits = Traits(
        rejection=1000,
        code_after_rejection=1006,
        code_of_loss=1006,
        code_of_failure=1011,
        code_of_stop=1001,
        answer_after_start=500,
        answers_half_closed=True,
        tracebacks=0,
        late_sends_refused=False,
    )

    async def connect(
        self, path: str = "/", headers: Headers = (), subprotocols: Sequence[str] = ()
    ) -> CommunicatorClient:
        communicator = WebsocketCommunicator(self._observed, path, list(headers), list(subprotocols))
        client = CommunicatorClient(communicator)
        self._clients.append(client)
        try:
            accepted, answer = await communicator.connect(DEADLINE)
        except Exception as error:
            raise Rejected(500) from error
        if not accepted:
            await client.say_disconnect(1006)
            raise Rejected(answer)
        client.subprotocol = answer
        client.headers = [(bytes(name), bytes(value)) for name, value in communicator.response_headers or ()]
        return client

    async def request(self, method: str = "GET", path: str = "/", body: bytes = b"", headers: Headers = ()) -> Response:
        communicator = HttpCommunicator(self._observed, method, path, body, list(headers))
        try:
            response = await communicator.get_response(DEADLINE)
        except Exception as error:
            if isinstance(error, TimeoutError):
                raise
            return Response(500, [], b"")
        with contextlib.suppress(Exception):
            await communicator.wait(DEADLINE)
        return Response(response["status"], [(bytes(k), bytes(v)) for k, v in response["headers"]], response["body"])

    async def open_request(self, path: str = "/", headers: Headers = ()) -> CommunicatorStream:
        """A request whose response is read piece by piece."""
        stream = CommunicatorStream(HttpCommunicator(self._observed, "GET", path, headers=list(headers)))
        await stream.begin()
        return stream

    async def stop(self) -> None:
        for client in self._clients:
            if not client.is_over:
                await client.say_disconnect(self.traits.code_of_stop)


class CommunicatorStream:
    def __init__(self, communicator: HttpCommunicator) -> None:
        self._communicator = communicator
        self._started = False
        self.headers: list[tuple[bytes, bytes]] = []

    async def begin(self) -> None:
        await self._communicator.send_input({"type": "http.request", "body": b"", "more_body": False})

    async def read(self) -> bytes:
        """The next piece of the body."""
        if not self._started:
            self._started = True
            start = await self._communicator.receive_output(DEADLINE)
            assert start["type"] == "http.response.start"
            self.headers = list(start["headers"])
        return (await self._communicator.receive_output(DEADLINE))["body"]

    async def end(self) -> None:
        """Say that nothing more will come from the client: there is no message for it."""

    async def vanish(self) -> None:
        await self._communicator.send_input({"type": "http.disconnect"})


# Real sockets -------------------------------------------------------------------------------------------------------


class SocketClient:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        assert connection.response is not None
        self.subprotocol: str | None = connection.subprotocol
        self.headers = [
            (name.lower().encode("latin1"), value.encode("latin1"))
            for name, value in connection.response.headers.raw_items()
        ]

    async def send_text(self, text: str) -> None:
        await self._connection.send(text)

    async def send_bytes(self, data: bytes) -> None:
        await self._connection.send(data)

    async def receive(self) -> str | bytes:
        async with asyncio.timeout(DEADLINE):
            return await self._connection.recv()

    async def ended(self) -> Ended:
        try:
            message = await self.receive()
        except websockets.ConnectionClosed:
            return Ended(self._connection.close_code, self._connection.close_reason or "")
        raise AssertionError(f"the connection did not end: {message!r} came")

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        if code is None:
            # An empty Close frame, which the library's own interface does not send.
            self._connection.transport.write(b"\x88\x80\x00\x00\x00\x00")
            await asyncio.wait_for(self._connection.wait_closed(), DEADLINE)
        else:
            await self._connection.close(code, reason)

    async def vanish(self) -> None:
        self._connection.transport.abort()

    async def dispose(self) -> None:
        self._connection.transport.abort()
        await self._connection.wait_closed()


class SocketCarrier(Carrier):
    trust: ssl.SSLContext | None = None
    """What a client needs for TLS."""

    def __init__(self) -> None:
        super().__init__()
        self._sockets: list[socket.socket] = []

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where the server listens."""
        host, port = self._sockets[0].getsockname()
        return host, port

    async def serve(self, application: Any) -> None:
        await super().serve(application)
        if not self._sockets:
            self._sockets = Config(port=0).bind()
            await self._start(self._sockets)

    async def _start(self, sockets: list[socket.socket]) -> None:
        raise NotImplementedError

    @property
    def address(self) -> str:
        host, port = self.endpoint
        return f"{host}:{port}"

    async def connect(self, path: str = "/", headers: Headers = (), subprotocols: Sequence[str] = ()) -> SocketClient:
        try:
            connection = await websockets.connect(
                f"{'ws' if self.trust is None else 'wss'}://{self.address}{path}",
                ssl=self.trust,
                additional_headers=[(name.decode("latin1"), value.decode("latin1")) for name, value in headers],
                subprotocols=list(subprotocols) or None,  # type: ignore[arg-type]
                proxy=None,
                ping_interval=None,
                open_timeout=DEADLINE,
            )
        except websockets.InvalidStatus as refusal:
            raise Rejected(refusal.response.status_code) from None
        client = SocketClient(connection)
        self._clients.append(client)
        return client

    async def request(self, method: str = "GET", path: str = "/", body: bytes = b"", headers: Headers = ()) -> Response:
        scheme = "http" if self.trust is None else "https"
        # Without `verify=False` it reads all the certificates of the world, for nothing.
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE, verify=self.trust or False) as client:
            try:
                response = await client.request(
                    method, f"{scheme}://{self.address}{path}", content=body, headers=list(headers) or None
                )
            except httpx.RemoteProtocolError:
                return Response(0, [], b"")
            return Response(response.status_code, response.headers.raw, response.content)

    async def open_request(self, path: str = "/", headers: Headers = ()) -> SocketStream:
        """A request whose response is read piece by piece."""
        host, port = self.endpoint
        stream = SocketStream(*await asyncio.open_connection(host, port, ssl=self.trust))
        self._clients.append(stream)
        stream.begin(path, headers)
        return stream

    async def close(self) -> None:
        await super().close()
        for listening in self._sockets:
            listening.close()


class SocketStream:
    """A response in chunks, read by hand so that each piece is seen as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._started = False
        self.headers: list[tuple[bytes, bytes]] = []

    def begin(self, path: str, headers: Headers) -> None:
        fields = b"".join(b"%b: %b\r\n" % field for field in headers)
        self._writer.write(b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (path.encode(), fields))

    async def read(self) -> bytes:
        """The next piece of the body."""
        async with asyncio.timeout(DEADLINE):
            if not self._started:
                self._started = True
                head = await self._reader.readuntil(b"\r\n\r\n")
                assert b"transfer-encoding: chunked" in head.lower(), head
                fields = (line.partition(b": ") for line in head.split(b"\r\n")[1:] if line)
                self.headers = [(name.lower(), value) for name, _, value in fields]
            size = int(await self._reader.readline(), 16)
            chunk = await self._reader.readexactly(size)
            await self._reader.readline()
            return chunk

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()

    async def end(self) -> None:
        """Say that nothing more will come from the client."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        else:
            # The library's TLS cannot say it; the end of the stream below is one as well.
            self._writer.get_extra_info("socket").shutdown(socket.SHUT_WR)

    async def vanish(self) -> None:
        # With a reset: an orderly end of the stream may mean that the client only has nothing more to say.
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def dispose(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class FairwayCarrier(SocketCarrier):
    traits = Traits(
        rejection=403,
        code_after_rejection=1006,
        code_of_loss=1006,
        code_of_failure=1011,
        code_of_stop=1001,
        answer_after_start=500,
        answers_half_closed=True,
        tracebacks=1,
        late_sends_refused=True,
    )
    _server: Server | None = None

    async def _start(self, sockets: list[socket.socket]) -> None:
        self._server = Server(self._observed, self._config())
        await self._server.start(sockets)

    def _config(self) -> Config:
        return Config(port=0, lifespan="off")

    @property
    def connections(self) -> list[WebSocketConnection]:
        """The server's open WebSockets."""
        assert self._server is not None
        return [item for item in self._server.context.connections if isinstance(item, WebSocketConnection)]

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(DEADLINE)


class HttpsCarrier(FairwayCarrier):
    """The same server over TLS."""

    def _config(self) -> Config:
        self.trust = certificates.client_context()
        with tempfile.TemporaryDirectory() as folder:
            return Config(port=0, lifespan="off", tls=certificates.files(Path(folder)))


class Http2Carrier(FairwayCarrier):
    """The project's server over HTTP/2: each request on a connection of its own, WebSockets on one for all of them."""

    _gateway: Gateway | None = None

    async def _start(self, sockets: list[socket.socket]) -> None:
        await super()._start(sockets)
        self._gateway = Gateway(sockets[0].getsockname()[1], shares=True)
        await self._gateway.start()

    @property
    def address(self) -> str:
        assert self._gateway is not None
        return f"127.0.0.1:{self._gateway.port}"

    async def stop(self) -> None:
        await super().stop()
        if self._gateway is not None:
            await self._gateway.stop()

    async def request(self, method: str = "GET", path: str = "/", body: bytes = b"", headers: Headers = ()) -> Response:
        client = await self._client()
        answer = await client.request(method.encode(), path.encode(), headers, body or None)
        if answer.reset is not None:
            return Response(0, [], b"")
        return Response(answer.status, answer.headers, answer.body)

    async def open_request(self, path: str = "/", headers: Headers = ()) -> Http2Stream:  # type: ignore[override]
        client = await self._client()
        return Http2Stream(client, await client.ask(b"GET", path.encode(), headers))

    async def _client(self) -> Http2Client:
        host, port = self._sockets[0].getsockname()
        client = Http2Client(Client(*await asyncio.open_connection(host, port)))
        self._clients.append(client)
        await client.begin()
        return client


class Http2Stream:
    """A response frame by frame."""

    def __init__(self, client: Http2Client, number: int) -> None:
        self._client = client
        self._answer = client.answers[number]
        self._read = 0

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return self._answer.headers

    async def read(self) -> bytes:
        """The next piece of the body; nothing at its end."""
        pieces = self._answer.pieces
        await self._client.until(lambda: len(pieces) > self._read or self._answer.over)
        self._read += 1
        return pieces[self._read - 1] if len(pieces) >= self._read else b""

    def stop_reading(self) -> None:
        """Nothing is read unless something is waited for."""

    async def end(self) -> None:
        """Say that nothing more will come from the client."""
        self._client.end_side()

    async def vanish(self) -> None:
        self._client.vanish()


class _Uvicorn(uvicorn.Server):
    """As uvicorn is, but its loop waits for an event instead of ten ticks a second, and signals are left alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.stopping.wait()


class UvicornCarrier(SocketCarrier):
    traits = Traits(
        rejection=403,
        code_after_rejection=1006,
        code_of_loss=1005,
        code_of_failure=1006,
        code_of_stop=1012,
        answer_after_start=0,
        answers_half_closed=False,
        tracebacks=1,
        late_sends_refused=True,
    )
    _server: _Uvicorn | None = None

    async def _start(self, sockets: list[socket.socket]) -> None:
        config = uvicorn.Config(
            self._observed, interface="asgi3", lifespan="off", log_config=None, timeout_graceful_shutdown=5
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve(sockets))
        await asyncio.wait_for(self._server.up.wait(), DEADLINE)

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stopping.set()
            await self._task


CARRIERS: dict[str, type[Carrier]] = {
    "communicator": CommunicatorCarrier,
    "fairway-asyncio": FairwayCarrier,
    "fairway-uvloop": FairwayCarrier,
    "fairway-https": HttpsCarrier,
    "fairway-http2": Http2Carrier,
    "uvicorn": UvicornCarrier,
}


@contextlib.asynccontextmanager
async def open_carrier(name: str) -> AsyncIterator[Carrier]:
    carrier = CARRIERS[name]()
    try:
        yield carrier
    finally:
        await carrier.close()
