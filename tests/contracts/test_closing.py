"""Endings: close codes, failures, and that `disconnect()` is called exactly once whoever ended the connection."""

from __future__ import annotations

import logging

import pytest

from channels.exceptions import StopConsumer
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
