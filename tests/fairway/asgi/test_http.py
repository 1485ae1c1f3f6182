"""One request without a connection: the order of events, and what the carrier is asked for."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import Awaitable
from typing import Any

import pytest
from tests.fairway.asgi.doubles import FakeTask, others_run_between

from fairway.asgi.errors import ConnectionClosed
from fairway.asgi.http import HttpExchange
from fairway.server.output.batch import ENDINGS_PER_PASS, Batch
from fairway.server.output.lanes import CHUNK_BYTES


class FakeOutbox:
    """Is as full as a test says; `wait` is until it is not."""

    high_water = 100

    def __init__(self) -> None:
        self.size = 0
        self.wait: Awaitable[None]

    def drained(self) -> Awaitable[None]:
        return self.wait


class FakeCarrier:
    """Keeps what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.outbox = FakeOutbox()

    def send_continue(self) -> None:
        self.calls.append(("continue",))

    def send_early_hints(self, headers: Any) -> bool:
        self.calls.append(("hints", headers))
        return False

    def send_whole(self, status: int, headers: Any, body: bytes) -> bool:
        return False

    def send_start(self, status: int, headers: Any, trailers: bool) -> None:
        self.calls.append(("start", status, headers, trailers))

    def send_body(self, data: bytes, more: bool) -> bool:
        self.calls.append(("body", data, more))
        return len(data) > CHUNK_BYTES

    def send_trailers(self, headers: Any) -> bool:
        self.calls.append(("trailers", headers))
        return False

    def body_taken(self) -> None:
        self.calls.append(("taken",))

    def response_complete(self) -> None:
        self.calls.append(("complete",))

    def application_ended(self, exchange: Any) -> None:
        self.calls.append(("application ended",))

    def refuse(self, status: int, reason: str) -> int:
        self.calls.append(("refuse", status, reason))
        return len(reason)

    def break_off(self) -> None:
        self.calls.append(("break off",))


class FakeCounts:
    def __init__(self) -> None:
        self.responses = [0] * 10


class FakeHost:
    """Runs nothing; remembers what it is told."""

    logs_access = True

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.running: list[Any] = []
        self.counters = FakeCounts()

    @property
    def access(self) -> FakeHost:
        return self

    def http_finished(self, scope: Any, status: int | None, size: int, seconds: float) -> None:
        self.told.append(("finished", status, size))

    def fault(self, kind: str, scope: Any, text: str) -> None:
        self.told.append((kind, text))

    def application_error(self, kind: str, scope: Any, error: BaseException) -> None:
        self.told.append(("error", kind))

    def run(self, scope: Any, receive: Any, send: Any, served: Any, ended: Any) -> Any:
        self.running.append(ended)
        return "a task"

    def forget(self, task: Any, began: float, weight: int) -> None:
        self.told.append(("forget", weight))


@pytest.fixture
def carrier() -> FakeCarrier:
    return FakeCarrier()


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def exchange_of(
    carrier: FakeCarrier, method: str = "GET", expects_continue: bool = False, host: FakeHost | None = None
) -> HttpExchange:
    return HttpExchange(carrier, host or FakeHost(), {"method": method, "headers": []}, 0.0, expects_continue)


async def test_pieces_that_wait_are_given_together(carrier: FakeCarrier) -> None:
    exchange = exchange_of(carrier)
    assert (exchange.feed(b"one"), exchange.feed(b"two")) == (3, 6)
    assert await exchange.receive() == {"type": "http.request", "body": b"onetwo", "more_body": True}
    assert carrier.calls == [("taken",)]
    assert exchange.feed(b"x") == 1
    exchange.feed_end()
    assert await exchange.receive() == {"type": "http.request", "body": b"x", "more_body": False}
    assert carrier.calls == [("taken",)]


async def test_tiny_pieces_take_little_more_memory_than_their_content(carrier: FakeCarrier) -> None:
    exchange = exchange_of(carrier)
    tracemalloc.start()
    try:
        for _ in range(20_000):
            exchange.feed(bytes(bytearray(b"ab")))  # each an object of its own, as a peer's pieces are
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    event = await exchange.receive()
    assert event["body"] == b"ab" * 20_000


async def test_exactly_one_final_event_and_then_a_disconnect_when_it_comes(carrier: FakeCarrier) -> None:
    exchange = exchange_of(carrier)
    exchange.feed_end()
    assert await exchange.receive() == {"type": "http.request", "body": b"", "more_body": False}
    waiting = asyncio.ensure_future(exchange.receive())
    await asyncio.sleep(0)
    assert not waiting.done()
    exchange.disconnect()
    assert await waiting == await exchange.receive() == {"type": "http.disconnect"}


@pytest.mark.parametrize("end", ["disconnected", "forsaken", "finished"])
async def test_who_asks_for_ever_after_the_end_lets_others_run(carrier: FakeCarrier, end: str) -> None:
    exchange = exchange_of(carrier)
    exchange.feed_end()
    await exchange.receive()
    if end == "disconnected":
        exchange.disconnect()
    elif end == "forsaken":
        exchange.forsake()
    else:
        exchange.answer(204, [])
    assert await exchange.receive() == {"type": "http.disconnect"}
    assert await others_run_between(20, exchange.receive)


async def test_who_sends_for_ever_after_the_end_lets_others_run(carrier: FakeCarrier) -> None:
    exchange = exchange_of(carrier)
    await exchange.send({"type": "http.response.start", "status": 200})
    exchange.end_stream()
    body = {"type": "http.response.body", "body": b"x", "more_body": True}
    assert await others_run_between(20, lambda: exchange.send(body))


async def test_continue_is_asked_for_once_and_not_when_the_body_is_there(carrier: FakeCarrier) -> None:
    exchange = exchange_of(carrier, expects_continue=True)
    waiting = asyncio.ensure_future(exchange.receive())
    await asyncio.sleep(0)
    assert carrier.calls == [("continue",)]
    exchange.feed(b"a")
    await waiting
    exchange.feed_end()
    await exchange.receive()
    assert carrier.calls == [("continue",), ("taken",)]

    eager = exchange_of(carrier, expects_continue=True)
    eager.feed_end()
    await eager.receive()
    assert carrier.calls.count(("continue",)) == 1


@pytest.mark.slow
async def test_a_receive_that_is_given_up_leaves_nothing_behind(
    carrier: FakeCarrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    made: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()

    def create_future() -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.Future(loop=loop)
        made.add(future)
        return future

    monkeypatch.setattr(loop, "create_future", create_future)
    exchange = exchange_of(carrier)
    for count in range(3):
        waiting = asyncio.ensure_future(exchange.receive())
        await asyncio.sleep(0)
        assert len(made) == 1, count
        waiting.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert waiting.cancelled()
        del waiting
        gc.collect()  # the traceback of the cancellation
        assert len(made) == 0, count
    exchange.feed(b"still there")
    assert (await exchange.receive())["body"] == b"still there"


async def test_the_start_is_held_back_until_the_body(carrier: FakeCarrier) -> None:
    exchange = exchange_of(carrier)
    await exchange.send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    assert carrier.calls == []
    assert not exchange.started
    await exchange.send({"type": "http.response.body", "body": b"abc"})
    assert carrier.calls == [
        ("start", 200, [(b"a", b"b"), (b"content-length", b"3")], False),
        ("body", b"abc", False),
        ("complete",),
    ]
    assert (exchange.status, exchange.sent_bytes, exchange.finished) == (200, 3, True)


@pytest.mark.parametrize(
    ("method", "status", "headers", "body", "more", "added"),
    [
        ("GET", 200, [], b"", False, True),
        ("GET", 200, [], b"", True, False),
        ("GET", 200, [(b"Content-Length", b"0")], b"", False, False),
        ("GET", 304, [], b"", False, False),
        ("HEAD", 200, [], b"", False, False),
        ("HEAD", 200, [], b"abc", False, True),
    ],
)
async def test_when_the_length_is_known(
    carrier: FakeCarrier, method: str, status: int, headers: Any, body: bytes, more: bool, added: bool
) -> None:
    exchange = exchange_of(carrier, method)
    await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": body, "more_body": more})
    sent = carrier.calls[0][2]
    assert sent == ([*headers, (b"content-length", b"%d" % len(body))] if added else headers)


async def test_send_waits_for_the_carrier(carrier: FakeCarrier) -> None:
    carrier.outbox.size = carrier.outbox.high_water
    carrier.outbox.wait = waiter = asyncio.get_running_loop().create_future()
    sending = asyncio.ensure_future(exchange_of(carrier).send({"type": "http.response.start", "status": 200}))
    await asyncio.sleep(0)
    assert not sending.done()
    waiter.set_result(None)
    await sending


async def test_whoever_sends_much_lets_others_have_their_turn(carrier: FakeCarrier) -> None:
    exchange = exchange_of(carrier)
    await exchange.send({"type": "http.response.start", "status": 200})
    for size, has_ended in ((1, True), (CHUNK_BYTES + 1, False)):
        sending = exchange.send({"type": "http.response.body", "body": bytes(size), "more_body": True})
        assert next(sending.__await__(), "ended") == ("ended" if has_ended else None)
        sending.close()


async def test_after_a_disconnect_send_raises_and_after_the_end_it_does_nothing(carrier: FakeCarrier) -> None:
    gone = exchange_of(carrier)
    gone.disconnect()
    with pytest.raises(ConnectionClosed, match="the client has closed the connection"):
        await gone.send({"type": "http.response.start", "status": 200})

    complete = exchange_of(carrier)
    await complete.send({"type": "http.response.start", "status": 200})
    await complete.send({"type": "http.response.body"})
    calls = len(carrier.calls)
    complete.disconnect()
    await complete.send({"type": "http.response.body", "body": b"late"})
    assert len(carrier.calls) == calls


async def test_those_whose_clients_leave_together_are_told_over_several_passes() -> None:
    batch = Batch(asyncio.get_running_loop())
    exchanges = [HttpExchange(FakeCarrier(), FakeHost(), {}, 0.0, False, batch) for _ in range(ENDINGS_PER_PASS + 1)]
    receiving = [asyncio.ensure_future(exchange.receive()) for exchange in exchanges]
    await asyncio.sleep(0)
    for exchange in exchanges:
        exchange.disconnect()
    with pytest.raises(ConnectionClosed):  # whoever waits acts on it before the sender raises
        await exchanges[-1].send({"type": "http.response.body"})
    assert [await one for one in receiving] == [{"type": "http.disconnect"}] * len(exchanges)


# The end of the application ------------------------------------------------------------------------------------------


class Refused(Exception):
    asgi_status = 404


ENDED = ("application ended",)
NO_ANSWER = ("no answer", "application returned without completing its response")
CANCELLED = ("no answer", "application was cancelled, not by the server, without completing its response")
REFUSED = ("refuse", 500, "internal server error")


@pytest.mark.parametrize(
    ("task", "calls", "told"),
    [
        (FakeTask(), [ENDED, REFUSED], [NO_ANSWER, ("finished", 500, 21)]),
        (FakeTask(is_cancelled=True), [ENDED, REFUSED], [CANCELLED, ("finished", 500, 21)]),
        (FakeTask(ArithmeticError()), [ENDED, REFUSED], [("error", "HTTP"), ("finished", 500, 21)]),
        (FakeTask(ConnectionClosed()), [ENDED, REFUSED], [("finished", 500, 21)]),
        (
            FakeTask(Refused("No such thing.")),
            [ENDED, ("refuse", 404, "not found")],
            [("refused", "No such thing; answered with 404"), ("finished", 404, 9)],
        ),
    ],
)
async def test_an_answer_that_is_missing_is_given_in_its_place(
    carrier: FakeCarrier, host: FakeHost, task: Any, calls: list[Any], told: list[Any]
) -> None:
    exchange = exchange_of(carrier, host=host)
    exchange.start()
    assert host.running == [exchange]
    exchange(task)
    assert (exchange.disconnected, exchange.task) == (True, None)
    assert carrier.calls == calls
    assert host.told == [("forget", 0), *told]


async def test_a_response_that_has_begun_is_cut(carrier: FakeCarrier, host: FakeHost) -> None:
    exchange = exchange_of(carrier, host=host)
    await exchange.send({"type": "http.response.start", "status": 200})
    await exchange.send({"type": "http.response.body", "body": b"abc", "more_body": True})
    carrier.calls.clear()
    exchange(FakeTask())
    assert carrier.calls == [ENDED, ("break off",)]
    assert host.told == [("forget", 3), NO_ANSWER, ("finished", 200, 3)]


async def test_what_happens_after_a_complete_response_is_the_applications_own(
    carrier: FakeCarrier, host: FakeHost
) -> None:
    exchange = exchange_of(carrier, host=host)
    await exchange.send({"type": "http.response.start", "status": 200})
    await exchange.send({"type": "http.response.body", "body": b"abc"})
    carrier.calls.clear()
    exchange(FakeTask(ArithmeticError()))
    assert carrier.calls == []
    assert host.told == [("finished", 200, 3), ("forget", 3), ("error", "HTTP")]


@pytest.mark.parametrize("task", [FakeTask(), FakeTask(is_cancelled=True), FakeTask(ConnectionClosed())])
async def test_an_application_whose_client_has_gone_owes_no_answer(
    carrier: FakeCarrier, host: FakeHost, task: Any
) -> None:
    exchange = exchange_of(carrier, host=host)
    exchange.lost()
    exchange(task)
    assert carrier.calls == [ENDED]
    assert host.told == [("finished", None, 0), ("forget", 0)]


async def test_an_application_that_took_the_hint_of_a_client_that_has_left_is_cut_in_silence(
    carrier: FakeCarrier,
    host: FakeHost,
) -> None:
    exchange = exchange_of(carrier, host=host)
    exchange.forsake()
    exchange(FakeTask())
    assert carrier.calls == [ENDED, ("break off",)]
    assert host.told == [("forget", 0), ("finished", None, 0)]


async def test_a_handshake_that_a_proxy_has_stripped_is_told_of(carrier: FakeCarrier, host: FakeHost) -> None:
    exchange = exchange_of(carrier, host=host)
    exchange.scope["headers"].append((b"sec-websocket-key", b"x"))
    exchange.log(404, 9)
    (fault, line) = host.told
    assert fault[0] == "no upgrade"
    assert fault[1].startswith("a WebSocket handshake without Upgrade: the proxy in front drops it")
    assert line == ("finished", 404, 9)
