"""Messages of a client and to it: text, bytes, JSON, and what they may not be."""

from __future__ import annotations

import json

import pytest

from tests.contracts.carriers import Carrier, Ended
from tests.contracts.journal import Journal
from tests.contracts.twins import Steps, Twin


class Echo:
    def receive(self, text_data=None, bytes_data=None) -> Steps:
        yield self.send(text_data=text_data, bytes_data=bytes_data)


class Report:
    """Says which keyword arguments `receive` was called with."""

    def receive(self, **arguments) -> Steps:
        yield self.send(repr(arguments))


@pytest.mark.parametrize("text", ["hello", "", "héllo ☃ 🎈", "x" * 70_000], ids=["short", "empty", "unicode", "long"])
async def test_text_comes_back(carrier: Carrier, twin: Twin, text: str):
    await carrier.serve(twin(Echo).as_asgi())
    client = await carrier.connect()
    await client.send_text(text)
    assert await client.receive() == text


@pytest.mark.parametrize("data", [b"\x00\xff", b"", b"x" * 70_000], ids=["short", "empty", "long"])
async def test_bytes_come_back(carrier: Carrier, twin: Twin, data: bytes):
    await carrier.serve(twin(Echo).as_asgi())
    client = await carrier.connect()
    await client.send_bytes(data)
    assert await client.receive() == data


async def test_receive_gets_one_keyword_argument(carrier: Carrier, twin: Twin):
    await carrier.serve(twin(Report).as_asgi())
    client = await carrier.connect()
    await client.send_text("")
    await client.send_bytes(b"")
    assert await client.receive() == "{'text_data': ''}"
    assert await client.receive() == "{'bytes_data': b''}"


async def test_messages_are_handled_one_by_one_and_in_order(carrier: Carrier, twin: Twin):
    await carrier.serve(twin(Echo).as_asgi())
    client = await carrier.connect()
    for number in range(200):
        await client.send_text(str(number))
    assert [await client.receive() for _ in range(200)] == [str(number) for number in range(200)]


async def test_the_default_receive_ignores_messages(carrier: Carrier, twin: Twin, journal: Journal):
    class Deaf:
        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield

    await carrier.serve(twin(Deaf).as_asgi())
    client = await carrier.connect()
    await client.send_text("anybody there?")
    await client.close(3000)
    await carrier.finished()
    assert (journal, carrier.errors) == ([3000], [])


async def test_send_needs_text_or_bytes(carrier: Carrier, twin: Twin):
    class Silent:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.send()

    await carrier.serve(twin(Silent).as_asgi())
    client = await carrier.connect()
    await client.send_text("go")
    assert (await client.ended()).code == carrier.traits.code_of_failure
    await carrier.finished()
    (error,) = carrier.errors
    assert isinstance(error, ValueError)
    assert str(error) == "You must pass one of bytes_data or text_data"


# JSON ----------------------------------------------------------------------------------------------------------------


class JsonEcho:
    def receive_json(self, content=None) -> Steps:
        yield self.send_json({"got": content})


@pytest.mark.parametrize("content", [{"a": [1, None]}, [], "text", 0, None, False])
async def test_json_comes_back(carrier: Carrier, twin: Twin, content):
    await carrier.serve(twin(JsonEcho, json=True).as_asgi())
    client = await carrier.connect()
    await client.send_text(json.dumps(content))
    assert json.loads(await client.receive()) == {"got": content}


@pytest.mark.parametrize("text", ["{", "not json", "[1,"])
async def test_malformed_json_fails_the_consumer(carrier: Carrier, twin: Twin, journal: Journal, text: str):
    class Failing:
        receive_json = JsonEcho.receive_json

        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield

    await carrier.serve(twin(Failing, json=True).as_asgi())
    client = await carrier.connect()
    await client.send_text(text)
    assert (await client.ended()).code == carrier.traits.code_of_failure
    await carrier.finished()
    assert journal == [1011]
    (error,) = carrier.errors
    assert isinstance(error, json.JSONDecodeError)


@pytest.mark.parametrize("kind", ["bytes", "empty text"])
async def test_json_consumers_need_text(carrier: Carrier, twin: Twin, kind: str):
    await carrier.serve(twin(JsonEcho, json=True).as_asgi())
    client = await carrier.connect()
    if kind == "bytes":
        await client.send_bytes(b"{}")
    else:
        await client.send_text("")
    assert (await client.ended()).code == carrier.traits.code_of_failure
    await carrier.finished()
    (error,) = carrier.errors
    assert isinstance(error, ValueError)
    assert str(error) == "No text section for incoming WebSocket frame!"


async def test_json_can_be_encoded_another_way(carrier: Carrier, twin: Twin):
    class Shouting:
        receive_json = JsonEcho.receive_json

        @classmethod
        def decode_json(cls, text_data) -> Steps:
            yield
            return text_data.upper()

        @classmethod
        def encode_json(cls, content) -> Steps:
            yield
            return repr(content)

    await carrier.serve(twin(Shouting, json=True).as_asgi())
    client = await carrier.connect()
    await client.send_text("hello")
    assert await client.receive() == "{'got': 'HELLO'}"


async def test_send_json_goes_past_the_consumers_own_send(carrier: Carrier, twin: Twin):
    class Own:
        receive_json = JsonEcho.receive_json

        def send(self, *args, **kwargs) -> Steps:
            raise AssertionError("send_json() calls the send() of its own base class")
            yield

    await carrier.serve(twin(Own, json=True).as_asgi())
    client = await carrier.connect()
    await client.send_text("1")
    assert await client.receive() == '{"got": 1}'


async def test_send_json_can_close(carrier: Carrier, twin: Twin):
    class Last:
        def receive_json(self, content) -> Steps:
            yield self.send_json(content, close=4321)

    await carrier.serve(twin(Last, json=True).as_asgi())
    client = await carrier.connect()
    await client.send_text("[1]")
    assert await client.receive() == "[1]"
    assert await client.ended() == Ended(4321)
