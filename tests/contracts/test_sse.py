"""`ServerSentEventsConsumer`: opens, refuses, resumes, beats and ends, over every carrier."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from channels.exceptions import AcceptConnection, DenyConnection, StopConsumer
from channels.layers import channel_layers
from fairway.delivery import statistics
from fairway.generic.sse import ServerSentEventsConsumer
from tests.contracts.carriers import Carrier, FairwayCarrier
from tests.contracts.foreign import QueueLayer
from tests.contracts.gate import Gate
from tests.contracts.journal import Journal
from tests.contracts.prices import NextPrice, Prices

OPENING = b":\n\n"


class Noting(ServerSentEventsConsumer):
    """Notes each `disconnect()`."""

    journal: Journal

    async def disconnect(self):
        self.journal.note("disconnect")


class News(Noting):
    """Passes the news on, numbered."""

    groups = ["news"]

    async def news(self, message):
        await self.send_event(message["text"], "news", message.get("id"))


@pytest.fixture
def news(journal: Journal, layer) -> type[News]:
    return type("News", (News,), {"journal": journal})


async def test_a_stream_opens_at_once_and_carries_what_the_layer_brings(carrier: Carrier, journal, layer, news):
    await carrier.serve(news.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == OPENING
    sent = {(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")}
    assert sent <= set(stream.headers)
    await layer.group_send("news", {"type": "news", "text": "fog\r\nrising", "id": 7})
    assert await stream.read() == b"event: news\nid: 7\ndata: fog\ndata: rising\n\n"
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


async def test_json_comments_and_further_headers(carrier: Carrier, journal: Journal):
    class Telling(Noting):
        retry = 1500

        async def connect(self):
            await self.accept([(b"Cache-Control", b"no-store"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
            await self.send_event_json({"a": [1, None]}, id="x")
            await self.send_comment("well")
            await self.close()
            await self.send_event("too late")

    Telling.journal = journal
    before = statistics.sends_after_close
    await carrier.serve(Telling.as_asgi())
    response = await carrier.request()
    assert response.body == b'retry: 1500\n\nid: x\ndata: {"a": [1, null]}\n\n: well\n\n'
    named = [value for name, value in response.headers if name in (b"cache-control", b"set-cookie")]
    assert sorted(named) == [b"a=1", b"b=2", b"no-store"]
    await carrier.finished()
    assert (journal, carrier.errors) == (["disconnect"], [])
    assert statistics.sends_after_close - before == 1


@pytest.mark.parametrize(
    ("path", "headers", "position"),
    [
        ("/", [], b"''"),
        ("/", [(b"last-event-id", "雾 7".encode())], "'雾 7'".encode()),
        ("/?lastEventId=8", [], b"'8'"),
        ("/?lastEventId=8", [(b"last-event-id", b"9")], b"'9'"),
    ],
)
async def test_the_position_of_a_client_that_comes_back(carrier: Carrier, journal, path, headers, position):
    class Resuming(Noting):
        async def connect(self):
            await self.send_event(repr(self.last_event_id))
            await self.close()

    Resuming.journal = journal
    await carrier.serve(Resuming.as_asgi())
    response = await carrier.request("GET", path, headers=headers)
    assert response.body == OPENING + b"data: " + position + b"\n\n"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "body"),
    [
        ("POST", "/", [], 405, b"An event stream is read with GET."),
        ("GET", "/", [(b"accept", b"application/json")], 406, b"This is an event stream: accept text/event-stream."),
        ("GET", "/?lastEventId=%00", [], 400, b"The last event's id cannot be one"),
        ("GET", "/", [(b"last-event-id", b"x" * 1025)], 400, b"The last event's id cannot be one"),
    ],
)
async def test_requests_that_are_no_use(carrier: Carrier, journal, news, layer, method, path, headers, status, body):
    class Judging(news):
        async def connect(self):
            journal.note("connect")

    await carrier.serve(Judging.as_asgi())
    response = await carrier.request(method, path, headers=headers)
    assert (response.status, response.body[: len(body)]) == (status, body)
    assert ((b"allow", b"GET, HEAD") in response.headers) is (status == 405)
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == ([], [], {})


async def test_head_is_answered_as_get_without_events(carrier: Carrier, journal, layer, news):
    class Asking(news):
        async def connect(self):
            await self.send_event("not for you")

    await carrier.serve(Asking.as_asgi())
    response = await carrier.request("HEAD")
    assert (response.status, response.body) == (200, b"")
    assert (b"content-type", b"text/event-stream") in response.headers
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


async def refuse(consumer):
    await consumer.reject(204)


async def deny(consumer):
    raise DenyConnection


async def close(consumer):
    await consumer.close()


@pytest.mark.parametrize(("way", "status"), [(refuse, 204), (deny, 403), (close, 403)])
async def test_connect_may_refuse(carrier: Carrier, journal, layer, news, way, status):
    news.connect = way
    await carrier.serve(news.as_asgi())
    response = await carrier.request()
    assert (response.status, response.body) == (status, b"")
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


async def test_connect_may_accept_as_the_websocket_classes_let_it(carrier: Carrier, journal, layer, news):
    async def connect(consumer):
        raise AcceptConnection

    news.connect = connect
    await carrier.serve(news.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == OPENING
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


async def test_a_stream_is_opened_or_refused_once(carrier: Carrier, journal):
    class Twice(Noting):
        async def connect(self):
            await self.accept()
            for again in (self.accept, self.reject):
                try:
                    await again()
                except RuntimeError as error:
                    await self.send_comment(str(error))
            await self.close()

    Twice.journal = journal
    await carrier.serve(Twice.as_asgi())
    assert (await carrier.request()).body == (
        OPENING
        + b": the stream was accepted or rejected already: accept() comes first\n\n"
        + b": the stream is open or over: close() ends it\n\n"
    )


async def test_nothing_overtakes_what_connect_sends(carrier: Carrier, journal, layer, news):
    gate = Gate()

    class Replaying(news):
        async def connect(self):
            await self.send_event("1")
            await gate.wait()
            await self.send_event("2")

    await carrier.serve(Replaying.as_asgi())
    stream = await carrier.open_request()
    assert [await stream.read(), await stream.read()] == [OPENING, b"data: 1\n\n"]
    await layer.group_send("news", {"type": "news", "text": "3"})
    await gate.reached()
    gate.open()
    assert [await stream.read(), await stream.read()] == [b"data: 2\n\n", b"event: news\ndata: 3\n\n"]
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


async def test_a_client_that_leaves_ends_connect_and_then_comes_disconnect(carrier: Carrier, journal, layer, news):
    class Streaming(news):
        async def connect(self):
            await self.send_event("1")
            try:
                await asyncio.Event().wait()
            finally:
                await layer.group_add("late", self.channel_name)
                journal.note("cancelled")

        async def disconnect(self):
            await layer.group_discard("late", self.channel_name)
            await super().disconnect()

    await carrier.serve(Streaming.as_asgi())
    stream = await carrier.open_request()
    assert [await stream.read(), await stream.read()] == [OPENING, b"data: 1\n\n"]
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["cancelled", "disconnect"], [], {})


async def test_a_client_that_leaves_before_the_stream_is_open(carrier: Carrier, journal, layer, news):
    gate = Gate()

    class Slow(news):
        async def connect(self):
            await gate.wait()

    await carrier.serve(Slow.as_asgi())
    stream = await carrier.open_request()
    await gate.reached()
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


async def test_the_stream_ends_from_an_event(carrier: Carrier, journal, layer, news):
    class Ending(news):
        async def end(self, message):
            await self.close()

    await carrier.serve(Ending.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == OPENING
    await layer.group_send("news", {"type": "end"})
    assert await stream.read() == b""
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


@pytest.mark.parametrize("where", ["connect", "news"])
async def test_an_error_ends_the_stream(carrier: Carrier, journal, layer, news, where):
    async def failing(*args):
        raise LookupError("nothing there")

    setattr(news, where, failing)
    await carrier.serve(news.as_asgi())
    if where == "connect":
        assert (await carrier.request()).status == 500
    else:
        stream = await carrier.open_request()
        assert await stream.read() == OPENING
        await layer.group_send("news", {"type": "news"})
    await carrier.finished()
    assert journal == ["disconnect"]
    assert [str(error) for error in carrier.errors] == ["nothing there"]
    assert layer.groups == {}


async def test_silence_is_broken_by_heartbeats_even_while_a_handler_is_busy(carrier: Carrier, journal, layer, news):
    gate = Gate()

    class Beating(news):
        heartbeat = 0.02

        async def think(self, message):
            await gate.wait()
            await self.send_event("thought")

    await carrier.serve(Beating.as_asgi())
    stream = await carrier.open_request()
    assert [await stream.read() for _ in range(3)] == [OPENING] * 3
    await layer.group_send("news", {"type": "think"})
    await gate.reached()
    assert [await stream.read() for _ in range(3)] == [OPENING] * 3
    gate.open()
    while (piece := await stream.read()) == OPENING:
        pass
    assert piece == b"data: thought\n\n"
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors) == (["disconnect"], [])


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["the client leaves", "a handler stops the consumer"])
async def test_the_heartbeat_ends_with_the_consumer(carrier: Carrier, journal, layer, news, ending):
    instances = []

    class Beating(news):
        heartbeat = 0.01

        async def connect(self):
            instances.append(self)

        async def stop(self, message):
            raise StopConsumer

    await carrier.serve(Beating.as_asgi())
    stream = await carrier.open_request()
    assert [await stream.read() for _ in range(2)] == [OPENING] * 2
    if ending == "the client leaves":
        await stream.vanish()
    else:
        await layer.group_send("news", {"type": "stop"})
    await carrier.finished()
    # A timer that is still armed would keep what it belongs to.
    gone = weakref.ref(instances.pop())
    gc.collect()
    assert gone() is None


async def test_a_broadcast_is_an_event(carrier: Carrier, journal, layer, news):
    await carrier.serve(news.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == OPENING
    await layer.group_broadcast("news", text_data="fog")
    assert await stream.read() == b"data: fog\n\n"
    await layer.group_broadcast("news", bytes_data=b"fog")
    await carrier.finished()
    assert [str(error) for error in carrier.errors] == [
        "an event stream carries text: broadcast text_data to a group that has one in it"
    ]
    assert journal == ["disconnect"]


async def test_who_overrides_send_event_sees_broadcasts(carrier: Carrier, journal, layer, news):
    class Numbering(news):
        async def send_event(self, data, event=None, id=None, retry=None):
            await super().send_event(data, event, 1, retry)

    await carrier.serve(Numbering.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == OPENING
    await layer.group_broadcast("news", text_data="fog")
    assert await stream.read() == b"id: 1\ndata: fog\n\n"
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, layer.groups) == (["disconnect"], [], {})


async def test_another_layer(carrier: Carrier, journal, news):
    foreign = QueueLayer()
    channel_layers.set("default", foreign)
    await carrier.serve(news.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == OPENING
    await foreign.group_send("news", {"type": "news", "text": "fog"})
    assert await stream.read() == b"event: news\ndata: fog\n\n"
    await foreign.group_send("news", {"type": "fairway.broadcast", "text": "rain"})
    assert await stream.read() == b"data: rain\n\n"
    await stream.vanish()
    await carrier.finished()
    assert (journal, carrier.errors, foreign.receiving) == (["disconnect"], [], 0)
    assert foreign.groups == {"news": set()}


async def test_one_who_reads_slowly_holds_up_the_sender_and_the_layer_counts_what_is_too_much(
    fairway: FairwayCarrier, journal, layer, news
):
    class Flooding(news):
        sent = 0

        async def connect(self):
            while True:
                await self.send_event("x" * 100_000)
                type(self).sent += 1

    await fairway.serve(Flooding.as_asgi())
    stream = await fairway.open_request()
    assert await stream.read() == OPENING
    stream.stop_reading()
    stalled = -1
    while stalled != Flooding.sent:
        stalled = Flooding.sent
        for _ in range(50):
            await asyncio.sleep(0.001)
    assert 0 < stalled < 1000
    dropped = layer.hub.dropped
    for _ in range(layer.capacity + 3):
        await layer.group_send("news", {"type": "news", "text": "late"})
    assert layer.hub.dropped - dropped == 3
    await stream.vanish()
    await fairway.finished()
    assert (journal, fairway.errors, layer.groups) == (["disconnect"], [], {})


async def test_an_instance_serves_one_stream_after_the_other(carrier: Carrier, journal):
    class Once(Noting):
        async def connect(self):
            await self.send_event(self.last_event_id or "none")
            await self.close()

    Once.journal = journal
    await carrier.serve(Once())
    for headers, body in [([(b"last-event-id", b"7")], b"data: 7\n\n"), ([], b"data: none\n\n")]:
        assert (await carrier.request(headers=headers)).body == OPENING + body
    await carrier.finished(2)
    assert (journal, carrier.errors) == (["disconnect"] * 2, [])


async def test_the_example_that_streams(carrier: Carrier, layer):
    await carrier.serve(Prices.as_asgi())
    stream = await carrier.open_request()
    assert await stream.read() == OPENING
    await layer.group_send("prices", {"type": "price.changed", "price": {"fish": 7}})
    assert await stream.read() == b'event: price\ndata: {"fish": 7}\n\n'
    await stream.vanish()
    await carrier.finished()
    assert (carrier.errors, layer.groups) == ([], {})


async def test_the_example_that_answers_later(carrier: Carrier, journal, layer):
    class Noted(NextPrice):
        async def handle(self, body):
            await super().handle(body)
            journal.note("handle has returned")

    await carrier.serve(Noted.as_asgi())
    stream = await carrier.open_request()
    await journal.until("handle has returned")
    await layer.group_send("prices", {"type": "price.changed", "price": {"fish": 7}})
    while not (piece := await stream.read()):
        pass
    assert piece == b'{"fish": 7}'
    await stream.vanish()
    await carrier.finished()
    assert (carrier.errors, layer.groups) == ([], {})
