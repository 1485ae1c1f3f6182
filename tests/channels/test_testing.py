"""`channels.testing`: the communicators."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator as AsgirefCommunicator
from django.db import connection

import channels.testing
from channels.db import aclose_old_connections, connections_need_closing, database_sync_to_async
from channels.testing import ApplicationCommunicator, HttpCommunicator, WebsocketCommunicator


async def forever() -> None:
    await asyncio.Event().wait()


def test_exported_names():
    assert {"ApplicationCommunicator", "HttpCommunicator", "WebsocketCommunicator"} <= set(channels.testing.__all__)
    assert all(hasattr(channels.testing, name) for name in channels.testing.__all__)


# ApplicationCommunicator


async def echo(scope, receive, send):
    while True:
        message = await receive()
        if message["type"] == "end":
            return
        await send({"echo": message["text"]})


async def test_messages_go_in_and_come_out():
    communicator = ApplicationCommunicator(echo, {})
    assert isinstance(communicator, AsgirefCommunicator)

    await communicator.send_input({"type": "say", "text": "hello"})
    assert await communicator.receive_output() == {"echo": "hello"}
    await communicator.send_input({"type": "end"})
    await communicator.wait()


async def test_application_gets_the_scope_object_itself_on_first_use():
    seen = []

    async def application(scope, receive, send):
        seen.append(scope)

    scope = {"type": "websocket"}
    communicator = ApplicationCommunicator(application, scope)
    communicator.scope["user"] = "ann"
    assert seen == []
    await communicator.wait()

    assert seen[0] is scope
    assert communicator.scope is scope


async def test_application_runs_in_a_fresh_context():
    variable = contextvars.ContextVar("variable", default="fresh")

    async def application(scope, receive, send):
        await send({"value": variable.get()})

    variable.set("of the test")
    communicator = ApplicationCommunicator(application, {})
    assert await communicator.receive_output() == {"value": "fresh"}
    await communicator.wait()


@pytest.mark.parametrize("wait", [ApplicationCommunicator.wait, ApplicationCommunicator.receive_output])
async def test_error_of_the_application_comes_out_at_once_where_the_test_waits(wait):
    async def application(scope, receive, send):
        await asyncio.sleep(0)
        raise LookupError("no such room")

    with pytest.raises(LookupError, match="no such room"):
        await wait(ApplicationCommunicator(application, {}), timeout=1000)


async def test_messages_before_an_error_come_first():
    async def application(scope, receive, send):
        await receive()
        await send({"number": 1})
        await send({"number": 2})
        await receive()
        raise LookupError("no such room")

    communicator = ApplicationCommunicator(application, {})
    await communicator.send_input({})
    assert [await communicator.receive_output() for _ in range(2)] == [{"number": 1}, {"number": 2}]
    await communicator.send_input({})
    with pytest.raises(LookupError, match="no such room"):
        await communicator.receive_output()


async def test_message_of_a_task_that_outlives_the_application_is_received():
    tasks = []

    async def application(scope, receive, send):
        async def later():
            await receive()
            await send({"late": True})

        tasks.append(asyncio.create_task(later()))

    communicator = ApplicationCommunicator(application, {})
    output = asyncio.create_task(communicator.receive_output())
    await asyncio.sleep(0)
    await communicator.wait()
    await communicator.input_queue.put({})
    assert await output == {"late": True}


async def test_time_out_cancels_the_application_and_what_follows():
    async def application(scope, receive, send):
        await forever()

    communicator = WebsocketCommunicator(application, "/")
    with pytest.raises(asyncio.TimeoutError):
        await communicator.receive_output(timeout=0.001)
    with pytest.raises(asyncio.CancelledError):
        await communicator.send_input({"type": "websocket.receive", "text": "x"})
    with pytest.raises(asyncio.CancelledError):
        await communicator.disconnect()


async def test_two_argument_applications_are_taken():
    def application(scope):
        async def instance(receive, send):
            await send({"type": scope["type"]})

        return instance

    communicator = ApplicationCommunicator(application, {"type": "old"})
    assert await communicator.receive_output() == {"type": "old"}
    await communicator.wait()


# ApplicationCommunicator: the connection of a test


def is_open() -> bool:
    return connection.connection is not None


async def database_user(scope, receive, send):
    await receive()
    await send({"open": await database_sync_to_async(ensure)()})
    await receive()
    await aclose_old_connections()
    await send({"open": await sync_to_async(is_open)(), "need": connections_need_closing()})
    await receive()


def ensure() -> bool:
    connection.ensure_connection()
    return is_open()


def close() -> None:
    connection.close()


@pytest.mark.django_db(transaction=True)
async def test_application_closes_no_connection():
    await sync_to_async(close)()
    communicator = ApplicationCommunicator(database_user, {})
    await communicator.send_input({})
    assert await communicator.receive_output() == {"open": True}

    await database_sync_to_async(is_open)()
    assert await sync_to_async(is_open)()
    await communicator.send_input({})
    assert await communicator.receive_output() == {"open": True, "need": False}

    await communicator.send_input({})
    await communicator.wait()
    await aclose_old_connections()
    assert not await sync_to_async(is_open)()


@pytest.mark.django_db(transaction=True)
async def test_replaced_close_old_connections_is_called(monkeypatch):
    calls = []
    monkeypatch.setattr("channels.db.close_old_connections", lambda: calls.append(1))

    async def application(scope, receive, send):
        assert connections_need_closing()
        await aclose_old_connections()
        await database_sync_to_async(bool)()

    await ApplicationCommunicator(application, {}).wait()
    assert len(calls) == 3


async def test_abandoned_communicator_holds_nothing():
    async def application(scope, receive, send):
        await forever()

    communicator = ApplicationCommunicator(application, {})
    await communicator.send_input({})
    await asyncio.sleep(0)
    assert channels.db._holders == 1
    communicator.stop(exceptions=False)
    await asyncio.sleep(0)
    assert channels.db._holders == 0


# HttpCommunicator


class Page:
    """Answers with what it was asked."""

    def __init__(self, *messages):
        self.messages = messages
        self.scope = None

    async def __call__(self, scope, receive, send):
        self.scope = scope
        self.request = await receive()
        for message in self.messages:
            await send(message)


async def test_http_scope():
    page = Page({"type": "http.response.start", "status": 204}, {"type": "http.response.body", "body": b""})
    headers = [(b"host", b"example.com")]
    communicator = HttpCommunicator(page, "post", "/a%20b/?q=%20&r=1", body=b"form", headers=headers)
    await communicator.get_response()

    assert page.scope == {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/a b/",
        "query_string": b"q=%20&r=1",
        "headers": headers,
    }
    assert page.request["body"] == b"form"
    assert not page.request.get("more_body")


async def test_http_response_is_put_together():
    page = Page(
        {"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/plain")]},
        {"type": "http.response.body", "body": b"hello ", "more_body": True},
        {"type": "http.response.body", "body": b"world"},
    )
    communicator = HttpCommunicator(page, "GET", "/")
    response = await communicator.get_response(timeout=1)

    assert response == {"status": 200, "headers": [(b"Content-Type", b"text/plain")], "body": b"hello world"}
    assert await communicator.get_response() is response


async def test_http_response_without_headers_has_an_empty_list():
    page = Page({"type": "http.response.start", "status": 200}, {"type": "http.response.body", "body": b""})
    assert (await HttpCommunicator(page, "GET", "/").get_response())["headers"] == []


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([{"type": "http.response.body", "body": b""}], "Expected a response, but got"),
        ([{"type": "http.response.start", "status": 200}] * 2, "Expected a part of the body, but got"),
        ([{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}], "has no 'body'"),
    ],
)
async def test_http_response_out_of_order_fails(messages, complaint):
    with pytest.raises(AssertionError, match=complaint):
        await HttpCommunicator(Page(*messages), "GET", "/").get_response()


def test_http_body_is_bytes():
    with pytest.raises(AssertionError, match="The body must be of type bytes"):
        HttpCommunicator(Page(), "GET", "/", body="text")


# WebsocketCommunicator


class Socket:
    """Answers `websocket.connect` with `answers`, then echoes."""

    def __init__(self, *answers):
        self.answers = answers
        self.messages = []

    async def __call__(self, scope, receive, send):
        while True:
            message = await receive()
            self.messages.append(message)
            if message["type"] == "websocket.connect":
                for answer in self.answers:
                    await send(answer)
            elif message["type"] == "websocket.receive":
                await send({**message, "type": "websocket.send"})
            else:
                return


ACCEPT = {"type": "websocket.accept"}


@pytest.mark.parametrize("path", [b"/bytes/", None, 1])
def test_websocket_path_is_text(path):
    with pytest.raises(TypeError, match=f"Expected str, got {type(path)}"):
        WebsocketCommunicator(Socket(), path)


@pytest.mark.parametrize("url", ["/a%20b/?q=1&r=%20", "ws://example.com:8000/a%20b/?q=1&r=%20"])
def test_websocket_scope(url):
    headers = [(b"origin", b"http://example.com")]
    communicator = WebsocketCommunicator(Socket(), url, headers=headers, subprotocols=["v1"])
    assert communicator.scope == {
        "type": "websocket",
        "path": "/a b/",
        "query_string": b"q=1&r=%20",
        "headers": headers,
        "subprotocols": ["v1"],
    }


def test_websocket_scope_without_options():
    scope = WebsocketCommunicator(Socket(), "/", spec_version="2.3").scope
    assert scope == {
        "type": "websocket",
        "path": "/",
        "query_string": b"",
        "headers": [],
        "subprotocols": [],
        "spec_version": "2.3",
    }


async def test_websocket_accepts_talks_and_ends():
    socket = Socket({**ACCEPT, "subprotocol": "v1", "headers": [[b"foo", b"bar"]]})
    communicator = WebsocketCommunicator(socket, "/")

    assert communicator.response_headers is None
    assert await communicator.connect() == (True, "v1")
    assert communicator.response_headers == [[b"foo", b"bar"]]
    await communicator.send_to(text_data="hello")
    assert await communicator.receive_from() == "hello"
    await communicator.send_to(bytes_data=b"\x00\xff")
    assert await communicator.receive_from() == b"\x00\xff"
    await communicator.send_json_to({"hello": ["world"]})
    assert await communicator.receive_json_from() == {"hello": ["world"]}
    await communicator.disconnect(code=4000)

    assert socket.messages[0] == {"type": "websocket.connect"}
    assert socket.messages[-1] == {"type": "websocket.disconnect", "code": 4000}


async def test_websocket_accepts_without_options():
    communicator = WebsocketCommunicator(Socket(ACCEPT), "/")
    assert await communicator.connect() == (True, None)
    assert communicator.response_headers == []
    await communicator.disconnect()
    await communicator.wait()


@pytest.mark.parametrize(("answer", "code"), [({"code": 4003}, 4003), ({}, 1000)])
async def test_websocket_rejected(answer, code):
    communicator = WebsocketCommunicator(Socket({"type": "websocket.close", **answer}), "/")
    assert await communicator.connect() == (False, code)
    await communicator.disconnect()


async def test_websocket_rejected_with_a_response():
    communicator = WebsocketCommunicator(
        Socket(
            {"type": "websocket.http.response.start", "status": 403, "headers": [(b"x", b"y")]},
            {"type": "websocket.http.response.body", "body": b"go ", "more_body": True},
            {"type": "websocket.http.response.body", "body": b"away"},
        ),
        "/",
    )
    communicator.scope["extensions"] = {"websocket.http.response": {}}

    assert await communicator.connect() == (False, 403)
    assert communicator.denial_response == {"status": 403, "headers": [(b"x", b"y")], "body": b"go away"}
    await communicator.disconnect()


async def test_websocket_that_answers_with_something_else_fails():
    communicator = WebsocketCommunicator(Socket({"type": "websocket.send", "text": "early"}), "/")
    with pytest.raises(AssertionError, match=r"Expected type 'websocket\.accept', but was 'websocket\.send'"):
        await communicator.connect()
    await communicator.disconnect()


@pytest.mark.parametrize("data", [{}, {"text_data": "a", "bytes_data": b"b"}, {"text_data": "", "bytes_data": b""}])
async def test_send_to_takes_exactly_one(data):
    with pytest.raises(AssertionError, match="exactly one of text_data or bytes_data"):
        await WebsocketCommunicator(Socket(), "/").send_to(**data)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [({"text_data": b"a"}, "text_data argument must be of type str"), ({"bytes_data": "a"}, "must be of type bytes")],
)
async def test_send_to_checks_types(data, complaint):
    with pytest.raises(AssertionError, match=complaint):
        await WebsocketCommunicator(Socket(), "/").send_to(**data)


@pytest.mark.parametrize("data", [{"text_data": ""}, {"bytes_data": b""}, {"text_data": "", "bytes_data": b"x"}])
async def test_empty_messages_can_be_sent(data):
    communicator = WebsocketCommunicator(Socket(ACCEPT), "/")
    await communicator.connect()
    await communicator.send_to(**data)
    assert await communicator.receive_from() == (data.get("bytes_data") or next(iter(data.values())))
    await communicator.disconnect()


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ({"type": "websocket.close"}, "^Expected type 'websocket.send', but was 'websocket.close'"),
        ({"type": "websocket.send"}, "exactly one of 'text' and 'bytes'"),
        ({"type": "websocket.send", "text": "a", "bytes": b"a"}, "exactly one of 'text' and 'bytes'"),
        ({"type": "websocket.send", "text": b"a"}, "Text frame payload is not str"),
        ({"type": "websocket.send", "bytes": "a"}, "Binary frame payload is not bytes"),
    ],
)
async def test_receive_from_checks_the_message(message, complaint):
    communicator = WebsocketCommunicator(Socket(ACCEPT, message), "/")
    await communicator.connect()
    with pytest.raises(AssertionError, match=complaint):
        await communicator.receive_from()
    await communicator.disconnect()


@pytest.mark.parametrize("message", [{"text": "a", "bytes": None}, {"text": None, "bytes": b"a"}])
async def test_receive_from_takes_none_for_absent(message):
    communicator = WebsocketCommunicator(Socket(ACCEPT, {"type": "websocket.send", **message}), "/")
    await communicator.connect()
    assert await communicator.receive_from() in ("a", b"a")
    await communicator.disconnect()


async def test_json_has_to_be_text():
    communicator = WebsocketCommunicator(Socket(ACCEPT), "/")
    await communicator.connect()
    await communicator.send_to(bytes_data=b"{}")
    with pytest.raises(AssertionError, match="JSON data is not a text frame"):
        await communicator.receive_json_from()
    await communicator.disconnect()
