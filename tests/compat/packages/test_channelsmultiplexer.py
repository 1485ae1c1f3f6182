"""channelsmultiplexer: several consumers, synchronous and asynchronous, behind one socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed

from tests.compat.packages.serving import MakeProject, Server, Socket

SERVE = ["-m", "fairway", "streams.asgi:application", "--port", "0"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(make_layered: MakeProject) -> Iterator[Server]:
    with make_layered("streams").served() as server:
        yield server


def on(stream: str, payload: object) -> dict[str, object]:
    return {"stream": stream, "payload": payload}


@contextmanager
def streams(server: Server, room: str, path: str = "/streams/") -> Iterator[Socket]:
    """A socket of which both consumers that accept have accepted their streams, in whatever order.

    Each test has a room of its own: those of the test before it may leave theirs while it begins.
    """
    with server.connect(f"{path}?{room}") as socket:
        told = [socket.receive(), socket.receive()]
        assert sorted(told, key=str) == [on("echo", "ready"), on("room", "ready")]
        yield socket


def test_one_socket_carries_several_streams(server: Server):
    with streams(server, "lobby") as ann, streams(server, "lobby") as ben:
        for socket in (ann, ben):
            socket.send(on("echo", "here"))
            assert socket.receive() == on("echo", {"echo": "here"})

        ann.send(on("room", {"text": "to everybody"}))

        for socket in (ann, ben):
            assert socket.receive() == on("room", {"text": "to everybody"})


def test_every_consumer_hears_of_the_end(server: Server):
    with streams(server, "hall") as ann:
        ann.send(on("room", {"text": "first"}))
        assert ann.receive() == on("room", {"text": "first"})
        with streams(server, "hall") as ben:
            ben.send(on("room", {"text": "second"}))
            assert ben.receive() == ann.receive() == on("room", {"text": "second"})

        assert ann.receive() == on("room", {"text": "somebody has left"})


def test_the_last_stream_that_closes_closes_the_socket(server: Server):
    with server.connect("/once/") as socket:
        socket.send(on("once", "and no more"))
        assert socket.receive() == on("once", "and no more")
        with pytest.raises(ConnectionClosed) as closed:
            socket.receive()

    assert closed.value.rcvd.code == 4001


def test_a_message_for_no_stream_is_an_error(make_layered: MakeProject):
    """The error of the demultiplexer arrives at the server, although it cancels the consumer that raised it."""
    with make_layered("streams").running(*SERVE) as process:
        with streams(Server(process), "lobby") as socket:
            socket.send(on("unheard-of", "lost"))
            with pytest.raises(ConnectionClosed) as closed:
                socket.receive()
        assert process.find(r"^ValueError: Invalid multiplexed frame received \(stream not mapped\)$")

    assert closed.value.rcvd.code == 1011


def test_instances_serve_a_socket_as_the_package_describes_it(server: Server):
    """One socket only: whoever shares instances between connections, as nobody does any more, mixes them up."""
    with streams(server, "lobby", "/instances/") as socket:
        socket.send(on("echo", "here"))
        assert socket.receive() == on("echo", {"echo": "here"})
        socket.send(on("room", {"text": "and there"}))
        assert socket.receive() == on("room", {"text": "and there"})
