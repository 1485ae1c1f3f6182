"""The server as a whole: how it stops, what it does beyond its bounds, lifespan, Unix sockets."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fairway.asgi.lifespan import LifespanFailed
from fairway.server.config import Config
from fairway.server.limits import Limits
from fairway.server.listener import Server
from tests.integration.applications import Connection, Recorder, answer
from tests.integration.conftest import Start
from tests.integration.raw import DEADLINE, HANDSHAKE, Client, next_pass, serve

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Held:
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, connection: Connection, tell: Any) -> None:
        tell("running")
        try:
            await self.go_on.wait()
        finally:
            tell("over")
        await connection.respond(200, b"late")


# Stopping --------------------------------------------------------------------------------------------------------


async def test_stopping_ends_event_streams_at_once(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        assert (await connection.receive())["type"] == "http.request"
        headers = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
        await connection.send({"type": "http.response.start", "status": 200, "headers": headers})
        await connection.send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        tell("streaming")
        tell((await connection.receive())["type"])
        await connection.send({"type": "http.response.body", "body": b"too late", "more_body": True})
        tell("done")

    recorder = Recorder(handler)
    served = await start(recorder)
    client = await served.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await recorder.seen() == "streaming"
    stopping = asyncio.ensure_future(served.server.stop(60))
    assert [await recorder.seen(), await recorder.seen()] == ["http.disconnect", "done"]
    assert (await client.response()).headers["transfer-encoding"] == "chunked"
    async with asyncio.timeout(DEADLINE):
        assert await client.reader.read() == b"9\r\ndata: x\n\n\r\n0\r\n\r\n"
        await client.close()
        await stopping


async def test_stopping_lets_a_request_finish_and_closes_idle_connections(start: Start) -> None:
    held = Held()

    async def handler(connection: Connection, tell: Any) -> None:
        await (held if connection.scope["path"] == "/held" else answer)(connection, tell)

    app = Recorder(handler)
    served = await start(app)
    idle, silent, busy = [await served.connect() for _ in range(3)]
    await idle.send(GET)
    assert (await idle.response()).status == 200
    await busy.send(GET.replace(b" / ", b" /held "))
    await app.seen()

    stopping = asyncio.ensure_future(served.server.stop(DEADLINE))
    assert await idle.at_end()
    assert await silent.at_end()
    assert not stopping.done()
    held.go_on.set()
    response = await busy.response()
    assert (response.body, response.headers["connection"]) == (b"late", "close")
    assert await busy.at_end()
    await busy.close()
    await stopping
    assert served.log == []


async def test_what_does_not_end_in_time_is_cut(start: Start) -> None:
    app = Recorder(Held())
    served = await start(app)
    client = await served.connect()
    await client.send(GET)
    assert await app.seen() == "running"
    await served.server.stop(0.05)
    assert await app.seen() == "over"
    assert await client.at_end()
    assert served.log == ["1 connections and 1 tasks did not end within 0.05 s: cut"]
    assert not served.context.connections
    assert not served.context.tasks


async def test_a_task_that_refuses_to_end_does_not_hold_up_the_stop(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairway.server.listener._CUT_SECONDS", 0.05)
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        tell("running")
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                tell("refused")

    app = Recorder(handler)
    served = await start(app)
    client = await served.connect()
    await client.send(GET)
    await app.seen()
    try:
        async with asyncio.timeout(DEADLINE):
            await served.server.stop(0.05)
        assert await app.seen() == "refused"
        text = r"1 tasks do not end although they were cancelled: left behind: / for 127\.0\.0\.1:\d+ in "
        assert re.match(text + r"handler \(integration/test_server\.py:\d+\)", served.log[-1])
    finally:
        go_on.set()
        await asyncio.wait(list(served.context.tasks))


async def test_a_connection_that_comes_while_stopping_is_not_served(start: Start) -> None:
    served = await start(Recorder(answer))
    await served.server.stop(DEADLINE)
    client = await served.connect()  # the kernel still takes it: the socket belongs to the caller
    await client.send(GET)
    await next_pass()
    assert served.context.counters.connections == 0


# Bounds ----------------------------------------------------------------------------------------------------------


async def test_beyond_the_limit_a_connection_is_answered_503(start: Start) -> None:
    served = await start(Recorder(answer), max_connections=2)
    first, second = [await served.connect() for _ in range(2)]
    for client in (first, second):
        await client.send(GET)
        assert (await client.response()).status == 200
    for _ in range(3):
        third = await served.connect()
        await third.send(GET)
        response = await third.response()
        assert (response.status, response.headers["retry-after"]) == (503, "10")
        assert await third.at_end()
    assert len(served.log) == served.context.counters.refused == 3
    assert served.log[0] == "more than 2 connections: 503"

    # Those that are being refused do not count: as soon as one has gone, there is room for one.
    second.reset()
    while len(served.context.connections) - served.context.admission.refusing > 1:
        await next_pass()
    client = await served.connect()
    await client.send(GET)
    assert (await client.response()).status == 200
    await first.send(GET)
    assert (await first.response()).status == 200
    for client in served.clients:
        await client.close()
    await served.idle()
    assert served.context.admission.refusing == 0


SPENDTHRIFT = """
import asyncio, json, os, resource, sys
from fairway.server.process import run
from fairway.server import listener
from fairway.server.config import Config

listener._TELL_SECONDS = 0  # each pause is a line here

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    body = json.dumps({"cpu": sum(os.times()[:2])}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

def ready(addresses):
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
    print(addresses[0], flush=True)

run(app, Config(port=0, access_log=False), on_ready=ready, loop=sys.argv[1])
"""


@pytest.fixture
async def spendthrift(request: pytest.FixtureRequest) -> AsyncIterator[asyncio.subprocess.Process]:
    loop = "uvloop" if "uvloop" in type(asyncio.get_running_loop()).__module__ else "asyncio"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SPENDTHRIFT, loop, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    yield process
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    await process.communicate()


@pytest.mark.slow
async def test_out_of_descriptors_accepting_pauses_and_recovers(spendthrift: asyncio.subprocess.Process) -> None:
    assert spendthrift.stdout is not None
    assert spendthrift.stderr is not None
    async with asyncio.timeout(2 * DEADLINE):
        port = int((await spendthrift.stdout.readline()).decode().rsplit(":", 1)[1])
        clients = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(40)]
        line = (await spendthrift.stderr.readline()).decode()
        assert "accepting pauses for 0.5 s: Too many open files; allow more descriptors" in line
        await clients[0].send(GET)
        before = json.loads((await clients[0].response()).body)["cpu"]
        # Another pause later it has not been spinning, and those that it has still answer.
        assert "accepting pauses" in (await spendthrift.stderr.readline()).decode()
        await clients[0].send(GET)
        assert json.loads((await clients[0].response()).body)["cpu"] - before < 0.2
        for client in clients[:30]:
            await client.close()
        await clients[39].send(GET)
        assert (await clients[39].response()).status == 200
        for client in clients[30:]:
            await client.close()
        spendthrift.send_signal(signal.SIGTERM)
        _, errors = await spendthrift.communicate()
    assert spendthrift.returncode == 0
    assert b"Traceback" not in errors


# Lifespan, addresses ---------------------------------------------------------------------------------------------


async def test_each_request_gets_a_copy_of_the_lifespan_state(caplog: pytest.LogCaptureFixture) -> None:
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            events.append((await receive())["type"])
            scope["state"].update(count=1, shared=[])
            await send({"type": "lifespan.startup.complete"})
            events.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        state = scope["state"]
        state["count"] += 1
        state["shared"].append(1)
        body = b"%d %d" % (state["count"], len(state["shared"]))
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
        events.append("answered")

    served = await serve(app, caplog)
    assert events == ["lifespan.startup"]
    client = await served.connect()
    await client.send(GET + GET)
    assert (await client.response()).body == b"2 1"
    assert (await client.response()).body == b"2 2"
    await served.stop()
    assert events == ["lifespan.startup", "answered", "answered", "lifespan.shutdown"]


async def test_an_application_that_refuses_to_start_is_not_served() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    config = Config(port=0)
    (listening,) = config.bind()
    with pytest.raises(LifespanFailed, match="no database"):
        await Server(app, config).start([listening])
    listening.close()


async def test_a_unix_socket_is_served_and_its_peers_have_no_address(tmp_path: Path) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell((connection.scope["client"], connection.scope["server"]))
        await answer(connection, tell)

    app = Recorder(handler)
    path = str(tmp_path / "socket")
    config = Config(uds=path, limits=Limits())
    (listening,) = config.bind()
    server = Server(app, config)
    await server.start([listening])
    assert server.addresses == [f"unix:{path}"]
    for request, status in ((GET, 200), (HANDSHAKE, 101)):
        client = Client(*await asyncio.open_unix_connection(path))
        await client.send(request)
        assert (await client.response()).status == status
        assert await app.seen() == (None, None)
        await client.close()
    await server.stop(DEADLINE)
    listening.close()


async def test_root_path_is_put_before_the_path(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell([connection.scope[key] for key in ("root_path", "path", "raw_path")])
        await answer(connection, tell)

    app = Recorder(handler)
    config = Config(port=0, root_path="/app")
    (listening,) = config.bind()
    server = Server(app, config)
    await server.start([listening])
    client = Client(*await asyncio.open_connection(*listening.getsockname()))
    await client.send(GET.replace(b" / ", b" /x%20y "))
    assert await app.seen() == ["/app", "/app/x y", b"/app/x%20y"]
    await client.close()
    await server.stop(DEADLINE)
    listening.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
async def test_ipv6_is_served() -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell(connection.scope["client"])
        await answer(connection, tell)

    app = Recorder(handler)
    config = Config(host="::1", port=0)
    try:
        (listening,) = config.bind()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server = Server(app, config)
    await server.start([listening])
    client = Client(*await asyncio.open_connection(*listening.getsockname()[:2]))
    await client.send(GET)
    host, port = await app.seen()
    assert (host, type(port)) == ("::1", int)
    assert server.addresses == [f"http://[::1]:{listening.getsockname()[1]}"]
    await client.close()
    await server.stop(DEADLINE)
    listening.close()
