"""`AsyncHttpConsumer`: answers at once, in pieces, later, or not at all."""

from __future__ import annotations

import pytest

from channels.generic.http import AsyncHttpConsumer
from tests.contracts.carriers import Carrier
from tests.contracts.gate import Gate
from tests.contracts.journal import Journal


class Noting(AsyncHttpConsumer):
    """Notes each `disconnect()`."""

    journal: Journal

    async def disconnect(self):
        self.journal.note("disconnect")


@pytest.mark.parametrize(
    "headers",
    [{b"content-type": b"text/plain", b"x-a": b"1"}, [(b"content-type", b"text/plain"), [b"x-a", b"1"]]],
    ids=["dict", "pairs"],
)
async def test_a_response(carrier: Carrier, journal: Journal, headers):
    class Answering(Noting):
        async def handle(self, body):
            told = b" ".join([self.scope["method"].encode(), self.scope["path"].encode(), body])
            await self.send_response(201, told, headers=headers)

    Answering.journal = journal
    await carrier.serve(Answering.as_asgi())
    response = await carrier.request("POST", "/here?x=1", b"the body")
    assert (response.status, response.body) == (201, b"POST /here the body")
    assert {(b"content-type", b"text/plain"), (b"x-a", b"1")} <= set(response.headers)
    await carrier.finished()
    assert (journal, carrier.errors) == (["disconnect"], [])


async def test_a_large_body_arrives_whole(carrier: Carrier):
    class Measuring(AsyncHttpConsumer):
        async def handle(self, body):
            await self.send_response(200, str(len(body)).encode())

    await carrier.serve(Measuring.as_asgi())
    assert (await carrier.request("PUT", body=b"x" * 300_000)).body == b"300000"


async def test_a_body_in_pieces(carrier: Carrier, journal: Journal):
    gate = Gate()

    class Streaming(Noting):
        async def handle(self, body):
            await self.send_headers(headers=[(b"content-type", b"text/plain")])
            await self.send_body(b"one", more_body=True)
            await gate.wait()
            await self.send_body(b"two", more_body=True)
            await self.send_body(b"")

    Streaming.journal = journal
    await carrier.serve(Streaming.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"one"
    gate.open()
    assert await stream.read() == b"two"
    assert await stream.read() == b""
    await carrier.finished()
    assert (journal, carrier.errors) == (["disconnect"], [])


class Polling(Noting):
    """The answer comes later, by a layer event."""

    async def handle(self, body):
        await self.channel_layer.group_add("polls", self.channel_name)
        await self.send_headers(headers=[(b"content-type", b"text/plain")])
        await self.send_body(b"wait", more_body=True)

    async def answer(self, event):
        await self.send_body(event["text"].encode(), more_body=True)
        await self.send_body(b"")


async def test_an_answer_that_comes_later(carrier: Carrier, journal: Journal, layer):
    Polling.journal = journal
    await carrier.serve(Polling.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"wait"
    await layer.group_send("polls", {"type": "answer", "text": "news"})
    assert await stream.read() == b"news"
    assert await stream.read() == b""
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


async def test_a_client_that_leaves_while_it_waits(carrier: Carrier, journal: Journal, layer):
    Polling.journal = journal
    await carrier.serve(Polling.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"wait"
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


async def test_a_client_that_has_nothing_more_to_say(carrier: Carrier, journal: Journal, layer):
    Polling.journal = journal
    await carrier.serve(Polling.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"wait"
    await stream.end()
    if carrier.traits.answers_half_closed:
        await layer.group_send("polls", {"type": "answer", "text": "news"})
        assert await stream.read() == b"news"
        assert await stream.read() == b""
        await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors) == (["disconnect"], [])


async def test_an_error_in_an_event_that_should_have_answered(carrier: Carrier, journal: Journal, layer):
    Polling.journal = journal
    await carrier.serve(Polling.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"wait"
    await layer.group_send("polls", {"type": "answer"})
    await carrier.finished()
    assert journal == ["disconnect"]
    assert [type(error) for error in carrier.errors] == [KeyError]


async def test_an_error_in_handle(carrier: Carrier, journal: Journal):
    class Failing(Noting):
        async def handle(self, body):
            raise LookupError("nothing there")

    Failing.journal = journal
    await carrier.serve(Failing.as_asgi())
    assert (await carrier.request()).status == 500
    await carrier.finished()
    assert journal == ["disconnect"]
    assert [str(error) for error in carrier.errors] == ["nothing there"]


async def test_an_error_in_disconnect_does_not_hide_the_first(carrier: Carrier, journal: Journal, caplog):
    class Twice(AsyncHttpConsumer):
        async def handle(self, body):
            raise LookupError("the first")

        async def disconnect(self):
            journal.note("disconnect")
            raise LookupError("the second")

    await carrier.serve(Twice.as_asgi())
    assert (await carrier.request()).status == 500
    await carrier.finished()
    assert journal == ["disconnect"]
    assert [str(error) for error in carrier.errors] == ["the first"]
    (record,) = [record for record in caplog.records if record.name == "django.channels.consumer"]
    assert str(record.exc_info[1]) == "the second"


async def test_a_consumer_without_handle(carrier: Carrier):
    await carrier.serve(AsyncHttpConsumer.as_asgi())
    assert (await carrier.request()).status == 500
    await carrier.finished()
    (error,) = carrier.errors
    assert isinstance(error, NotImplementedError)
    assert str(error) == "AsyncHttpConsumer needs a handle() method"


async def test_a_body_must_be_bytes(carrier: Carrier):
    class Text(AsyncHttpConsumer):
        async def handle(self, body):
            await self.send_response(200, "text")  # type: ignore[arg-type]

    await carrier.serve(Text.as_asgi())
    assert (await carrier.request()).status == carrier.traits.answer_after_start
    await carrier.finished()
    (error,) = carrier.errors
    assert isinstance(error, AssertionError)
    assert str(error) == "Body is not bytes"


async def test_an_instance_answers_several_requests(carrier: Carrier, journal: Journal):
    class Repeating(Noting):
        async def handle(self, body):
            await self.send_response(200, body)

    Repeating.journal = journal
    await carrier.serve(Repeating())
    assert [(await carrier.request("POST", body=body)).body for body in (b"one", b"two")] == [b"one", b"two"]
    await carrier.finished(2)
    assert (journal, carrier.errors) == (["disconnect"] * 2, [])
