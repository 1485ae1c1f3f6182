"""strawberry-graphql's integration: subscriptions over both WebSocket protocols and over HTTP, mutations, queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.compat.packages.serving import DEADLINE, MakeProject, Server, Socket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# For each subprotocol the types of the messages that subscribe and that carry a result.
PROTOCOLS = {"graphql-transport-ws": ("subscribe", "next"), "graphql-ws": ("start", "data")}
SUBSCRIPTION = 'subscription { listen(rooms: ["hall", "yard"]) { room text } }'


@pytest.fixture(scope="module")
def server(make_layered: MakeProject) -> Iterator[Server]:
    with make_layered("graph").served() as server:
        yield server


@contextmanager
def graphql(server: Server, protocol: str) -> Iterator[Socket]:
    """A socket that has got as far as operations."""
    with server.connect("/graphql", subprotocols=[protocol]) as socket:
        assert socket.connection.subprotocol == protocol
        socket.send({"type": "connection_init"})
        assert socket.receive()["type"] == "connection_ack"
        yield socket


def start(socket: Socket, query: str) -> None:
    kind, _ = PROTOCOLS[socket.connection.subprotocol]
    socket.send({"id": "1", "type": kind, "payload": {"query": query}})


def result(socket: Socket) -> dict[str, Any]:
    _, kind = PROTOCOLS[socket.connection.subprotocol]
    message = socket.receive()
    assert (message["id"], message["type"]) == ("1", kind), message
    assert "errors" not in message["payload"], message
    return message["payload"]["data"]


def post(server: Server, query: str) -> dict[str, Any]:
    response = httpx.post(server.url("/graphql"), json={"query": query}, timeout=DEADLINE)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_one_says_the_others_hear(server: Server, protocol: str):
    with (
        graphql(server, protocol) as ann,
        graphql(server, protocol) as ben,
        graphql(server, "graphql-transport-ws") as eve,
    ):
        for listener in (ann, ben):
            start(listener, SUBSCRIPTION)
            assert result(listener) == {"listen": {"room": "", "text": "subscribed"}}

        start(eve, 'mutation { say(room: "yard", text: "from a socket") }')
        assert result(eve) == {"say": None}
        assert post(server, 'mutation { say(room: "hall", text: "from a request") }') == {"data": {"say": None}}

        for listener in (ann, ben):
            assert result(listener) == {"listen": {"room": "yard", "text": "from a socket"}}
            assert result(listener) == {"listen": {"room": "hall", "text": "from a request"}}


def test_who_has_left_is_no_longer_a_member(server: Server):
    for _ in range(3):
        with graphql(server, "graphql-transport-ws") as ann:
            start(ann, SUBSCRIPTION)
            result(ann)
            post(server, 'mutation { say(room: "hall", text: "once") }')
            assert result(ann) == {"listen": {"room": "hall", "text": "once"}}
            assert ann.hears_nothing(0.1)


@pytest.mark.parametrize("accept", ["multipart/mixed;boundary=graphql;subscriptionSpec=1.0", "text/event-stream"])
def test_a_subscription_over_http_hears_the_layer_too(server: Server, accept: str):
    """While `handle()` runs; in Channels no event of the layer would reach it."""
    request = {"json": {"query": SUBSCRIPTION}, "headers": {"accept": accept}, "timeout": DEADLINE}
    with httpx.stream("POST", server.url("/graphql"), **request) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(accept)
        pieces = response.iter_text()
        body = ""
        while "subscribed" not in body:
            body += next(pieces)
        post(server, 'mutation { say(room: "hall", text: "over HTTP") }')
        while "over HTTP" not in body:
            body += next(pieces)


def test_queries_pages_and_unknown_protocols(server: Server):
    assert post(server, '{ greeting(name: "Ann") }') == {"data": {"greeting": "Hello, Ann"}}
    assert httpx.get(server.url("/about/"), timeout=DEADLINE).text == "a page of Django's own"
    with server.connect("/graphql", subprotocols=["unheard-of"]) as socket:
        with pytest.raises(Exception, match="4406") as closed:
            socket.receive()
        assert closed.value.rcvd.reason == "Subprotocol not acceptable"


def test_the_communicator_for_tests(make_layered: MakeProject):
    assert json.loads(make_layered("graph").run("-m", "graph.rehearsal")) == ["subscribed", "rehearsed"]
