"""`AsyncHttpConsumer` by itself: which events it sends, how its request is put together."""

from __future__ import annotations

from typing import Any

import pytest

from channels.exceptions import StopConsumer
from channels.generic.http import AsyncHttpConsumer
from channels.testing import HttpCommunicator
from tests.channels.applications import Sent


class Recording(AsyncHttpConsumer):
    """Notes bodies and disconnects."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Any] = []

    async def handle(self, body):
        self.noted.append(body)

    async def disconnect(self):
        self.noted.append("disconnect")


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def consumer(sent: Sent) -> Recording:
    consumer = Recording()
    consumer.base_send = sent
    return consumer


@pytest.mark.parametrize(
    ("headers", "pairs"),
    [
        (None, []),
        ({b"a": b"b"}, [(b"a", b"b")]),
        ([(b"a", b"b"), (b"a", b"c")], [(b"a", b"b"), (b"a", b"c")]),
    ],
)
async def test_headers_are_a_list_of_pairs(consumer: Recording, sent: Sent, headers, pairs):
    await consumer.send_headers(status=204, headers=headers)
    assert sent == [{"type": "http.response.start", "status": 204, "headers": pairs}]


async def test_a_response_is_headers_and_body(consumer: Recording, sent: Sent):
    await consumer.send_response(200, b"x", headers=[(b"a", b"b")])
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]},
        {"type": "http.response.body", "body": b"x", "more_body": False},
    ]


async def test_a_body_must_be_bytes(consumer: Recording, sent: Sent):
    with pytest.raises(AssertionError, match=r"^Body is not bytes$"):
        await consumer.send_body("text")  # type: ignore[arg-type]
    assert sent == []


async def test_the_body_is_collected(consumer: Recording):
    await consumer.http_request({"type": "http.request", "body": b"a", "more_body": True})
    await consumer.http_request({"type": "http.request", "more_body": True})
    with pytest.raises(StopConsumer):
        await consumer.http_request({"type": "http.request", "body": b"b"})
    assert consumer.noted == [b"ab", "disconnect"]


async def test_the_end_is_told_once(consumer: Recording):
    for _ in range(2):
        with pytest.raises(StopConsumer):
            await consumer.http_disconnect({"type": "http.disconnect"})
    assert consumer.noted == ["disconnect"]


async def test_a_client_that_leaves_in_the_middle_of_its_body():
    consumer = Recording()
    communicator = HttpCommunicator(consumer, "POST", "/")
    await communicator.send_input({"type": "http.request", "body": b"half", "more_body": True})
    await communicator.send_input({"type": "http.disconnect"})
    await communicator.wait()
    assert consumer.noted == ["disconnect"]


async def test_handle_may_stop_the_consumer():
    class Stopping(Recording):
        async def handle(self, body):
            raise StopConsumer

    consumer = Stopping()
    communicator = HttpCommunicator(consumer, "GET", "/")
    await communicator.send_input({"type": "http.request"})
    await communicator.wait()
    assert consumer.noted == ["disconnect"]


async def test_a_subclass_need_not_call_the_base_constructor():
    class Own(AsyncHttpConsumer):
        def __init__(self, text: bytes) -> None:
            self.text = text

        async def handle(self, body):
            await self.send_response(200, self.text + body)

    response = await HttpCommunicator(Own.as_asgi(text=b"hi "), "POST", "/", b"you").get_response()
    assert response == {"status": 200, "headers": [], "body": b"hi you"}
