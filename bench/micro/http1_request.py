"""What one HTTP request costs without a kernel: bytes in, scope, task, a plain application, bytes out.

Run ``python bench/micro/http1_request.py``. `Http1Connection`s on fake transports are given a request each, as one pass
of a busy loop would bring them, and the loop runs until all are answered. So in the figure is everything but the
system calls: parser, scope, exchange, the application's task, response, outbox, batch, deadlines. The application
sends its answer in one piece, as bench/apps/plain_app.py does; `awaiting` receives first, as Django does; `in two
pieces` takes the general path through the exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from measuring import microseconds, report

from fairway.server.access import AccessLog
from fairway.server.config import Config
from fairway.server.context import ServerContext
from fairway.server.http1.connection import Http1Connection

CONNECTIONS = 64
PLAIN = b"GET /hello/ HTTP/1.1\r\nHost: localhost:8000\r\nAccept: */*\r\n\r\n"
BROWSER = (
    b"GET /chat/room/?x=1 HTTP/1.1\r\n"
    b"Host: example.org:8000\r\n"
    b"Connection: keep-alive\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    b"Cookie: csrftoken=abcdefghijklmnopqrstuvwxyz012345; sessionid=abcdefghijklmnopqrstuvwxyz012345\r\n"
    b"Cache-Control: max-age=0\r\n"
    b"\r\n"
)
POST = b"POST /hello/ HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 12\r\n\r\nHello, world"

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


async def hello(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = b"Hello, world"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def awaiting(scope: dict[str, Any], receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await hello(scope, receive, send)


async def in_two_pieces(scope: dict[str, Any], receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"12")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"Hello,", "more_body": True})
    await send({"type": "http.response.body", "body": b" world"})


class Sink(asyncio.Transport):
    """Takes everything at once; counts what it was given."""

    written = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 8000)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        Sink.written += data.count(b"HTTP/1.1 200 OK\r\n")


def requests(loop: asyncio.AbstractEventLoop, app: Application, data: bytes) -> Callable[[], None]:
    """A call that serves one request on each connection."""
    context = ServerContext(app, Config(), loop, AccessLog(False))
    connections = []
    for _ in range(CONNECTIONS):
        connection = Http1Connection(context)
        connection.connection_made(Sink())
        connections.append(connection)

    async def serve() -> None:
        expected = Sink.written + CONNECTIONS
        for connection in connections:
            connection.data_received(data)
        while Sink.written < expected or context.tasks:  # noqa: ASYNC110  # the passes are what is measured
            await asyncio.sleep(0)

    return lambda: loop.run_until_complete(serve())


def measure(name: str, loop: asyncio.AbstractEventLoop) -> None:
    print(f"one request, {name}")
    for title, app, data in (
        ("plain, GET with 2 fields", hello, PLAIN),
        ("plain, GET with a browser's 8 fields", hello, BROWSER),
        ("awaiting, GET with a browser's 8 fields", awaiting, BROWSER),
        ("awaiting, POST of 12 bytes", awaiting, POST),
        ("in two pieces, GET with 2 fields", in_two_pieces, PLAIN),
    ):
        report(title, microseconds(requests(loop, app, data), per=CONNECTIONS, rounds=50, seconds=0.01))


def main() -> None:
    makers: list[tuple[str, Callable[[], asyncio.AbstractEventLoop]]] = [("asyncio", asyncio.new_event_loop)]
    with contextlib.suppress(ImportError):
        import uvloop

        makers.append(("uvloop", uvloop.new_event_loop))
    for name, make in makers:
        loop = make()
        measure(name, loop)
        loop.close()


if __name__ == "__main__":
    main()
