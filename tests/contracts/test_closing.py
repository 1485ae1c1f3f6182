"""Endings: close codes, failures, and that `disconnect()` is called exactly once whoever ended the connection."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from fairway.delivery import statistics
from tests.contracts.carriers import Carrier, Ended, Rejected
from tests.contracts.gate import Gate
from tests.contracts.journal import Journal
from tests.contracts.twins import Steps, Twin


@pytest.fixture(autouse=True)
def quiet_layer(layer) -> None:
    """Every consumer here has the in-memory layer."""


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ({}, Ended(1000)),
        ({"code": 4001}, Ended(4001)),
        ({"code": 3000, "reason": "room closed"}, Ended(3000, "room closed")),
        ({"reason": "bye"}, Ended(1000, "bye")),
        ({"code": True}, Ended(1000)),
    ],
    ids=["plain", "code", "code and reason", "reason", "true"],
)
async def test_the_consumer_closes(carrier: Carrier, twin: Twin, journal: Journal, arguments, seen: Ended):
    class Closing:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.close(**arguments)

        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield

    await carrier.serve(twin(Closing).as_asgi())
    client = await carrier.connect()
    await client.send_text("go")
    assert await client.ended() == seen
    await carrier.finished()
    assert (journal, carrier.errors) == ([seen.code], [])


@pytest.mark.parametrize(("close", "code"), [(True, 1000), (4002, 4002)])
async def test_a_message_may_be_the_last(carrier: Carrier, twin: Twin, close, code: int):
    class Last:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.send(bytes_data=b"last", close=close)

    await carrier.serve(twin(Last).as_asgi())
    client = await carrier.connect()
    await client.send_text("go")
    assert await client.receive() == b"last"
    assert await client.ended() == Ended(code)


class Noting:
    """Notes the code of each disconnect."""

    def receive(self, text_data=None, bytes_data=None) -> Steps:
        yield self.send(text_data)

    def disconnect(self, code) -> Steps:
        self.journal.note(code)
        yield


def noting(twin: Twin, journal: Journal, definition: type = Noting):
    consumer = twin(definition)
    consumer.journal = journal
    return consumer.as_asgi()


@pytest.mark.parametrize(("code", "seen"), [(1000, 1000), (1001, 1001), (3999, 3999), (None, 1005)])
async def test_the_client_closes(carrier: Carrier, twin: Twin, journal: Journal, code, seen: int):
    await carrier.serve(noting(twin, journal))
    client = await carrier.connect()
    await client.close(code)
    await carrier.finished()
    assert (journal, carrier.errors) == ([seen], [])


async def test_the_client_vanishes(carrier: Carrier, twin: Twin, journal: Journal):
    await carrier.serve(noting(twin, journal))
    client = await carrier.connect()
    await client.send_text("here")
    assert await client.receive() == "here"
    await client.vanish()
    await carrier.finished()
    assert (journal, carrier.errors) == ([carrier.traits.code_of_loss], [])


async def test_the_server_stops(carrier: Carrier, twin: Twin, journal: Journal):
    await carrier.serve(noting(twin, journal))
    client = await carrier.connect()
    await client.send_text("here")
    assert await client.receive() == "here"
    await carrier.stop()
    await carrier.finished()
    assert (journal, carrier.errors) == ([carrier.traits.code_of_stop], [])


async def test_messages_sent_before_the_client_closed_are_still_handled(carrier: Carrier, twin: Twin, journal: Journal):
    class Slow:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            journal.note(text_data)
            yield

        disconnect = Noting.disconnect

    await carrier.serve(noting(twin, journal, Slow))
    client = await carrier.connect()
    for text in "abc":
        await client.send_text(text)
    await client.close()
    await carrier.finished()
    assert journal == ["a", "b", "c", 1000]


async def test_stop_consumer_ends_the_consumer_and_nothing_else(carrier: Carrier, twin: Twin, journal: Journal):
    class Stopping:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield self.send("stopping")
            raise StopConsumer

        disconnect = Noting.disconnect

    await carrier.serve(noting(twin, journal, Stopping))
    client = await carrier.connect()
    await client.send_text("go")
    assert await client.receive() == "stopping"
    await carrier.finished()
    assert (journal, carrier.errors) == ([], [])


# Failures ------------------------------------------------------------------------------------------------------------


class Boom(Exception):
    """What the consumers here fail with."""


def _tracebacks(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(1 for record in caplog.records if record.exc_info and text in str(record.exc_info[1]))


async def test_an_error_in_connect_is_answered_with_500(carrier: Carrier, twin: Twin, journal: Journal, caplog):
    class Failing:
        def connect(self) -> Steps:
            raise Boom("in connect")
            yield

        disconnect = Noting.disconnect

    await carrier.serve(noting(twin, journal, Failing))
    with pytest.raises(Rejected) as refusal:
        await carrier.connect()
    assert refusal.value.answer == 500
    await carrier.finished()
    assert journal == [1011]
    assert [str(error) for error in carrier.errors] == ["in connect"]
    assert _tracebacks(caplog, "in connect") == carrier.traits.tracebacks


async def test_an_error_after_accept_ends_the_connection(carrier: Carrier, twin: Twin, journal: Journal, caplog):
    class Failing:
        def connect(self) -> Steps:
            yield self.accept()
            yield self.send("welcome")
            raise Boom("after accept")

        disconnect = Noting.disconnect

    await carrier.serve(noting(twin, journal, Failing))
    client = await carrier.connect()
    assert await client.receive() == "welcome"
    assert (await client.ended()).code == carrier.traits.code_of_failure
    await carrier.finished()
    assert (journal, [str(error) for error in carrier.errors]) == ([1011], ["after accept"])
    assert _tracebacks(caplog, "after accept") == carrier.traits.tracebacks


@pytest.mark.parametrize("place", ["receive", "handler"])
async def test_an_error_in_a_handler_ends_the_connection(
    carrier: Carrier, twin: Twin, journal: Journal, layer, place: str
):
    class Failing:
        groups = ["room"]

        def receive(self, text_data=None, bytes_data=None) -> Steps:
            if place == "receive":
                raise Boom(place)
            yield self.through(self.channel_layer.group_send, "room", {"type": "chat.message"})

        def chat_message(self, event) -> Steps:
            raise Boom(place)
            yield

        disconnect = Noting.disconnect

    await carrier.serve(noting(twin, journal, Failing))
    client = await carrier.connect()
    await client.send_text("go")
    assert (await client.ended()).code == carrier.traits.code_of_failure
    await carrier.finished()
    assert (journal, [str(error) for error in carrier.errors]) == ([1011], [place])
    assert layer.groups == {}


async def test_an_error_in_disconnect_does_not_hide_the_first(carrier: Carrier, twin: Twin, journal: Journal, caplog):
    class Twice:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            raise Boom("the first")
            yield

        def disconnect(self, code) -> Steps:
            journal.note(code)
            raise Boom("the second")
            yield

    await carrier.serve(noting(twin, journal, Twice))
    client = await carrier.connect()
    await client.send_text("go")
    assert (await client.ended()).code == carrier.traits.code_of_failure
    await carrier.finished()
    assert (journal, [str(error) for error in carrier.errors]) == ([1011], ["the first"])
    assert _tracebacks(caplog, "the first") == carrier.traits.tracebacks
    (record,) = [record for record in caplog.records if record.name == "django.channels.consumer"]
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "Twice failed again while it was handling its disconnect"
    assert str(record.exc_info[1]) == "the second"


async def test_an_error_in_disconnect_alone_is_raised_and_not_repeated(
    carrier: Carrier, twin: Twin, journal: Journal, layer
):
    class Failing:
        groups = ["room"]

        def disconnect(self, code) -> Steps:
            journal.note(code)
            raise Boom("in disconnect")
            yield

    await carrier.serve(noting(twin, journal, Failing))
    client = await carrier.connect()
    await client.close()
    await carrier.finished()
    assert (journal, [str(error) for error in carrier.errors]) == ([1000], ["in disconnect"])
    assert layer.groups == {}


async def test_disconnect_is_called_even_if_the_groups_cannot_be_joined(carrier: Carrier, twin: Twin, journal: Journal):
    class Misnamed:
        groups = ["no spaces allowed"]

        disconnect = Noting.disconnect

    await carrier.serve(noting(twin, journal, Misnamed))
    with pytest.raises(Rejected) as refusal:
        await carrier.connect()
    assert refusal.value.answer == 500
    await carrier.finished()
    assert journal == [1011]
    assert [type(error) for error in carrier.errors] == [TypeError]


# Too late ------------------------------------------------------------------------------------------------------------


async def test_a_send_after_the_client_has_gone_is_a_counted_no_op(carrier: Carrier, twin: Twin, journal: Journal):
    class Late:
        def disconnect(self, code) -> Steps:
            yield self.send("too late")
            yield self.send(bytes_data=b"too late")
            journal.note("sent")

    await carrier.serve(twin(Late).as_asgi())
    client = await carrier.connect()
    before = statistics.sends_after_close
    await client.close()
    await carrier.finished()
    assert (journal, carrier.errors) == (["sent"], [])
    assert statistics.sends_after_close - before == carrier.traits.late_sends_refused * 2


async def test_nothing_follows_a_close(carrier: Carrier, twin: Twin, journal: Journal):
    class Chatty:
        groups = ["room"]

        def receive(self, text_data=None, bytes_data=None) -> Steps:
            layer = self.channel_layer
            yield self.send("before")
            yield self.close(4000)
            yield self.send("after")
            yield self.close(4001)
            yield self.through(layer.group_broadcast, "room", "broadcast after")
            yield self.through(layer.group_send, "room", {"type": "chat.message"})
            journal.note("done")

        def chat_message(self, event) -> Steps:
            yield self.send("sent after")

        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield

    await carrier.serve(twin(Chatty).as_asgi())
    client = await carrier.connect()
    before = statistics.sends_after_close
    await client.send_text("go")
    assert await client.receive() == "before"
    assert await client.ended() == Ended(4000)
    await carrier.finished()
    assert (journal, carrier.errors) == (["done", 4000], [])
    assert statistics.sends_after_close - before >= 2


async def test_a_disconnect_does_not_overtake_a_handler(carrier: Carrier, twin: Twin, journal: Journal):
    gate = Gate()

    class Busy:
        def receive(self, text_data=None, bytes_data=None) -> Steps:
            journal.note("begin")
            yield self.through(gate.wait)
            journal.note("end")

        disconnect = Noting.disconnect

    await carrier.serve(noting(twin, journal, Busy))
    client = await carrier.connect()
    await client.send_text("go")
    await gate.reached()
    await client.vanish()
    gate.open()
    await carrier.finished()
    assert journal == ["begin", "end", carrier.traits.code_of_loss]


# The end of a consumer that does not expect it -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["connect", "receive"])
async def test_a_handler_that_goes_on_sending_is_ended_when_its_client_has_left(
    carrier: Carrier, twin: Twin, journal: Journal, method: str
):
    if not carrier.traits.late_sends_refused:
        pytest.skip("behind a communicator there is nobody to notice")

    def send_for_ever(self) -> Steps:
        try:
            while True:
                yield self.send("tick")
                yield self.sleep(0.05)
        finally:
            journal.note("ended")

    class Ticking:
        sleep = time.sleep if twin.is_sync else asyncio.sleep

        def connect(self) -> Steps:
            yield self.accept()
            if method == "connect":
                yield from send_for_ever(self)

        def receive(self, text_data=None, bytes_data=None) -> Steps:
            yield from send_for_ever(self)

        def disconnect(self, code) -> Steps:
            journal.note(code)
            yield self.send("nobody hears this")

    Ticking.sleep = staticmethod(Ticking.sleep)
    await carrier.serve(twin(Ticking).as_asgi())
    client = await carrier.connect()
    if method == "receive":
        await client.send_text("go")
    assert await client.receive() == "tick"
    began = time.monotonic()
    await client.close(4001)
    await carrier.finished()
    assert time.monotonic() - began < 10.0  # not when the connection is cut, after 14 s
    assert (journal, carrier.errors) == (["ended", 4001], [])


async def test_a_basic_consumer_sees_the_code_of_a_client_that_left_while_it_was_sending(
    carrier: Carrier, journal: Journal
):
    if not carrier.traits.late_sends_refused:
        pytest.skip("behind a communicator there is nobody to notice")

    class Ticking(AsyncConsumer):
        async def websocket_connect(self, message):
            await self.send({"type": "websocket.accept"})
            while True:
                await self.send({"type": "websocket.send", "text": "tick"})
                await asyncio.sleep(0.02)

        async def websocket_disconnect(self, message):
            journal.note(message["code"])

    await carrier.serve(Ticking.as_asgi())
    client = await carrier.connect()
    assert await client.receive() == "tick"
    await client.close(4001)
    await carrier.finished()
    assert journal == [4001]


async def test_a_cancelled_consumer_sees_the_code_with_which_its_client_has_left(carrier: Carrier, journal: Journal):
    gate = Gate()

    class Busy(AsyncWebsocketConsumer):
        async def connect(self):
            await self.accept()
            journal.task = asyncio.current_task()
            await gate.wait()

        async def disconnect(self, code):
            journal.note(code)

    await carrier.serve(Busy.as_asgi())
    client = await carrier.connect()
    await gate.reached()
    closing = asyncio.create_task(client.close(4001))
    for _ in range(40):  # looks of the server at its sockets, rather than a time
        await asyncio.sleep(0.005)
    journal.task.cancel()
    await carrier.finished()
    await asyncio.gather(closing, return_exceptions=True)
    assert journal == [4001]


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
async def test_a_consumer_without_a_handler_for_the_disconnect_ends_without_an_error(carrier: Carrier, base: type):
    if base is AsyncConsumer:

        class Echo(AsyncConsumer):
            async def websocket_connect(self, event):
                await self.send({"type": "websocket.accept"})

            async def websocket_receive(self, event):
                await self.send({"type": "websocket.send", "text": event["text"]})
    else:

        class Echo(SyncConsumer):  # type: ignore[no-redef]
            def websocket_connect(self, event):
                self.send({"type": "websocket.accept"})

            def websocket_receive(self, event):
                self.send({"type": "websocket.send", "text": event["text"]})

    await carrier.serve(Echo.as_asgi())
    client = await carrier.connect()
    await client.send_text("hello")
    assert await client.receive() == "hello"
    await client.close(1000)
    await carrier.finished()
    assert carrier.errors == []


async def test_a_missing_handler_that_a_disconnect_handler_needs_is_an_error(carrier: Carrier):
    class Passing(AsyncConsumer):
        async def websocket_connect(self, event):
            await self.send({"type": "websocket.accept"})

        async def websocket_disconnect(self, event):
            await self.dispatch({"type": "no.such"})

    await carrier.serve(Passing.as_asgi())
    client = await carrier.connect()
    await client.close(1000)
    await carrier.finished()
    assert [str(error) for error in carrier.errors] == ["No handler for message type no.such"]


async def test_nothing_follows_a_disconnect_that_forgot_to_stop_the_consumer(
    carrier: Carrier, twin: Twin, layer, journal: Journal
):
    class Forgetful:
        groups = ["room"]

        def websocket_disconnect(self, message) -> Steps:
            journal.note(message["code"])
            yield self.through(self.channel_layer.group_send, "room", {"type": "chat.message"})

        def chat_message(self, event) -> Steps:
            journal.note("event")
            yield

    await carrier.serve(twin(Forgetful).as_asgi())
    client = await carrier.connect()
    await client.close(4001)
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == ([4001], [], {})


@pytest.mark.slow
async def test_what_goes_on_sending_after_a_consumer_has_ended_is_named_once_for_its_class(
    carrier: Carrier, journal: Journal, caplog: pytest.LogCaptureFixture
):
    if not carrier.traits.late_sends_refused:
        pytest.skip("behind a communicator there is nobody to notice")

    class Ticking(AsyncWebsocketConsumer):
        async def connect(self):
            await self.accept()
            journal.tasks = [asyncio.create_task(self.tick()) for _ in range(2)]

        async def tick(self):
            while True:
                await self.send("tick")
                await asyncio.sleep(0.05)

    await carrier.serve(Ticking.as_asgi())
    client = await carrier.connect()
    assert await client.receive() == "tick"
    await client.close(1000)
    await carrier.finished()
    try:
        async with asyncio.timeout(10):
            while not any("goes on sending" in line for line in caplog.messages):  # noqa: ASYNC110  # a log tells nobody
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert [line for line in caplog.messages if "goes on sending" in line] == [
            f"Something goes on sending to clients of {Ticking.__qualname__} that have left, which does nothing: a "
            "task or thread that the consumer has started should be ended in disconnect()"
        ]
    finally:
        for task in journal.tasks:
            task.cancel()
