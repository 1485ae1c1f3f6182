"""Event streams, read back by a parser written from the WHATWG HTML standard, sections 9.2.5 and 9.2.6."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairway.delivery import Payload
from fairway.protocols.event_stream import (
    MAX_ID_LENGTH,
    EventEncoder,
    accepts_event_stream,
    checked_id,
    encode_comment,
    encode_event,
    last_event_id_of,
)


@dataclass
class Reader:
    """What an EventSource keeps while it reads, and the events that it dispatched: type, data, last event id."""

    dispatched: list[tuple[str, str, str]] = field(default_factory=list)
    reconnection_time: int | None = None
    last_event_id: str = ""
    data: str = ""
    event_type: str = ""
    id_buffer: str = ""

    def read(self, stream: bytes) -> Reader:
        text = stream.decode("utf-8").removeprefix("\ufeff")
        lines = re.split("\r\n|\n|\r", text)
        for line in lines[:-1]:  # what comes after the last line break is no line yet
            self.take(line)
        return self

    def take(self, line: str) -> None:
        if not line:
            self.dispatch()
        elif line[0] != ":":
            name, _, value = line.partition(":")
            self.process(name, value.removeprefix(" "))

    def process(self, name: str, value: str) -> None:
        if name == "event":
            self.event_type = value
        elif name == "data":
            self.data += value + "\n"
        elif name == "id" and "\0" not in value:
            self.id_buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            self.reconnection_time = int(value)

    def dispatch(self) -> None:
        self.last_event_id = self.id_buffer
        if self.data:
            self.dispatched.append((self.event_type or "message", self.data.removesuffix("\n"), self.last_event_id))
        self.data = self.event_type = ""


texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n: \0\ufeff"))
names = texts.filter(lambda text: not re.search("[\r\n]", text))
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=50).filter(lambda text: text == text.strip(" "))
retries = st.integers(min_value=0)


def as_read(data: str) -> str:
    return re.sub("\r\n|\r", "\n", data)


@given(texts)
@example("")
@example("\n")
@example(" leading\r\n\r\rtrailing \n")
@example("data: x\n\nid: forged")
def test_data_arrives_with_its_line_breaks_as_lf(data: str) -> None:
    assert Reader().read(encode_event(data)).dispatched == [("message", as_read(data), "")]


@given(texts, names, ids, retries)
def test_every_field_arrives(data: str, event: str, id: str, retry: int) -> None:
    reader = Reader().read(encode_event(data, event, id, retry))

    assert reader.dispatched == [(event or "message", as_read(data), id)]
    assert (reader.last_event_id, reader.reconnection_time) == (id, retry)


@given(st.lists(st.tuples(texts, ids)))
def test_events_and_comments_in_a_row_stay_apart(events: list[tuple[str, str]]) -> None:
    stream = b"".join(encode_comment(data) + encode_event(data, id=id) for data, id in events)

    assert Reader().read(stream).dispatched == [("message", as_read(data), id) for data, id in events]


@given(texts)
def test_a_comment_says_nothing(text: str) -> None:
    reader = Reader().read(encode_comment(text))

    assert (reader.dispatched, reader.last_event_id, reader.reconnection_time) == ([], "", None)


def test_what_goes_over_the_wire() -> None:
    assert encode_event("one\ntwo", "news", 7, 3000) == b"event: news\nid: 7\nretry: 3000\ndata: one\ndata: two\n\n"
    assert encode_event("雾") == "data: 雾\n\n".encode()
    assert encode_comment() == b":\n\n"
    assert encode_comment("still here") == b": still here\n\n"


def test_half_a_character_is_sent_with_a_replacement():
    assert encode_event("a\ud800") == "data: a\ufffd\n\n".encode()
    assert encode_comment("\udfff") == ": \ufffd\n\n".encode()


def test_an_id_alone_moves_the_position_and_fires_nothing() -> None:
    reader = Reader().read(encode_event(id="8"))

    assert (reader.dispatched, reader.last_event_id) == ([], "8")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"data": "x", "event": "a\nb"}, r"an event's name is one line: 'a\\nb'"),
        ({"data": "x", "event": "a\r"}, "an event's name is one line"),
        ({"data": "x", "id": "a\0"}, r"an event's id has no control characters, and no blank at its ends: 'a\\x00'"),
        ({"data": "x", "id": "a\rb"}, "an event's id has no control characters"),
        ({"data": "x", "id": "a\n"}, "an event's id has no control characters"),
        ({"data": "x", "id": " a"}, "no blank at its ends"),
        ({"data": "x", "id": "a" * 1025}, "an event's id has at most 1024 characters, not 1025"),
        ({"data": "x", "retry": -1}, "retry is a whole number of milliseconds, not -1"),
        ({"data": "x", "retry": 1.5}, "retry is a whole number of milliseconds, not 1.5"),
        ({"data": {"a": 1}}, r"the data of an event is text, not dict: see send_event_json\(\)"),
        ({}, "an event needs data, or at least an id or a retry"),
        ({"event": "a"}, "an event needs data, or at least an id or a retry"),
    ],
    ids=str,
)
def test_what_the_format_cannot_carry_is_refused(fields: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        encode_event(**fields)


def test_a_broadcast_is_encoded_once_for_all_streams() -> None:
    payload, encoder = Payload("fog"), EventEncoder()

    assert payload.form(encoder) == b"data: fog\n\n"
    assert payload.form(encoder) is payload.form(encoder)
    with pytest.raises(ValueError, match="an event stream carries text: broadcast text_data"):
        Payload(data=b"fog").form(encoder)


@pytest.mark.parametrize(
    ("accept", "is_let_through"),
    [
        ("text/event-stream", True),  # EventSource
        ("*/*", True),  # curl, fetch, httpx
        ("", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),  # the address bar
        ("application/json, Text/Event-Stream;q=0.5", True),
        ("text/*;q=0.1", True),
        ("text/event-stream;q=high", True),
        ("application/json", False),
        ("text/event-stream;q=0, */*", False),
        ("text/event-stream; q=0.0", False),
        ("text/html", False),
    ],
)
def test_who_does_not_want_an_event_stream(accept: str, is_let_through: bool) -> None:
    assert accepts_event_stream(accept) is is_let_through


def scope(header: bytes | None = None, query: bytes = b"") -> dict:
    return {"headers": [] if header is None else [(b"last-event-id", header)], "query_string": query}


@given(ids)
def test_an_id_that_was_sent_comes_back(id: str) -> None:
    assert last_event_id_of(scope(checked_id(id).encode()), None) == id


def test_the_id_of_the_header_wins_over_the_one_of_the_query() -> None:
    assert last_event_id_of(scope(), "since") == ""
    assert last_event_id_of(scope(query=b"since=7&x=1"), "since") == "7"
    assert last_event_id_of(scope(query=b"since=%E9%9B%BE"), "since") == "雾"
    assert last_event_id_of(scope(b"8", b"since=7"), "since") == "8"
    assert last_event_id_of(scope(query=b"since=7"), None) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        scope(b"\xff"),
        scope(b"a\tb"),
        scope(b"x" * (MAX_ID_LENGTH + 1)),
        scope(query=b"since=a%00"),
        scope(query=b"since=a%0Ab"),
        scope(query=b"since=%ff"),
        scope(query=b"&".join([b"a=1"] * 101)),
    ],
    ids=str,
)
def test_what_cannot_be_an_id_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r".+"):
        last_event_id_of(wrong, "since")
