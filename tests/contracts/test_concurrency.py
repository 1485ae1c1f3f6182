"""Several handlers of one consumer at once, for those who ask for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from channels.consumer import StopConsumer
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from fairway.delivery import statistics
from tests.contracts.carriers import Carrier, FairwayCarrier
from tests.contracts.gate import Gate
from tests.contracts.journal import DEADLINE, Journal


class Pair(AsyncWebsocketConsumer):
    """Two handlers at once, which wait at a gate."""

    max_concurrency = 2
    journal: Journal
    gate: Gate

    async def receive(self, text_data=None, bytes_data=None):
        self.journal.note(f"{text_data} begins")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.journal.note(f"{text_data} cancelled")
            raise
        await self.send(text_data)
        self.journal.note(f"{text_data} ends")

    async def disconnect(self, code):
        self.journal.note("disconnect")


@pytest.fixture
def pair(journal: Journal) -> type[Pair]:
    return type("Pair", (Pair,), {"journal": journal, "gate": Gate()})


async def test_as_many_handlers_run_as_are_allowed_and_begin_in_order(carrier: Carrier, journal: Journal, pair):
    await carrier.serve(pair.as_asgi())
    client = await carrier.connect()
    for name in "abc":
        await client.send_text(name)
    await journal.length(2)
    assert journal == ["a begins", "b begins"]
    pair.gate.open()
    assert sorted([await client.receive() for _ in range(3)]) == ["a", "b", "c"]
    assert journal.index("c begins") > min(journal.index("a ends"), journal.index("b ends"))
    await client.close()
    await carrier.finished()
    assert (journal[-1], carrier.errors) == ("disconnect", [])


async def test_a_disconnect_does_not_wait_for_busy_handlers(carrier: Carrier, journal: Journal, pair):
    before = statistics.unhandled
    await carrier.serve(pair.as_asgi())
    client = await carrier.connect()
    for name in "abcd":
        await client.send_text(name)
    await journal.length(2)
    await client.vanish()
    await journal.until("disconnect")
    assert journal == ["a begins", "b begins", "disconnect"]
    assert statistics.unhandled - before == 2
    pair.gate.open()
    await carrier.finished()
    assert sorted(journal[3:]) == ["a ends", "b ends"]
    assert carrier.errors == []


async def test_handlers_that_do_not_end_are_cancelled(carrier: Carrier, journal: Journal, pair, caplog):
    pair.disconnect_grace = 0.05
    await carrier.serve(pair.as_asgi())
    client = await carrier.connect()
    await client.send_text("a")
    await journal.until("a begins")
    await client.vanish()
    await carrier.finished()
    assert journal == ["a begins", "disconnect", "a cancelled"]
    assert carrier.errors == []
    assert "1 handlers were cancelled: they still ran after 0.05 s" in caplog.messages


async def test_the_last_words_of_a_client_are_handled(carrier: Carrier, journal: Journal, pair):
    pair.gate.open()
    await carrier.serve(pair.as_asgi())
    client = await carrier.connect()
    await client.send_text("a")
    await client.close()
    await carrier.finished()
    assert sorted(journal) == ["a begins", "a ends", "disconnect"]


async def test_an_error_ends_the_other_handlers_and_the_connection(carrier: Carrier, journal: Journal, pair):
    class Failing(pair):
        async def receive(self, text_data=None, bytes_data=None):
            if text_data == "fail":
                raise LookupError("nothing there")
            await super().receive(text_data)

    await carrier.serve(Failing.as_asgi())
    client = await carrier.connect()
    await client.send_text("a")
    await journal.until("a begins")
    await client.send_text("fail")
    await carrier.finished()
    assert journal == ["a begins", "a cancelled", "disconnect"]
    assert [str(error) for error in carrier.errors] == ["nothing there"]


async def test_a_handler_may_stop_the_consumer(carrier: Carrier, journal: Journal, pair):
    class Stopping(pair):
        async def receive(self, text_data=None, bytes_data=None):
            raise StopConsumer

    await carrier.serve(Stopping.as_asgi())
    client = await carrier.connect()
    await client.send_text("a")
    await carrier.finished()
    assert (journal, carrier.errors) == ([], [])


async def test_nothing_is_handled_beside_connect(carrier: Carrier, journal: Journal, pair, layer):
    class Slow(pair):
        groups = ["all"]

        async def connect(self):
            await self.accept()
            await layer.group_send("all", {"type": "event"})
            await self.gate.wait()
            journal.note("connected")

        async def event(self, message):
            journal.note("event")

    await carrier.serve(Slow.as_asgi())
    await carrier.connect()
    await pair.gate.reached()
    pair.gate.open()
    await journal.until("event")
    assert journal == ["connected", "event"]


class Threads(WebsocketConsumer):
    """Says in which thread it was handled, once all of them have met."""

    barrier: threading.Barrier

    def receive(self, text_data=None, bytes_data=None):
        self.barrier.wait(DEADLINE)
        self.send(threading.current_thread().name)


async def test_synchronous_consumers_can_be_spread_over_threads(carrier: Carrier):
    class Spread(Threads):
        thread_sensitive = False
        barrier = threading.Barrier(2)

    await carrier.serve(Spread.as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    for client in clients:
        await client.send_text("go")
    names = {await client.receive() for client in clients}
    assert len(names) == 2
    assert {name.rpartition("_")[0] for name in names} == {"channels-handler"}


async def test_messages_of_a_spread_consumer_keep_their_order(carrier: Carrier):
    class Echo(WebsocketConsumer):
        thread_sensitive = False

        def receive(self, text_data=None, bytes_data=None):
            self.send(text_data)

    await carrier.serve(Echo.as_asgi())
    client = await carrier.connect()
    for number in range(50):
        await client.send_text(str(number))
    assert [await client.receive() for _ in range(50)] == [str(number) for number in range(50)]


async def test_a_spread_consumer_handles_its_own_messages_side_by_side_if_asked_to(carrier: Carrier):
    class Spread(Threads):
        thread_sensitive = False
        max_concurrency = 3
        barrier = threading.Barrier(3)

    await carrier.serve(Spread.as_asgi())
    client = await carrier.connect()
    for _ in range(3):
        await client.send_text("go")
    assert len({await client.receive() for _ in range(3)}) == 3


async def test_synchronous_consumers_share_a_thread_unless_they_ask(carrier: Carrier):
    class Together(Threads):
        barrier = threading.Barrier(1)

    await carrier.serve(Together.as_asgi())
    names = set()
    for _ in range(2):
        client = await carrier.connect()
        await client.send_text("go")
        names.add(await client.receive())
    assert len(names) == 1


class Waiting(AsyncHttpConsumer):
    """Streams until the gate opens."""

    journal: Journal
    gate: Gate

    async def handle(self, body):
        await self.channel_layer.group_add("waiting", self.channel_name)
        await self.send_headers(headers=[(b"content-type", b"text/plain")])
        await self.send_body(b"wait", more_body=True)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.journal.note("cancelled")
            raise
        await self.send_body(b"bye")
        self.journal.note("handled")

    async def event(self, message):
        await self.send_body(message["text"].encode(), more_body=True)

    async def disconnect(self):
        self.journal.note("disconnect")


@pytest.fixture
def waiting(journal: Journal, layer) -> type[Waiting]:
    return type("Waiting", (Waiting,), {"journal": journal, "gate": Gate()})


async def test_events_are_handled_while_handle_runs(carrier: Carrier, journal: Journal, waiting, layer):
    await carrier.serve(waiting.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"wait"
    for text in ("one", "two"):
        await layer.group_send("waiting", {"type": "event", "text": text})
        assert await stream.read() == text.encode()
    waiting.gate.open()
    assert await stream.read() == b"bye"
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["handled", "disconnect"], [], {})


async def test_handle_sees_the_client_leave(carrier: Carrier, journal: Journal, waiting, layer):
    await carrier.serve(waiting.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"wait"
    await stream.vanish()
    await journal.until("disconnect")
    waiting.gate.open()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect", "handled"], [], {})


async def test_a_group_joined_after_the_client_has_left_is_left_too(carrier: Carrier, journal: Journal, waiting, layer):
    class Late(waiting):
        async def handle(self, body):
            await super().handle(body)
            await self.channel_layer.group_add("late", self.channel_name)

    await carrier.serve(Late.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"wait"
    await stream.vanish()
    await journal.until("disconnect")
    waiting.gate.open()
    await carrier.finished()
    assert (layer.groups, carrier.errors) == ({}, [])


async def test_who_sends_to_nobody_for_ever_stops_nobody_else(fairway: FairwayCarrier, journal: Journal):
    class Endless(AsyncWebsocketConsumer):
        max_concurrency = 2
        disconnect_grace = 0

        async def receive(self, text_data=None, bytes_data=None):
            while True:
                await self.send("tick")

        async def disconnect(self, code):
            journal.note("disconnect")

    await fairway.serve(Endless.as_asgi())
    client = await fairway.connect()
    await client.send_text("go")
    assert await client.receive() == "tick"
    await client.vanish()
    await fairway.finished()
    assert journal == ["disconnect"]


async def test_what_handle_says_to_nobody_is_counted(fairway: FairwayCarrier, journal: Journal, waiting):
    before = statistics.sends_after_close
    await fairway.serve(waiting.as_asgi())
    stream = await fairway.open_request()
    assert await stream.read() == b"wait"
    await stream.vanish()
    await journal.until("disconnect")
    waiting.gate.open()
    await fairway.finished()
    assert statistics.sends_after_close - before == 1


async def test_a_handle_that_does_not_end_is_cancelled(carrier: Carrier, journal: Journal, waiting):
    waiting.disconnect_grace = 0
    await carrier.serve(waiting.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"wait"
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors) == (["disconnect", "cancelled"], [])


async def test_an_error_in_an_event_ends_handle(carrier: Carrier, journal: Journal, waiting, layer):
    await carrier.serve(waiting.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == b"wait"
    await layer.group_send("waiting", {"type": "event"})
    await carrier.finished()
    assert journal == ["cancelled", "disconnect"]
    assert [type(error) for error in carrier.errors] == [KeyError]
