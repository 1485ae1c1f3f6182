"""What one stream costs the others: those of its connection are answered as fast beside one that stalls, trickles or is
reset, and what waits for it is bounded. Beside a slow client over TLS, which is kept, so are those of others.

Fast is compared within a run: rounds with the trouble and without it take turns. Client and server share a thread, so
that their processor time is the latency but for waiting, and the medians of its p99 are compared. The clock, which runs
on while others have the processor, shows in the fastest rounds whether anything was waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import statistics
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import h2.settings
import pytest

from fairway.asgi.errors import ConnectionClosed
from fairway.server.http2.connection import Http2Connection
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start
from tests.integration.http2 import Http2Client, connect
from tests.integration.raw import DEADLINE, Served, next_pass

pytestmark = pytest.mark.slow

WINDOW = 65535
ROUNDS = 5
SIBLINGS = 79
TROUBLED = 20
"""Streams that are reset. With the siblings, and one that runs into a window, they are as many as a client may open."""

MOST = 2.0
"""How much longer a p99 may be beside the trouble."""

MOST_WAITED = 0.2
"""Seconds. Less than any deadline, and more than others on the machine cost the fastest of the rounds."""

SLOW_SECONDS = 120.0 if os.environ.get("FAIRWAY_WHOLE_SUITES") else 4.0
"""How long the slow client over TLS is watched."""

STALL_TIMEOUT = SLOW_SECONDS / 4
"""In which it must take something: half a minute for one that takes a kilobyte a second for two minutes."""

Step = Callable[[], Awaitable[None]]


class Application:
    """`/big` sends without end and waits for its client, `/untaken` takes nothing before `go_on`; others say hello."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.closed = 0

    async def __call__(self, connection: Connection, tell: Any) -> None:
        path = connection.scope["path"]
        if path == "/big":
            try:
                await connection.send({"type": "http.response.start", "status": 200})
                while True:
                    await connection.send({"type": "http.response.body", "body": bytes(16384), "more_body": True})
            except ConnectionClosed:
                self.closed += 1
                raise
        if path == "/untaken":
            await self.go_on.wait()
        await connection.respond(200, b"hello")


@pytest.fixture
async def app() -> Application:
    return Application()


@pytest.fixture
async def served(start: Start, app: Application, caplog: pytest.LogCaptureFixture) -> Served:
    caplog.set_level(logging.WARNING, logger="fairway.access")
    return await start(Recorder(app), disconnect_timeout=DEADLINE)


async def nothing() -> None:
    """The step of a round without trouble."""


Latency = tuple[float, float]
"""Seconds of processor time, and by the clock."""


async def p99(client: Http2Client, step: Step) -> Latency:
    """Of siblings that are asked together, each after a step, how long they take to be answered."""
    began = {}
    for _ in range(SIBLINGS):
        await step()
        now = time.process_time(), time.perf_counter()
        began[await client.ask()] = now
    took = []
    for number, since in began.items():
        assert (await client.answer(number)).body == b"hello"
        took.append((time.process_time() - since[0], time.perf_counter() - since[1]))
    processor, clock = zip(*took, strict=True)
    return statistics.quantiles(processor, n=100)[98], statistics.quantiles(clock, n=100)[98]


Trouble = Callable[[Http2Client, Application], contextlib.AbstractAsyncContextManager[Step]]


async def expect_no_slowdown(measure: Callable[[Step], Awaitable[Latency]], trouble: Callable[[], Any]) -> None:
    calm, troubled = [], []
    for _ in range(ROUNDS):
        calm.append(await measure(nothing))
        async with trouble() as step:
            troubled.append(await measure(step))
    (calm_processor, calm_clock), (processor, clock) = zip(*calm, strict=True), zip(*troubled, strict=True)
    assert statistics.median(processor) <= MOST * statistics.median(calm_processor)
    assert min(clock) <= MOST * min(calm_clock) + MOST_WAITED


@contextlib.asynccontextmanager
async def a_stalled_stream(client: Http2Client, app: Application) -> AsyncIterator[Step]:
    number = await client.ask(path=b"/big")
    client.untaken.add(number)
    await client.until(lambda: len(client.answers[number].body) == WINDOW)
    yield nothing
    assert len(client.answers[number].body) == WINDOW
    await client.reset(number)


async def fill(client: Http2Client) -> int:
    """Send as much of a body as may be sent to somebody who takes nothing of it."""
    number = await client.ask(b"POST", b"/untaken", ended=False)
    while room := min(client.h2.local_flow_control_window(number), 16384):
        client.h2.send_data(number, bytes(room))
    await client.flush()
    return number


@contextlib.asynccontextmanager
async def a_stalled_upload(client: Http2Client, app: Application) -> AsyncIterator[Step]:
    app.go_on.clear()
    number = await fill(client)
    yield nothing
    assert client.h2.local_flow_control_window(number) == 0
    app.go_on.set()
    assert (await client.answer(number)).body == b"hello"


@contextlib.asynccontextmanager
async def a_window_of_one_byte(client: Http2Client, app: Application) -> AsyncIterator[Step]:
    """A byte at a time, for each sibling that is asked."""
    async with a_stalled_stream(client, app):
        number = max(client.untaken)
        given = 0

        async def step() -> None:
            nonlocal given
            given += 1
            client.h2.increment_flow_control_window(1, number)

        yield step
        await client.until(lambda: len(client.answers[number].body) == WINDOW + given)
        client.answers[number].body = bytes(WINDOW)


@contextlib.asynccontextmanager
async def resets_while_the_application_sends(client: Http2Client, app: Application) -> AsyncIterator[Step]:
    """One for every few siblings."""
    numbers = [await client.ask(path=b"/big") for _ in range(TROUBLED)]
    client.untaken.update(numbers)
    await client.until(lambda: all(len(client.answers[number].body) == WINDOW for number in numbers))
    closed, steps = app.closed, 0

    async def step() -> None:
        nonlocal steps
        if steps % (SIBLINGS // TROUBLED) == 0 and numbers:
            await client.reset(numbers.pop())
        steps += 1

    yield step
    async with asyncio.timeout(DEADLINE):
        while app.closed < closed + TROUBLED:
            await next_pass()


@pytest.mark.parametrize(
    "trouble", [a_stalled_stream, a_stalled_upload, a_window_of_one_byte, resets_while_the_application_sends]
)
async def test_siblings_are_as_fast_beside_it(served: Served, app: Application, trouble: Trouble) -> None:
    client = await connect(served)
    await p99(client, nothing)  # what is done once is done
    await expect_no_slowdown(lambda step: p99(client, step), lambda: trouble(client, app))
    assert served.log == []


# Memory -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def grows_by_at_most(size: int) -> Any:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now - before <= size, f"{now - before} bytes more"


OF_CLIENT = 2 << 20
"""What the client, in the same process, holds for its streams."""


async def test_what_stalled_streams_hold_is_bounded(served: Served) -> None:
    client = await connect(served)
    limits = served.context.limits
    numbers = []
    # A stream waits when what is allowed to each is reached, by at most one piece of the application's.
    with grows_by_at_most(limits.http2_outbox_bytes + 100 * 16384 + OF_CLIENT):
        for _ in range(100):
            numbers.append(await client.ask(path=b"/big"))
            client.untaken.add(numbers[-1])
        await client.until(lambda: all(len(client.answers[number].body) == WINDOW for number in numbers))
        client.answers.clear()
    client.vanish()
    await served.idle()


PIECE = 65536


async def test_what_streams_hold_whose_windows_stay_closed_is_bounded_for_all_of_them(start: Start) -> None:
    """Their applications wait before they have made anything. One whose window is open goes on, and those that stall
    are reset in time, so that it is the others' turn.
    """
    made = []

    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/small":
            await connection.respond(200, b"hello")
            return
        await connection.send({"type": "http.response.start", "status": 200})
        while True:
            made.append(connection.scope["path"])
            await connection.send({"type": "http.response.body", "body": os.urandom(PIECE), "more_body": True})

    served = await start(Recorder(handler), write_stall_timeout=1.0)
    client = await connect(served, settings={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    most = served.context.limits.http2_outbox_bytes
    with grows_by_at_most(most + PIECE + OF_CLIENT):
        numbers = [await client.ask(path=b"/%d" % number) for number in range(98)]
        small = await client.ask(path=b"/small")
        client.h2.increment_flow_control_window(PIECE, small)
        await client.flush()
        assert (await client.answer(small)).body == b"hello"
    [connection] = [one for one in served.context.connections if isinstance(one, Http2Connection)]
    assert most <= connection.writer.held < most + PIECE
    assert len(made) == most // PIECE

    last = numbers[-1]
    client.untaken.add(last)
    client.h2.increment_flow_control_window(PIECE + 5, last)
    await client.flush()
    await client.until(lambda: len(client.answers[last].body) == PIECE + 5)
    await client.until(lambda: all(client.answers[number].reset is not None for number in numbers))
    assert connection.writer.held == 0
    client.vanish()
    await served.idle()


async def test_what_stalled_uploads_hold_is_bounded(served: Served, app: Application) -> None:
    client = await connect(served)
    limits = served.context.limits
    most = limits.http2_held_bytes + limits.http2_connection_window
    await client.request()
    (connection,) = served.context.connections
    assert isinstance(connection, Http2Connection)
    sent = 0
    with grows_by_at_most(most + OF_CLIENT):
        for _ in range(99):
            number = await client.ask(b"POST", b"/untaken", ended=False)
            while room := min(client.h2.local_flow_control_window(number), 16384):
                client.h2.send_data(number, bytes(room))
                sent += room
            await client.flush()
            while connection.protocol.unread < sent:
                await next_pass()
            await client.request()  # what it was given back is known to it now
    assert limits.http2_held_bytes < sent <= most
    client.vanish()
    app.go_on.set()
    await served.idle()


# A slow client over TLS -------------------------------------------------------------------------------------------


class Trickle:
    """A client over TLS that takes a kilobyte 30 times in `STALL_TIMEOUT`, in a thread. OpenSSL takes a whole record
    when it is asked for its first byte, and then nothing from the socket for 16 kilobytes. It goes by the clock: what
    others on the machine have kept it from, it takes afterwards.
    """

    def __init__(self, served: Served) -> None:
        self._over = threading.Event()
        self.taken = 0
        self.error: OSError | None = None
        endpoint = socket.socket()
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        endpoint.connect(("127.0.0.1", served.port))
        self._endpoint = endpoint
        self._trust = served.trust
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        assert self._trust is not None
        try:
            with self._trust.wrap_socket(self._endpoint, server_hostname="localhost") as client:
                client.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
                due = time.monotonic()
                while not self._over.wait(max(0.0, due - time.monotonic())):
                    data = client.recv(1024)
                    if not data:
                        break
                    self.taken += len(data)
                    due += STALL_TIMEOUT / 30
        except (OSError, ssl.SSLError) as error:
            self.error = error

    async def stop(self) -> None:
        self._over.set()
        await asyncio.to_thread(self._thread.join)


@pytest.mark.timeout(SLOW_SECONDS + 120)
@pytest.mark.parametrize("start", ["tls"], indirect=True)
async def test_a_slow_client_over_tls_is_kept_and_slows_nobody(
    start: Start, app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="fairway.access")
    served = await start(Recorder(app), write_stall_timeout=STALL_TIMEOUT)
    client = await connect(served)
    await p99(client, nothing)
    loop = asyncio.get_running_loop()

    @contextlib.asynccontextmanager
    async def a_slow_client() -> AsyncIterator[Step]:
        trickle = Trickle(served)
        async with asyncio.timeout(DEADLINE):
            while not any(outbox.blocked for outbox in outboxes(served)):
                await next_pass()
        yield nothing
        await trickle.stop()
        assert trickle.error is None

    await expect_no_slowdown(lambda step: p99(client, step), a_slow_client)

    trickle = Trickle(served)
    until = loop.time() + SLOW_SECONDS
    while loop.time() < until:
        await client.request()
        await asyncio.sleep(STALL_TIMEOUT / 30)
    await trickle.stop()
    assert trickle.error is None
    assert trickle.taken > 60 * 1024
    assert served.context.counters.slow_consumers == 0


def outboxes(served: Served) -> list[Any]:
    return [one.outbox for one in served.context.connections if hasattr(one, "outbox")]
