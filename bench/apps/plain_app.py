"""An ASGI application without a framework: JSON echo over WebSocket, hello-world over HTTP, and `GET /collect/`."""

import gc
import json
import time


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http":
        await hello(scope, receive, send)
    else:
        await lifespan(receive, send)


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        message = json.loads(event["text"])["message"]
        await send({"type": "websocket.send", "text": json.dumps({"message": message})})


async def hello(scope, receive, send):
    body = collected() if scope["path"] == "/collect/" else b"Hello, world"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def collected():
    begin = time.perf_counter()
    gc.collect()
    return json.dumps({"pause_ms": (time.perf_counter() - begin) * 1000}).encode()


async def lifespan(receive, send):
    for answer in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
        await receive()
        await send({"type": answer})
