"""The conversation about one WebSocket, driven by hand: every phase, every event, every end; no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import pytest
from tests.fairway.asgi.doubles import FakeTask, others_run_between

from fairway.asgi.errors import ConnectionClosed, ProtocolMisuse
from fairway.asgi.websocket import ALLOWED, EVENTS, NOT_CLOSING, Phase, WebSocketExchange
from fairway.delivery import NEXT_PASS, Inbox, Payload, SlowPolicy, connection_of, reader_of

CONNECTING, DENYING, ANSWERING, OPEN, CLOSING, ENDED = Phase
STARTED_AT, NOW = 48.0, 50.0
SCOPE: dict[str, Any] = {"type": "websocket", "path": "/x"}


class FakeOutput:
    """Keeps what is written; is as full as a test says."""

    high_water = 100
    bound = 1000
    fanout = None

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.size = 0
        self.is_over_bound = False
        self.is_shared = True
        self.woken = 0
        self.droppable: list[tuple[bytes, str]] = []
        self.writes_at_once = False

    def append(self, frame: bytes, is_broadcast: bool = False) -> bool:
        self.frames.append(frame)
        return self.writes_at_once

    def append_droppable(self, frame: bytes, key: str) -> None:
        self.droppable.append((frame, key))

    def make_room(self, size: int, key: str, only_latest: bool) -> int:
        return 2 if only_latest else 1

    def drop_waiting(self) -> int:
        return 3

    def drained(self) -> Awaitable[None]:
        return NEXT_PASS

    def wake_waiters(self) -> None:
        self.woken += 1

    def write_through_transport(self) -> None:
        self.is_shared = False


class FakeCounts:
    dropped_frames = 0
    slow_consumers = 0


class FakeHost:
    """Runs nothing; remembers each thing it is told as one tuple."""

    logs_access = True

    def __init__(self, calls: list[Any]) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.counters = FakeCounts()
        self._calls = calls

    def touch(self) -> float:
        return NOW

    def run(self, scope: Any, receive: Any, send: Any, served: Any, ended: Any) -> Any:
        assert served is ended
        return FakeTask()

    def forget(self, task: Any, began: float, weight: int) -> None:
        assert (began, weight) == (STARTED_AT, 0)
        self._calls.append("forget")

    @property
    def access(self) -> FakeHost:
        return self

    def websocket_connecting(self, scope: Any) -> None:
        self.told.append(("connecting",))

    def websocket_connected(self, scope: Any) -> None:
        self.told.append(("connected",))

    def websocket_rejected(self, scope: Any, status: int) -> None:
        self.told.append(("rejected", status))

    def websocket_disconnected(self, scope: Any, code: int, seconds: float) -> None:
        self.told.append(("disconnected", code, seconds))

    def fault(self, kind: str, scope: Any, text: str) -> None:
        self.told.append(("fault", kind))

    def application_error(self, kind: str, scope: Any, error: BaseException) -> None:
        self.told.append(("error", kind))


class FakeEncoder:
    def encode_text(self, text: str) -> bytes:
        return text.encode()

    def encode_bytes(self, data: bytes) -> bytes:
        return b"bytes:" + data

    begin_text, begin_bytes = encode_text, encode_bytes


class FakeHandshake:
    """Answers nothing; remembers what it was asked to answer."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def answer(self, status: int, text: str) -> None:
        self._calls.append(("answer", status))

    def begin_denial(self, message: Mapping[str, Any]) -> None:
        self._calls.append("deny")

    def continue_denial(self, message: Mapping[str, Any]) -> int:
        self._calls.append("deny further")
        return 401


class HandDrivenExchange(WebSocketExchange):
    """A carrier that carries nothing, and notes what it was asked to do."""

    __slots__ = ("calls", "host", "refuses_to_open")

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.host = FakeHost(self.calls)
        self.handshake = FakeHandshake(self.calls)
        self.refuses_to_open = False
        self.encoder = FakeEncoder()
        self.inbox = Inbox(asyncio.get_running_loop())
        self.outbox = FakeOutput()
        self.phase = CONNECTING
        self.is_open = False
        self.scope = SCOPE
        self.started_at = STARTED_AT
        self.closing = NOT_CLOSING
        self._task = None

    def _open(self, message: Mapping[str, Any]) -> None:
        if self.refuses_to_open:
            raise ProtocolMisuse("on purpose")
        self.calls.append("open")

    def _opened(self) -> None:
        assert self.is_open
        self.calls.append("opened")

    def _finish(self) -> None:
        self.calls.append("finish")

    def _shut(self, code: int, reason: str) -> None:
        self.calls.append(("shut", code))
        self._leave_open(CLOSING)

    def _part(self, code: int, reason: str) -> None:
        self.calls.append(("part", code))

    def _drop(self) -> None:
        self.calls.append("drop")

    def _told(self, now: float) -> None:
        assert now == NOW

    def _application_ended(self) -> None:
        self.calls.append("application ended")


def exchange_in(phase: Phase) -> HandDrivenExchange:
    """An exchange that has come to this phase, of which nothing has been noted yet."""
    exchange = HandDrivenExchange()
    exchange.start(dict(SCOPE))
    assert exchange.inbox.take_nowait() == {"type": "websocket.connect"}
    if phase in (DENYING, ANSWERING):
        exchange.send_nowait(MESSAGES["websocket.http.response.start"])
        if phase is ANSWERING:
            exchange.send_nowait({**MESSAGES["websocket.http.response.body"], "more_body": True})
    elif phase is not CONNECTING:
        exchange.send_nowait(MESSAGES["websocket.accept"])
        if phase is CLOSING:
            exchange.send_nowait({"type": "websocket.close", "code": 3000})
        elif phase is ENDED:
            exchange.ended(1001, "the peer was first")
            assert exchange.inbox.take_nowait()["code"] == 1001
    assert exchange.phase is phase
    exchange.calls.clear()
    exchange.host.told.clear()
    return exchange


# Every phase, every event, every end ---------------------------------------------------------------------------------

MESSAGES: dict[str, dict[str, Any]] = {
    "websocket.accept": {"type": "websocket.accept"},
    "websocket.close": {"type": "websocket.close"},
    "websocket.send": {"type": "websocket.send", "text": "hello"},
    "websocket.http.response.start": {"type": "websocket.http.response.start", "status": 401},
    "websocket.http.response.body": {"type": "websocket.http.response.body"},
    "no event": {"type": "no event"},
}

AFTER: dict[tuple[Phase, str], tuple[Phase, list[Any]]] = {
    (CONNECTING, "websocket.accept"): (OPEN, ["open", "opened"]),
    (CONNECTING, "websocket.close"): (ENDED, [("answer", 403), "finish"]),
    (CONNECTING, "websocket.http.response.start"): (DENYING, ["deny"]),
    (DENYING, "websocket.http.response.body"): (ENDED, ["deny further", "finish"]),
    (ANSWERING, "websocket.http.response.body"): (ENDED, ["deny further", "finish"]),
    (OPEN, "websocket.send"): (OPEN, []),
    (OPEN, "websocket.close"): (CLOSING, [("shut", 1000)]),
}
"""The phase after an event that is allowed, and what the carrier is asked to do."""

REFUSED = {
    (CONNECTING, "websocket.send"): "websocket.send before websocket.accept",
    (DENYING, "websocket.send"): "websocket.send after the response to the handshake was begun",
    (ANSWERING, "websocket.send"): "websocket.send after the response to the handshake was begun",
}


class Refused(Exception):
    asgi_status = 404


def end_by_task(**ending: Any) -> Any:
    return lambda exchange: exchange(FakeTask(**ending))


def too_slow(exchange: WebSocketExchange) -> None:
    exchange.outbox.is_over_bound = True  # type: ignore[misc]
    exchange.check_bound()


ENDS: dict[str, Any] = {
    "the peer closes": lambda exchange: exchange.ended(4000, "bye"),
    "the server drops it": lambda exchange: exchange.abort(),
    "the handshake lasts too long": lambda exchange: exchange.refuse(503, "late"),
    "the client is too slow": too_slow,
    "the application returns": end_by_task(),
    "the application raises": end_by_task(error=ArithmeticError()),
    "the application passes on that it is closed": end_by_task(error=ConnectionClosed()),
    "the application asks for a status": end_by_task(error=Refused()),
    "the application is cancelled": end_by_task(is_cancelled=True),
}

TASK = ("forget", "application ended")
NO_ANSWER, REJECTED = ("fault", "no answer"), ("rejected", 500)
ERROR, CANCELLED = ("error", "WebSocket"), ("fault", "cancelled")

# For each end and the phase it comes in: the phase then, the code that the application is told (None: nothing new),
# what the carrier is asked to do, and what is reported. A phase that is not here is left as it is, and nothing happens.
OUTCOMES: dict[str, dict[Phase, tuple[Phase, int | None, list[Any], list[Any]]]] = {
    "the peer closes": {
        CONNECTING: (ENDED, 4000, [], []),
        DENYING: (ENDED, 4000, [], []),
        ANSWERING: (ENDED, 4000, [], []),
        OPEN: (ENDED, 4000, [], [("disconnected", 4000, 2.0)]),
        CLOSING: (ENDED, 4000, [], [("disconnected", 4000, 2.0)]),
    },
    "the server drops it": {
        CONNECTING: (ENDED, 1006, ["drop"], []),
        DENYING: (ENDED, 1006, ["drop"], []),
        ANSWERING: (ENDED, 1006, ["drop"], []),
        OPEN: (ENDED, 1006, ["drop"], [("disconnected", 1006, 2.0)]),
        CLOSING: (ENDED, 1006, ["drop"], [("disconnected", 1006, 2.0)]),
        ENDED: (ENDED, None, ["drop"], []),
    },
    "the handshake lasts too long": {
        CONNECTING: (ENDED, 1006, [("answer", 503), "finish"], [("rejected", 503)]),
        DENYING: (ENDED, 1006, [("answer", 503), "finish"], [("rejected", 503)]),
        ANSWERING: (ANSWERING, None, ["drop"], []),
    },
    "the client is too slow": {
        OPEN: (ENDED, 1013, [("part", 1013)], [("fault", "slow client"), ("disconnected", 1013, 2.0)]),
        CLOSING: (CLOSING, None, ["drop"], []),
    },
    "the application returns": {
        CONNECTING: (ENDED, None, [("answer", 500), "finish"], [NO_ANSWER, REJECTED]),
        DENYING: (ENDED, None, [("answer", 500), "finish"], [NO_ANSWER, REJECTED]),
        ANSWERING: (ANSWERING, None, ["drop"], [NO_ANSWER]),
        OPEN: (CLOSING, None, [("shut", 1000)], []),
    },
    "the application raises": {
        CONNECTING: (ENDED, None, [("answer", 500), "finish"], [ERROR, REJECTED]),
        DENYING: (ENDED, None, [("answer", 500), "finish"], [ERROR, REJECTED]),
        ANSWERING: (ANSWERING, None, ["drop"], [ERROR]),
        OPEN: (CLOSING, None, [("shut", 1011)], [ERROR]),
        CLOSING: (CLOSING, None, [], [ERROR]),
        ENDED: (ENDED, None, [], [ERROR]),
    },
    "the application passes on that it is closed": {
        CONNECTING: (ENDED, None, [("answer", 500), "finish"], [REJECTED]),
        DENYING: (ENDED, None, [("answer", 500), "finish"], [REJECTED]),
        ANSWERING: (ANSWERING, None, ["drop"], []),
        OPEN: (CLOSING, None, [("shut", 1011)], []),
    },
    "the application asks for a status": {
        CONNECTING: (ENDED, None, [("answer", 404), "finish"], [("fault", "refused"), ("rejected", 404)]),
        DENYING: (ENDED, None, [("answer", 404), "finish"], [("fault", "refused"), ("rejected", 404)]),
        ANSWERING: (ANSWERING, None, ["drop"], [ERROR]),
        OPEN: (CLOSING, None, [("shut", 1011)], [ERROR]),
        CLOSING: (CLOSING, None, [], [ERROR]),
        ENDED: (ENDED, None, [], [ERROR]),
    },
    "the application is cancelled": {
        CONNECTING: (ENDED, None, [("answer", 500), "finish"], [CANCELLED, REJECTED]),
        DENYING: (ENDED, None, [("answer", 500), "finish"], [CANCELLED, REJECTED]),
        ANSWERING: (ANSWERING, None, ["drop"], [CANCELLED]),
        OPEN: (CLOSING, None, [("shut", 1011)], [CANCELLED]),
        CLOSING: (CLOSING, None, [], [CANCELLED]),
    },
}


def test_the_tables_speak_of_the_same_events() -> None:
    assert set(ALLOWED) == set(Phase)
    assert {(phase, kind) for phase, kinds in ALLOWED.items() for kind in kinds} == set(AFTER)
    assert set(MESSAGES) - {"no event"} == EVENTS


def refusal(phase: Phase, kind: str) -> tuple[type[Exception], str]:
    if kind == "no event":
        known = ", ".join(sorted(EVENTS))
        return ProtocolMisuse, f"unknown event 'no event': a websocket application sends {known}"
    if phase in (CLOSING, ENDED):
        return ConnectionClosed, "the websocket is closed"
    usual = f"{kind} is not allowed now: the websocket is {phase.name.lower()}"
    return ProtocolMisuse, REFUSED.get((phase, kind), usual)


def take_event(exchange: HandDrivenExchange, phase: Phase, kind: str) -> Phase:
    """Send an event; the phase after it, which is as the tables say."""
    if kind in ALLOWED[phase]:
        expected, calls = AFTER[phase, kind]
        exchange.send_nowait(MESSAGES[kind])
        assert exchange.calls == calls
        assert exchange.outbox.frames == ([b"hello"] if kind == "websocket.send" else [])
    else:
        expected = phase
        error, text = refusal(phase, kind)
        with pytest.raises(error) as raised:
            exchange.send_nowait(MESSAGES[kind])
        assert (type(raised.value), str(raised.value)) == (error, text)
        assert (exchange.calls, exchange.outbox.frames, exchange.host.told) == ([], [], [])
    assert (exchange.phase, exchange.is_open) == (expected, expected is OPEN)
    return expected


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
async def test_every_event_in_every_phase_and_every_end_after_it(phase: Phase, kind: str, end: str) -> None:
    exchange = exchange_in(phase)
    phase = take_event(exchange, phase, kind)
    exchange.calls.clear()
    exchange.host.told.clear()
    already = exchange.inbox.take_nowait()
    before = dict(exchange.closing.event)
    assert already is None or already == before

    ENDS[end](exchange)

    expected, code, calls, told = OUTCOMES[end].get(phase, (phase, None, [], []))
    if end.startswith("the application"):
        calls = [TASK[0], *calls, TASK[1]]
    assert (exchange.phase, exchange.is_open) == (expected, expected is OPEN)
    assert exchange.calls == calls
    assert exchange.host.told == told
    assert exchange.outbox.is_shared is (expected in (CONNECTING, DENYING, ANSWERING, OPEN)), (
        "else others would write past a Close"
    )
    waiting = exchange.inbox.take_nowait()
    assert (waiting and waiting["code"]) == code
    if expected is ENDED:
        event = exchange.closing.event
        assert event["type"] == "websocket.disconnect"
        assert exchange.outbox.woken == 1
        if before:
            assert event == before, "it is told once"
        assert [await exchange.receive() for _ in range(2)] == [event, event]
        exchange.ended(1002, "late")
        assert exchange.closing.event == event


# Events that are not what they should be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({}, "needs exactly one of text and bytes"),
        ({"text": "a", "bytes": b"b"}, "needs exactly one of text and bytes"),
        ({"text": b"a"}, "the text of websocket.send is a str, not bytes"),
        ({"bytes": "a"}, "the bytes of websocket.send are bytes, not str"),
    ],
)
async def test_a_message_is_either_text_or_bytes(message: dict[str, Any], text: str) -> None:
    exchange = exchange_in(OPEN)
    with pytest.raises(ProtocolMisuse, match=text):
        await exchange.send({"type": "websocket.send", **message})
    assert exchange.outbox.frames == []


@pytest.mark.parametrize("message", [{"code": "1000"}, {"reason": b"bye"}])
async def test_a_close_has_a_number_and_a_text(message: dict[str, Any]) -> None:
    exchange = exchange_in(OPEN)
    with pytest.raises(ProtocolMisuse, match=r"^websocket\.close has an int as code and a str as reason, not "):
        await exchange.send({"type": "websocket.close", **message})
    assert (exchange.phase, exchange.calls) == (OPEN, [])


async def test_an_acceptance_that_cannot_be_sent_changes_nothing() -> None:
    exchange = exchange_in(CONNECTING)
    exchange.refuses_to_open = True
    with pytest.raises(ProtocolMisuse, match=r"^on purpose$"):
        await exchange.send(MESSAGES["websocket.accept"])
    assert (exchange.phase, exchange.is_open, exchange.host.told) == (CONNECTING, False, [])


async def test_a_response_in_pieces_ends_with_the_last() -> None:
    exchange = exchange_in(DENYING)
    await exchange.send({"type": "websocket.http.response.body", "more_body": True})
    assert (exchange.phase, exchange.calls) == (ANSWERING, ["deny further"])
    assert exchange.host.told == [("rejected", 401)]
    await exchange.send({"type": "websocket.http.response.body"})
    assert (exchange.phase, exchange.calls) == (ENDED, ["deny further", "deny further", "finish"])


# Messages ------------------------------------------------------------------------------------------------------------


async def test_what_the_client_says_comes_before_the_end() -> None:
    exchange = exchange_in(OPEN)
    exchange.inbox.put_client("text")
    exchange.inbox.put_client(b"bytes")
    exchange.ended(1000, "")
    assert [await exchange.receive() for _ in range(4)] == [
        {"type": "websocket.receive", "text": "text"},
        {"type": "websocket.receive", "bytes": b"bytes"},
        *[{"type": "websocket.disconnect", "code": 1000, "reason": ""}] * 2,
    ]


async def test_who_asks_for_ever_after_the_end_lets_others_run() -> None:
    exchange = exchange_in(OPEN)
    exchange.ended(1000, "")
    assert (await exchange.receive())["type"] == "websocket.disconnect"
    assert await others_run_between(20, exchange.receive)


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    exchange = exchange_in(OPEN)
    waiting = asyncio.ensure_future(exchange.receive())
    await asyncio.sleep(0)
    exchange.inbox.put_client("in between")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await exchange.receive() == {"type": "websocket.receive", "text": "in between"}


async def test_sending_waits_while_too_much_waits_and_gives_way_after_a_write() -> None:
    exchange = exchange_in(OPEN)
    assert exchange.send_text("a") is None
    exchange.outbox.writes_at_once = True
    assert exchange.send_bytes(b"b") is NEXT_PASS
    exchange.outbox.size = exchange.outbox.high_water
    assert exchange.send_bytes(bytearray(b"c")) is not None
    await exchange.send({"type": "websocket.send", "text": "d"})
    assert exchange.outbox.frames == [b"a", b"bytes:b", b"bytes:c", b"d"]


async def test_who_does_not_wait_is_bounded() -> None:
    exchange = exchange_in(OPEN)
    exchange.outbox.is_over_bound = True
    with pytest.raises(ConnectionClosed, match=r"^the websocket is closed$"):
        exchange.send_nowait(MESSAGES["websocket.send"])
    assert (exchange.phase, exchange.outbox.frames) == (ENDED, [])
    counters = exchange.host.counters
    assert (counters.slow_consumers, counters.dropped_frames) == (1, 3)


async def test_a_slow_client_is_dropped_once_whatever_comes_while_it_is_dropped() -> None:
    """What a sweep has under way for it is brought forward, to be dropped as well."""
    exchange = exchange_in(OPEN)
    exchange.calls.clear()
    exchange.host.told.clear()
    exchange.outbox.is_over_bound = True

    def drop_waiting() -> int:
        exchange.check_bound()
        return 3

    exchange.outbox.drop_waiting = drop_waiting  # type: ignore[method-assign]
    exchange.check_bound()
    assert exchange.calls == [("part", 1013)]
    assert exchange.host.told == [("fault", "slow client"), ("disconnected", 1013, 2.0)]
    counters = exchange.host.counters
    assert (counters.slow_consumers, counters.dropped_frames) == (1, 3)


async def test_a_broadcast_is_dropped_where_it_ends_a_slow_client() -> None:
    exchange = exchange_in(OPEN)
    exchange.broadcast(Payload("one"))
    exchange.outbox.is_over_bound = True
    exchange.broadcast(Payload("two"))
    assert (exchange.phase, exchange.outbox.frames) == (OPEN, [b"one", b"two"]), (
        "below the high water mark nobody looks"
    )
    exchange.outbox.size = exchange.outbox.high_water + 1
    exchange.broadcast(Payload("three"))
    assert (exchange.phase, exchange.outbox.frames) == (ENDED, [b"one", b"two"])


@pytest.mark.parametrize(("policy", "dropped"), [(SlowPolicy.KEEP_LATEST, 2), (SlowPolicy.DROP_OLDEST, 1)])
async def test_a_broadcast_that_may_be_dropped_makes_room_for_itself(policy: SlowPolicy, dropped: int) -> None:
    exchange = exchange_in(OPEN)
    exchange.broadcast(Payload("x", policy=policy, group="prices"))
    assert exchange.outbox.droppable == [(b"x", "prices")]
    assert exchange.host.counters.dropped_frames == dropped


async def test_its_own_methods_prove_whose_they_are() -> None:
    exchange = exchange_in(OPEN)
    assert connection_of(exchange.send) is exchange
    assert reader_of(exchange.receive) is exchange
    assert connection_of(lambda: exchange.send) is None
