"""What the suites are pointed at: a plain ASGI application that answers, echoes and takes what it is sent."""

from __future__ import annotations

import json
from typing import Any

HELLO = b"Hello, world!"


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Echo WebSockets. Answer `/count` with the size of the body, `/bytes/N` with N bytes, `/seen` with some of the
    scope; greet all else.
    """
    match scope["type"]:
        case "lifespan":
            await lifespan(receive, send)
        case "websocket":
            await echo(receive, send)
        case "http":
            await answer(scope, receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def echo(receive: Any, send: Any) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    path = scope["path"]
    if path.startswith("/bytes/"):
        await stream(int(path.removeprefix("/bytes/")), send)
        return
    size = await size_of_body(receive)
    match path:
        case "/count":
            await respond(str(size).encode(), send)
        case "/seen":
            seen = {name: scope[name] for name in ("scheme", "client", "http_version")}
            await respond(json.dumps(seen).encode(), send)
        case _:
            await respond(HELLO, send)


async def size_of_body(receive: Any) -> int:
    """How much was uploaded; nothing of it is kept."""
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return size
        size += len(event.get("body", b""))
        if not event.get("more_body"):
            return size


async def respond(body: bytes, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(size: int, send: Any, piece: bytes = bytes(65536)) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(size // len(piece)):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": piece[: size % len(piece)]})
