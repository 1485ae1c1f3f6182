"""Log lines: their formats, and that a peer can neither forge, leak into, nor flood them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.server.access import AccessLog, client_text, escaped, fields_of, path_text, redacted, target_text

CLIENT = ("127.0.0.1", 5123)


def http_scope(path: bytes = b"/path", query: bytes = b"", **changes: Any) -> dict[str, Any]:
    scope = {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "path": path.decode(),
        "raw_path": path,
        "query_string": query,
        "client": CLIENT,
    }
    return {**scope, **changes}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger="fairway")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("fairway")]


def test_request_line(lines: Any):
    AccessLog().http_finished(http_scope(query=b"x=1"), 200, 512, 0.0034)

    assert lines() == ['127.0.0.1:5123 "GET /path?x=1 HTTP/1.1" 200 512 0.003']


def test_request_without_a_response_has_a_dash(lines: Any):
    AccessLog().http_finished(http_scope(), None, 0, 1.5)

    assert lines() == ['127.0.0.1:5123 "GET /path HTTP/1.1" - 0 1.500']


def test_websocket_lines(lines: Any):
    log, scope = AccessLog(), http_scope(b"/ws/", b"a=b")
    log.websocket_connecting(scope)
    log.websocket_connected(scope)
    log.websocket_rejected(scope, 403)
    log.websocket_disconnected(scope, 1000, 12.34)

    assert lines() == [
        '127.0.0.1:5123 "WS /ws/?a=b" connected',
        '127.0.0.1:5123 "WS /ws/?a=b" rejected 403',
        '127.0.0.1:5123 "WS /ws/?a=b" disconnected 1000 12.3s',
    ]


@pytest.mark.parametrize(("wanted", "level"), [(False, logging.INFO), (True, logging.WARNING)])
def test_nothing_is_written_unless_wanted(wanted: bool, level: int, lines: Any, caplog: pytest.LogCaptureFixture):
    caplog.set_level(level, logger="fairway.access")
    log = AccessLog(wanted)
    log.http_finished(http_scope(), 200, 1, 0.1)
    log.websocket_connected(http_scope())
    log.websocket_rejected(http_scope(), 403)
    log.websocket_disconnected(http_scope(), 1000, 1)

    assert not log.enabled
    assert lines() == []


@pytest.mark.parametrize(
    ("client", "text"),
    [
        (CLIENT, "127.0.0.1:5123"),
        (["::1", 80], "[::1]:80"),
        (("/run/app.sock", None), "/run/app.sock"),
        (("", None), "-"),
        (None, "-"),
    ],
)
def test_client(client: Any, text: str):
    assert client_text({"client": client}) == text
    assert client_text({}) == "-"


def test_line_cannot_be_forged():
    target = target_text(http_scope(b'/a"b\\c\nx\x1b[31m\x7f', b'q=\r\n"'))

    assert target == '/a\\"b\\\\c\\x0ax\\x1b[31m\\x7f?q=\\x0d\\x0a\\"'


def test_path_is_shown_as_it_was_sent():
    assert path_text(http_scope(b"/caf%C3%A9", b"token=1")) == "/caf%C3%A9"
    assert path_text({"path": "/café \N{HUNDRED POINTS SYMBOL}"}) == "/caf\\xe9 \\U0001f4af"
    assert path_text({"path": "/\N{EURO SIGN}"}) == "/\\u20ac"


@pytest.mark.parametrize(
    "name",
    [
        "token", "access_token", "id-token", "csrfmiddlewaretoken", "jwt", "key", "api_key", "api-key", "apikey",
        "password", "secret", "client_secret", "session", "sessionid", "code", "signature", "X-Amz-Signature",
        "TOKEN", "%74oken", "sig",
    ],
)  # fmt: skip
def test_credentials_are_redacted(name: str):
    query = f"room=1&{name}=s3cr3t&x=2".encode()

    assert redacted(query) == f"room=1&{name}=***&x=2".encode()


@pytest.mark.parametrize("query", [b"", b"x", b"room=token&zip_code=1", b"monkey=1", b"a=b=c&&d", b"token"])
def test_the_rest_of_a_query_is_not_touched(query: bytes):
    assert redacted(query) == query


def test_value_is_redacted_up_to_the_next_parameter():
    assert redacted(b"token=a=b;c&d=e&key=") == b"token=***&d=e&key=***"


def test_length_is_capped_after_redaction():
    text = target_text(http_scope(b"/" + b"a" * 5000, b"token=secret"))

    assert text == "/" + "a" * 1023 + "..."
    assert "secret" not in target_text(http_scope(b"/" + b"a" * 1010, b"token=secret"))


def test_only_so_much_of_a_query_is_looked_at_as_is_shown():
    secret = b"token=" + b"s" * 2000 + b"&x=1"

    assert target_text(http_scope(query=secret)) == "/path?token=***..."
    assert fields_of(http_scope(query=secret))["path"] == "/path?token=***..."
    looked_at = []

    class Query(bytes):
        def __getitem__(self, key: Any) -> Any:
            looked_at.append(key)
            return super().__getitem__(key)

        def split(self, *_: Any) -> Any:
            raise AssertionError("all of it is looked at")

    assert len(target_text(http_scope(query=Query(b"a=&" * 20_000)))) < 1100
    assert looked_at == [slice(None, 1024)]


@given(st.text(max_size=200))
def test_escaped_text_is_one_printable_line(text: str):
    safe = escaped(text, 50)

    assert safe.isascii()
    assert safe.isprintable()
    assert safe.replace("\\\\", "").replace('\\"', "").count('"') == 0


@given(st.binary(max_size=60), st.sampled_from([b"token", b"api_key", b"%6bey"]))
def test_no_query_leaks_the_value_of_a_credential(noise: bytes, name: bytes):
    query = noise + b"&" + name + b"=TOPSECRET"

    assert b"TOPSECRET" not in redacted(query)


def test_a_record_has_fields_for_programs(caplog: pytest.LogCaptureFixture) -> None:
    scope = {
        "type": "http", "client": ("10.0.0.7", 5), "method": "GET", "http_version": "1.1", "path": "/a",
        "raw_path": b"/a%0a\xff", "query_string": b"token=s3cret&x=1",
        "headers": [(b"host", b"x"), (b"user-agent", b'evil"\xff')],
    }  # fmt: skip
    with caplog.at_level(logging.INFO, "fairway.access"):
        log = AccessLog(with_fields=True)
        log.http_finished(scope, 200, 512, 0.0123456789)
        log.http_finished({**scope, "client": None, "headers": []}, None, 0, 1.0)
        log.websocket_connected(scope)
        log.websocket_rejected(scope, 403)
        log.websocket_disconnected(scope, 1000, 12.3456)
    whose = {"address": "10.0.0.7", "path": "/a%0a\xff?token=***&x=1", "user_agent": 'evil"\xff'}
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert fields == [
        {**whose, "method": "GET", "http_version": "1.1", "status": 200, "bytes": 512, "duration": 0.012346},
        {
            "address": None, "path": whose["path"],
            "method": "GET", "http_version": "1.1", "status": None, "bytes": 0, "duration": 1.0,
        },
        {**whose, "event": "connected"},
        {**whose, "event": "rejected", "status": 403},
        {**whose, "event": "disconnected", "code": 1000, "duration": 12.346},
    ]  # fmt: skip


def test_a_record_for_people_has_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fairway.access"):
        AccessLog().websocket_connected({"path": "/", "client": None})
    assert not hasattr(caplog.records[0], "fields")
