"""`AsyncHttpConsumer` by itself: which events it sends, how its request is put together."""

from __future__ import annotations

from typing import Any

import pytest

from channels.exceptions import StopConsumer
from channels.generic.http import AsyncHttpConsumer
from channels.testing import ApplicationCommunicator, HttpCommunicator
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


# --- the bound of what is collected (RFC 9110 section 15.5.14)


class Small(Recording):
    max_body_bytes = 10

    async def handle(self, body):
        await super().handle(body)
        await self.send_response(200, body)


TOO_LONG = b"The body of this request is too long."


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "django.channels.http"]


async def post(consumer: Any, *pieces: bytes, headers: Any = ()) -> dict[str, Any]:
    scope = {"type": "http", "method": "POST", "path": "/up\nload", "headers": list(headers)}
    communicator = ApplicationCommunicator(consumer, scope)
    for number, piece in enumerate(pieces, 1):
        more = number < len(pieces)
        await communicator.send_input({"type": "http.request", "body": piece, "more_body": more})
    start, body = [await communicator.receive_output() for _ in range(2)]
    await communicator.wait()
    return {"status": start["status"], "body": body["body"]}


@pytest.mark.parametrize("pieces", [(b"0123456789",), (b"01234", b"56789"), (b"0",) * 10, (b"", b"0", b"", b"1")])
async def test_a_body_up_to_the_bound_is_collected(pieces: tuple[bytes, ...], caplog: pytest.LogCaptureFixture):
    consumer = Small()
    assert (await post(consumer, *pieces))["body"] == b"".join(pieces)
    assert consumer.noted == [b"".join(pieces), "disconnect"]
    assert refusals(caplog) == []


@pytest.mark.parametrize("pieces", [(b"0123456789a",), (b"01234", b"567890"), (b"0",) * 11, (b"0" * 11, b"more")])
async def test_a_body_beyond_the_bound_is_413_and_one_line(pieces: tuple[bytes, ...], caplog: pytest.LogCaptureFixture):
    consumer = Small()
    response = await post(consumer, *pieces)
    assert (response["status"], response["body"]) == (413, TOO_LONG)
    assert consumer.noted == ["disconnect"]
    assert consumer.body == []
    expected = "HTTP request refused with 413: its body is longer than max_body_bytes of Small, 10 [path '/up\\nload']"
    assert refusals(caplog) == [expected]


async def test_a_length_beyond_the_bound_is_413_before_anything_is_read():
    async def receive():
        raise AssertionError("read")

    answers = Sent()
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"Content-Length", b"11")]}
    await Small()(scope, receive, answers)
    assert answers[0]["status"] == 413
    assert answers[1]["body"] == TOO_LONG


@pytest.mark.parametrize("length", [b"10", b"0", b"junk", b""])
async def test_other_lengths_are_no_reason_to_refuse(length: bytes):
    assert (await post(Small(), b"0123456789", headers=[(b"content-length", length)]))["status"] == 200


async def test_without_a_bound_everything_is_collected():
    class Boundless(Small):
        max_body_bytes = None

    body = b"x" * (17 << 20)
    assert (await post(Boundless(), body, headers=[(b"content-length", b"%d" % len(body))]))["body"] == body


async def test_the_bound_is_there_by_default():
    assert AsyncHttpConsumer.max_body_bytes == 16 * 1024 * 1024


async def test_who_overrides_http_request_may_stream_any_length():
    class Streaming(Small):
        async def http_request(self, message):
            self.noted.append(len(message["body"]))
            await super().http_request({**message, "body": b""})

    consumer = Streaming()
    response = await post(consumer, b"x" * 100, b"x" * 50, headers=[(b"content-length", b"150")])
    assert response["status"] == 200
    assert consumer.noted == [100, 50, b"", "disconnect"]


async def test_a_body_of_tiny_pieces_is_kept_as_few():
    consumer = Recording()
    for _ in range(10_000):
        await consumer.http_request({"type": "http.request", "body": b"x", "more_body": True})
    assert len(consumer.body) <= 3
    assert b"".join(consumer.body) == b"x" * 10_000
