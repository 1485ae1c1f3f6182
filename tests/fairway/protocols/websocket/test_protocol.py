"""One WebSocket with a number for a clock: the closing handshake, pings, and when the peer is given up."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.protocols.websocket.wire import binary, close, frame, ping, pong, text

from fairway.protocols.websocket.decoder import Decoder
from fairway.protocols.websocket.frames import close_frame, ping_frame, pong_frame
from fairway.protocols.websocket.protocol import (
    CLOSED,
    CLOSING,
    OPEN,
    Closed,
    LocalProtocolError,
    WebSocketProtocol,
)

INTERVAL, TIMEOUT, CLOSE_TIMEOUT = 25, 20, 5
BEGIN = 1000.0
NEXT_PING = BEGIN + INTERVAL


def opened(times: tuple[float, float, float] = (INTERVAL, TIMEOUT, CLOSE_TIMEOUT), **how: float) -> WebSocketProtocol:
    return WebSocketProtocol(Decoder(), BEGIN, times, **how)


def plain(events: list[object]) -> list[object]:
    return [(event.code, event.reason, event.fault) if isinstance(event, Closed) else event for event in events]


def received(connection: WebSocketProtocol, data: bytes, now: float = BEGIN) -> list[object]:
    return plain(list(connection.receive_data(data, now)))


def at(connection: WebSocketProtocol, now: float, reading: bool = True) -> list[object]:
    return plain(list(connection.handle_deadline(now, reading)))


# --- messages


def test_messages_come_out_and_nothing_is_sent() -> None:
    connection = opened()
    assert received(connection, text("a") + binary(b"b")) == ["a", b"b"]
    assert connection.data_to_send() == b""
    assert connection.state is OPEN


def test_pings_are_answered_with_their_data_in_order_and_once() -> None:
    connection = opened()
    assert received(connection, ping(b"1") + text("a") + ping(b"2")) == ["a"]
    assert connection.data_to_send() == pong_frame(b"1") + pong_frame(b"2")
    assert connection.data_to_send() == b""


def test_an_unsolicited_pong_is_ignored() -> None:
    connection = opened()
    assert received(connection, pong(b"x") + text("a")) == ["a"]
    assert connection.data_to_send() == b""


def test_the_budget_is_passed_on() -> None:
    connection = opened()
    assert connection.receive_data(text("a") + text("b"), BEGIN, 1) == ["a"]
    assert connection.decoder.pending
    assert connection.receive_data(b"", BEGIN, 1) == ["b"]


# --- the closing handshake, begun by the peer


def test_a_close_of_the_peer_is_answered_with_its_code() -> None:
    connection = opened()
    assert received(connection, text("last") + close(3001, b"done") + text("late")) == ["last", (3001, "done", False)]
    assert connection.data_to_send() == close_frame(3001)
    assert connection.state is CLOSED


def test_a_close_without_a_code_is_1005_and_answered_without_one() -> None:
    connection = opened()
    assert received(connection, close()) == [(1005, "", False)]
    assert connection.data_to_send() == b"\x88\x00"


def test_a_broken_rule_ends_the_connection_with_its_code_and_is_the_peers_fault() -> None:
    connection = opened()
    reason = "text is not UTF-8 (RFC 6455 section 8.1)"
    assert received(connection, text("a") + text(b"\xff") + text("b")) == ["a", (1007, reason, True)]
    assert connection.data_to_send() == close_frame(1007, reason)
    assert connection.state is CLOSED


def test_pongs_that_are_due_go_out_before_the_close() -> None:
    connection = opened()
    received(connection, ping(b"1") + close(1000))
    assert connection.data_to_send() == pong_frame(b"1") + close_frame(1000)


def test_a_lost_connection_is_1006() -> None:
    connection = opened()
    received(connection, text("half")[:-1])
    assert plain(list(connection.receive_eof())) == [(1006, "connection lost", False)]
    assert connection.data_to_send() == b""
    assert connection.state is CLOSED


@pytest.mark.parametrize("end", ["close", "failure", "eof", "timeout"])
def test_after_the_end_nothing_comes_and_no_deadline_is_left(end: str) -> None:
    connection = opened()
    if end == "close":
        connection.receive_data(close(1000), BEGIN)
    elif end == "failure":
        connection.receive_data(frame(7), BEGIN)
    elif end == "eof":
        connection.receive_eof()
    else:
        connection.handle_deadline(NEXT_PING)
        connection.handle_deadline(NEXT_PING + TIMEOUT)
    connection.data_to_send()
    assert connection.state is CLOSED
    assert received(connection, text("a") + ping() + close(1000) + frame(7)) == []
    assert connection.receive_eof() == []
    assert connection.next_deadline() is None
    assert at(connection, inf) == []
    assert connection.data_to_send() == b""


# --- the closing handshake, begun by the application


def test_our_close_is_sent_and_ends_with_the_answer() -> None:
    connection = opened()
    connection.close(4000, "enough", BEGIN)
    assert connection.state is CLOSING
    assert connection.data_to_send() == close_frame(4000, "enough")
    assert received(connection, close(4000)) == [(4000, "enough", False)]
    assert connection.data_to_send() == b""
    assert connection.state is CLOSED


def test_crossing_closes_end_with_our_code_and_no_second_close() -> None:
    connection = opened()
    connection.close(1000, "ours", BEGIN)
    assert received(connection, close(1001, b"theirs")) == [(1000, "ours", False)]
    assert connection.data_to_send() == close_frame(1000, "ours")


def test_messages_and_pings_behind_our_close_are_dropped() -> None:
    connection = opened()
    connection.close(1000, "", BEGIN)
    connection.data_to_send()
    assert received(connection, text("late") + ping(b"x") + binary(b"late")) == []
    assert connection.data_to_send() == b""
    assert received(connection, text("later") + close(1000)) == [(1000, "", False)]


def test_a_broken_rule_behind_our_close_is_no_fault_and_not_answered() -> None:
    connection = opened()
    connection.close(1000, "bye", BEGIN)
    connection.data_to_send()
    assert received(connection, frame(7)) == [(1000, "bye", False)]
    assert connection.data_to_send() == b""


def test_a_connection_lost_behind_our_close_ends_with_our_code() -> None:
    connection = opened()
    connection.close(1001, "bye", BEGIN)
    assert plain(list(connection.receive_eof())) == [(1001, "bye", False)]


def test_a_close_that_is_not_answered_in_time_ends_with_our_code() -> None:
    connection = opened()
    connection.close(1000, "bye", BEGIN + 3)
    assert connection.next_deadline() == BEGIN + 3 + CLOSE_TIMEOUT
    received(connection, text("chatter"), BEGIN + 7)
    assert at(connection, BEGIN + 3 + CLOSE_TIMEOUT - 0.1) == []
    assert at(connection, BEGIN + 3 + CLOSE_TIMEOUT) == [(1000, "bye", False)]


def test_a_close_without_a_code_may_be_sent() -> None:
    connection = opened()
    connection.close(1005, "", BEGIN)
    assert connection.data_to_send() == b"\x88\x00"
    assert received(connection, close()) == [(1005, "", False)]


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 70000])
def test_a_code_that_may_not_be_sent_is_a_value_error_and_changes_nothing(code: int) -> None:
    connection = opened()
    with pytest.raises(ValueError, match="may not be sent") as error:
        connection.close(code, "", BEGIN)
    assert str(error.value) == f"close code {code} may not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999"
    assert connection.state is OPEN
    assert connection.data_to_send() == b""
    assert connection.next_deadline() == NEXT_PING


def test_closing_twice_is_a_mistake_of_the_caller() -> None:
    connection = opened()
    connection.close(1000, "", BEGIN)
    with pytest.raises(LocalProtocolError, match=r"^the connection is closing or closed already$"):
        connection.close(1000, "", BEGIN)
    connection.receive_data(close(1000), BEGIN)
    with pytest.raises(LocalProtocolError, match=r"^the connection is closing or closed already$"):
        connection.close(1000, "", BEGIN)
    assert connection.data_to_send() == close_frame(1000)


# --- pings


def test_a_silent_peer_is_pinged_and_then_given_up() -> None:
    connection = opened()
    assert connection.next_deadline() == NEXT_PING
    assert at(connection, NEXT_PING - 0.1) == []
    assert connection.data_to_send() == b""
    assert at(connection, NEXT_PING) == []
    assert connection.data_to_send() == ping_frame()
    assert connection.next_deadline() == NEXT_PING + TIMEOUT
    assert at(connection, NEXT_PING + TIMEOUT - 0.1) == []
    assert at(connection, NEXT_PING + TIMEOUT) == [(1006, "no answer to a ping", False)]
    assert connection.data_to_send() == b""
    assert connection.state is CLOSED


def test_an_empty_pong_alone_is_the_answer_to_a_ping() -> None:
    connection = opened()
    at(connection, NEXT_PING)
    connection.data_to_send()

    assert connection.receive_pong(pong(), NEXT_PING + 1)
    assert at(connection, NEXT_PING + TIMEOUT) == []
    assert connection.next_deadline() == NEXT_PING + 1 + INTERVAL


@pytest.mark.parametrize("data", [text(""), ping(), pong(b"a"), pong() + pong(), pong()[:5]])
def test_nothing_else_is_taken_for_one(data: bytes) -> None:
    connection = opened()

    assert not connection.receive_pong(data, BEGIN + 1)
    assert connection.heard_at == BEGIN


@pytest.mark.parametrize("before", [text("ab")[:4], text("ab")[:-1], text("a", fin=False), b"\x88\x80abcd"])
def test_what_looks_like_a_pong_inside_of_something_else_is_left_to_the_decoder(before: bytes) -> None:
    connection = opened()
    received(connection, before)

    assert not connection.receive_pong(pong(), BEGIN + 1)


@pytest.mark.parametrize("sign", [pong(), text("a"), b"\x81"], ids=["pong", "message", "half a header"])
def test_any_byte_after_the_ping_proves_the_peer_alive(sign: bytes) -> None:
    connection = opened()
    at(connection, NEXT_PING)
    connection.data_to_send()
    received(connection, sign, NEXT_PING + 1)
    assert at(connection, NEXT_PING + TIMEOUT) == []
    assert connection.data_to_send() == b""
    assert connection.next_deadline() == NEXT_PING + 1 + INTERVAL
    at(connection, NEXT_PING + 1 + INTERVAL)
    assert connection.data_to_send() == ping_frame()


def test_a_peer_that_talks_is_not_pinged() -> None:
    connection = opened()
    received(connection, text("a"), BEGIN + 20)
    assert at(connection, NEXT_PING) == []
    assert connection.data_to_send() == b""
    assert connection.next_deadline() == BEGIN + 20 + INTERVAL


def test_a_peer_that_answers_within_the_same_tick_of_the_clock_is_alive() -> None:
    connection = opened()
    at(connection, NEXT_PING)
    connection.data_to_send()
    assert received(connection, pong(), NEXT_PING) == []
    assert at(connection, NEXT_PING + TIMEOUT) == []
    assert connection.next_deadline() == NEXT_PING + INTERVAL


def test_a_silence_while_reading_is_paused_is_not_held_against_the_peer() -> None:
    connection = opened()
    at(connection, NEXT_PING)
    connection.data_to_send()
    now = NEXT_PING + TIMEOUT
    assert at(connection, now, reading=False) == []
    assert connection.next_deadline() == now + INTERVAL
    assert connection.data_to_send() == ping_frame(), "whether it is there at all, the network will say"
    assert at(connection, now + INTERVAL, reading=False) == []
    assert connection.data_to_send() == ping_frame()
    now += 2 * INTERVAL
    assert at(connection, now) == []
    assert connection.data_to_send() == ping_frame(), "once reading goes on, the peer is asked again"
    assert at(connection, now + TIMEOUT) == [(1006, "no answer to a ping", False)]


@pytest.mark.parametrize("phase", [0.0, 0.25, 1.0])
def test_the_phase_spreads_the_pings_and_leaves_the_interval_alone(phase: float) -> None:
    connection = opened(phase=phase)
    first = BEGIN + INTERVAL * phase
    assert connection.next_deadline() == first
    at(connection, first)
    assert connection.data_to_send() == ping_frame()
    connection.receive_data(pong(b""), first + 1)
    at(connection, first + TIMEOUT)
    assert connection.next_deadline() == first + 1 + INTERVAL


@pytest.mark.parametrize("interval", [0, 0.0, inf])
@pytest.mark.parametrize("phase", [0.0, 0.5, 1.0])
def test_without_an_interval_there_is_no_deadline(interval: float, phase: float) -> None:
    connection = opened((interval, TIMEOUT, CLOSE_TIMEOUT), phase=phase)
    assert connection.next_deadline() is None
    assert at(connection, BEGIN + 1e9) == []
    assert connection.data_to_send() == b""
    connection.close(1000, "", BEGIN)
    assert connection.next_deadline() == BEGIN + CLOSE_TIMEOUT


@pytest.mark.parametrize("timeout", [0, inf])
def test_without_a_timeout_pings_go_on_and_nobody_is_given_up(timeout: float) -> None:
    connection = opened((INTERVAL, timeout, CLOSE_TIMEOUT))
    for count in range(1, 5):
        assert connection.next_deadline() == BEGIN + count * INTERVAL
        assert at(connection, BEGIN + count * INTERVAL) == []
        assert connection.data_to_send() == ping_frame()


def test_a_timeout_longer_than_the_interval_does_not_delay_pings() -> None:
    connection = opened((10, 45, CLOSE_TIMEOUT))
    now = BEGIN + 10
    for _ in range(5):
        at(connection, now)
        assert connection.data_to_send() == ping_frame()
        received(connection, pong(), now)
        received(connection, pong(), now + 1)
        assert at(connection, now + 10) == []
        now += 11
        assert connection.next_deadline() == now


def test_a_timeout_longer_than_the_interval_is_waited_for_in_full() -> None:
    connection = opened((10, 45, CLOSE_TIMEOUT))
    pinged = BEGIN + 10
    at(connection, pinged)
    assert connection.data_to_send() == ping_frame()
    looks = []
    while connection.state is OPEN:
        deadline = connection.next_deadline()
        assert deadline is not None
        looks.append(deadline - pinged)
        events = at(connection, deadline)
    assert looks == [10, 20, 30, 40, 45]
    assert events == [(1006, "no answer to a ping", False)]
    assert connection.data_to_send() == b""


def test_without_a_close_timeout_the_answer_is_awaited_for_ever() -> None:
    connection = opened((INTERVAL, TIMEOUT, inf))
    connection.close(1000, "", BEGIN)
    assert at(connection, BEGIN + 1e9) == []
    assert connection.state is CLOSING


# --- properties

steps = st.one_of(
    st.sampled_from([text("a"), ping(b"p"), pong(), close(1000), close(), frame(7), text("b")[:3], b""]),
    st.sampled_from(["close", "deadline", "deadline paused", "eof", "send"]),
)


@given(st.lists(st.tuples(steps, st.floats(0, 40)), max_size=20), st.floats(0, 1))
def test_any_course_ends_at_most_once_and_sends_at_most_one_close(course, phase: float) -> None:
    connection = opened(phase=phase)
    now, sent, events = BEGIN, b"", []
    for step, passed in course:
        now += passed
        over = connection.state is CLOSED
        if isinstance(step, bytes):
            new = connection.receive_data(step, now)
        elif step == "close":
            new = []
            if connection.state is OPEN:
                connection.close(1000, "", now)
        elif step == "eof":
            new = connection.receive_eof()
        elif step == "send":
            new, sent = [], sent + connection.data_to_send()
        else:
            new = connection.handle_deadline(now, step == "deadline")
        assert not (over and new), "something came after the end"
        events += new
        deadline = connection.next_deadline()
        assert (deadline is None) == (connection.state is CLOSED)
    sent += connection.data_to_send()
    ends = [event for event in events if isinstance(event, Closed)]
    assert len(ends) == (connection.state is CLOSED)
    assert not ends or events[-1] is ends[0]
    assert sent.count(b"\x88") <= 1


# --- the pace of a message


def trickle(size: int, until: float, reading: bool = True) -> tuple[float, list[object], bytes]:
    """Send so many bytes of a long message each second; when that ended, how, and what is sent then."""
    connection = WebSocketProtocol(Decoder(min_rate=10, patience=60), BEGIN, (INTERVAL, TIMEOUT, CLOSE_TIMEOUT))
    received(connection, binary(bytes(1_000_000))[:14])
    now = BEGIN
    while now < until:
        now += 1
        events = received(connection, bytes(size), now) or at(connection, now, reading)
        if events:
            return now - BEGIN, events, connection.data_to_send()
    return now - BEGIN, [], b""


def test_a_message_that_does_not_go_on_is_a_fault() -> None:
    lasted, events, sent = trickle(1, BEGIN + 1000)
    assert 60 <= lasted <= 60 + 2 * INTERVAL + 2
    assert events == [(1008, "message stopped arriving, or arrives too slowly", True)]
    assert sent.endswith(close_frame(1008, "message stopped arriving, or arrives too slowly"))


def test_one_that_goes_on_may_take_as_long_as_it_likes() -> None:
    assert trickle(11, BEGIN + 1000) == (1000, [], b"")


def test_while_nothing_is_read_no_message_can_go_on() -> None:
    assert trickle(1, BEGIN + 1000, reading=False) == (1000, [], b"")
