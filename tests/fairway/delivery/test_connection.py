"""`reader_of` and `connection_of`: an unwrapped callable leads to its connection, and nothing else does."""

from __future__ import annotations

import functools

from tests.fairway.delivery.doubles import FakeConnection

from fairway.delivery import Reader, connection_of, reader_of


def test_the_bound_methods_of_a_connection_lead_to_it():
    socket = FakeConnection()
    assert reader_of(socket.receive) is socket
    assert connection_of(socket.send) is socket


def test_what_is_only_read_from_is_no_connection():
    class Instance(Reader):
        async def receive(self):
            return {"type": "work"}

        async def send(self, message): ...

    instance = Instance()
    assert reader_of(instance.receive) is instance
    assert connection_of(instance.send) is None


def test_nothing_else_leads_to_a_connection():
    socket = FakeConnection()

    @functools.wraps(socket.send)
    async def wrapper(message):
        await socket.send(message)

    class Other:
        async def send(self, message): ...

    wrapper.__self__ = socket
    others = [wrapper, functools.partial(socket.send), socket.receive, socket.broadcast, Other().send, print]
    assert [connection_of(other) for other in others] == [None] * len(others)
