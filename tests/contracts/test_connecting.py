"""Connecting: accepting, rejecting, subprotocols, headers, what the scope says."""

from __future__ import annotations

import asyncio

import pytest

from channels.exceptions import AcceptConnection, DenyConnection
from tests.contracts.carriers import Carrier, Ended, Rejected
from tests.contracts.journal import Journal
from tests.contracts.twins import Steps, Twin


@pytest.fixture(autouse=True)
def quiet_layer(layer) -> None:
    """Every consumer here has the in-memory layer."""


async def test_a_consumer_accepts_unless_it_says_otherwise(carrier: Carrier, twin: Twin):
    class Plain:
        pass

    await carrier.serve(twin(Plain).as_asgi())
    client = await carrier.connect()
    assert client.subprotocol is None
    await client.close()
    await carrier.finished()
    assert carrier.errors == []


async def test_accept_names_a_subprotocol_and_headers(carrier: Carrier, twin: Twin):
    class Choosing:
        def connect(self) -> Steps:
            chosen = self.scope["subprotocols"][1]
            yield self.accept(subprotocol=chosen, headers=[(b"x-room", b"blue"), (b"set-cookie", b"a=b")])

    await carrier.serve(twin(Choosing).as_asgi())
    client = await carrier.connect(subprotocols=["one", "two"])
    assert client.subprotocol == "two"
    assert {(b"x-room", b"blue"), (b"set-cookie", b"a=b")} <= set(client.headers)


async def test_the_scope_carries_path_query_and_headers(carrier: Carrier, twin: Twin):
    class Telling:
        def connect(self) -> Steps:
            yield self.accept()
            headers = dict(self.scope["headers"])
            told = (self.scope["path"], self.scope["query_string"].decode(), headers[b"x-name"].decode())
            yield self.send("|".join(told))

    await carrier.serve(twin(Telling).as_asgi())
    client = await carrier.connect("/room/caf%C3%A9/?a=1&b=%20", headers=[(b"x-name", b"value")])
    assert await client.receive() == "/room/café/|a=1&b=%20|value"


@pytest.mark.parametrize("how", ["close", "deny"])
async def test_a_rejection_is_answered_and_disconnect_follows(carrier: Carrier, twin: Twin, journal: Journal, how: str):
    class Closed:
        def connect(self) -> Steps:
            if how == "deny":
                raise DenyConnection
            yield self.close()

        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield

    await carrier.serve(twin(Closed).as_asgi())
    with pytest.raises(Rejected) as refusal:
        await carrier.connect()
    assert refusal.value.answer == carrier.traits.rejection
    await carrier.finished()
    assert journal == [carrier.traits.code_after_rejection]
    assert carrier.errors == []


async def test_accept_connection_accepts(carrier: Carrier, twin: Twin):
    class Raising:
        def connect(self) -> Steps:
            raise AcceptConnection
            yield

        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.send(text_data)

    await carrier.serve(twin(Raising).as_asgi())
    client = await carrier.connect()
    await client.send_text("hello")
    assert await client.receive() == "hello"


async def test_connect_may_accept_send_and_close(carrier: Carrier, twin: Twin, journal: Journal):
    class Short:
        def connect(self) -> Steps:
            yield self.accept()
            yield self.send("history 1")
            yield self.send("history 2")
            yield self.close(4001, "enough")

        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield

    await carrier.serve(twin(Short).as_asgi())
    client = await carrier.connect()
    assert [await client.receive(), await client.receive()] == ["history 1", "history 2"]
    assert await client.ended() == Ended(4001, "enough")
    await carrier.finished()
    assert journal == [4001]


async def test_a_consumer_that_only_answers_later_keeps_the_client_waiting(
    carrier: Carrier, twin: Twin, journal: Journal, layer
):
    class Later:
        def connect(self) -> Steps:
            journal.note(self.channel_name)
            yield

        def let_in(self, message) -> Steps:
            yield self.accept()

    await carrier.serve(twin(Later).as_asgi())
    connecting = asyncio.ensure_future(carrier.connect())
    await journal.length(1)
    assert not connecting.done()
    await layer.send(journal[0], {"type": "let.in"})
    await connecting


async def test_arguments_of_as_asgi_reach_each_new_instance(carrier: Carrier, twin: Twin):
    class Greeting:
        greeting = "hello"

        def __init__(self, greeting: str) -> None:
            self.greeting = greeting
            self.groups = []
            self.seen = 0

        def connect(self) -> Steps:
            self.seen += 1
            yield self.accept()
            yield self.send(f"{self.greeting} {self.seen}")

    await carrier.serve(twin(Greeting).as_asgi(greeting="bonjour"))
    first, second = await carrier.connect(), await carrier.connect()
    assert [await first.receive(), await second.receive()] == ["bonjour 1", "bonjour 1"]


async def test_an_instance_is_an_application_for_several_scopes_in_turn(carrier: Carrier, twin: Twin):
    class Counting:
        seen = 0

        def connect(self) -> Steps:
            self.seen += 1
            yield self.accept()
            yield self.send(str(self.seen))

    await carrier.serve(twin(Counting)())
    for number in ("1", "2", "3"):
        client = await carrier.connect()
        assert await client.receive() == number
        await client.close()
        await carrier.finished(int(number))
    assert carrier.errors == []
