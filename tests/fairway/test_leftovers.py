"""What Django's requests leave open, with Python's collector off: nothing else may be needed to close it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from tests.integration.conftest import start
from tests.integration.raw import DEADLINE, Served
from tests.services.postgres import PostgresServer, database_alias

import fairway.leftovers  # noqa: F401  # connects itself

pytestmark = pytest.mark.slow

__all__ = ["start"]

ALIAS = "leftovers"
COUNT = 12
GET = "GET /{}/ HTTP/1.1\r\nHost: testserver\r\n\r\n"


def query() -> int:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


def sync_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(query()))


async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(await sync_to_async(query)()))


def failing_view(request: HttpRequest) -> HttpResponse:
    query()
    raise ArithmeticError("on purpose")


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> Any:
        yield str(await sync_to_async(query)())
        await asyncio.Event().wait()

    return StreamingHttpResponse(pieces())


async def flood(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> Any:
        yield str(await sync_to_async(query)())
        while True:
            yield "x" * 65536

    return StreamingHttpResponse(pieces())


urlpatterns = [
    path("sync/", sync_view),
    path("async/", async_view),
    path("failing/", failing_view),
    path("stream/", stream),
    path("flood/", flood),
]


@pytest.fixture
def database(postgres: PostgresServer, django_db_blocker: Any) -> Iterator[Callable[[], int]]:
    """Persistent connections to a database; how many there are."""
    gc.collect()
    gc.disable()
    try:
        with django_db_blocker.unblock(), database_alias(postgres, ALIAS) as name:
            connections.settings[ALIAS]["CONN_MAX_AGE"] = 600
            yield lambda: len(postgres.backends(name))
    finally:
        gc.enable()


async def all_closed(database: Callable[[], int]) -> None:
    """The process of a connection on PostgreSQL's side ends soon after it, not with it."""
    async with asyncio.timeout(DEADLINE):
        while await asyncio.to_thread(database):
            pass


Start = Callable[..., Awaitable[Served]]


@pytest.mark.parametrize("kind", ["sync", "async", "failing"])
@override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"])
async def test_the_persistent_connections_of_a_request_are_closed_with_it(
    kind: str, start: Start, database: Callable[[], int]
) -> None:
    served = await start(get_asgi_application())
    client = await served.connect()
    for _ in range(COUNT):
        await client.send(GET.format(kind).encode())
        assert (await client.response()).status == (500 if kind == "failing" else 200)
    await client.close()
    await served.idle()
    await all_closed(database)


@override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"])
async def test_the_persistent_connections_of_a_stream_that_was_left_are_closed(
    start: Start, database: Callable[[], int]
) -> None:
    served = await start(get_asgi_application())
    for _ in range(COUNT):
        client = await served.connect()
        await client.send(GET.format("stream").encode())
        await client.reader.readuntil(b"\r\n1\r\n")
        client.reset()
    await served.idle()
    await all_closed(database)


@override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"])
async def test_request_and_response_of_a_stream_that_was_left_are_closed_though_sending_fails(
    start: Start, database: Callable[[], int]
) -> None:
    """Django closes them when it hears of the disconnect first; the file of the body that is left open is a warning."""
    finished: list[object] = []

    def note(**kwargs: object) -> None:
        finished.append(kwargs)

    request_finished.connect(note)
    try:
        served = await start(get_asgi_application())
        for _ in range(COUNT):
            client = await served.connect()
            await client.send(GET.format("flood").encode())
            await client.reader.readuntil(b"\r\n1\r\n")
            client.reset()
        await served.idle()
    finally:
        request_finished.disconnect(note)
    assert len(finished) == COUNT
    await all_closed(database)


async def test_a_connection_in_a_thread_that_others_use_is_kept(database: Callable[[], int]) -> None:
    await sync_to_async(query)()
    async with ThreadSensitiveContext():
        await sync_to_async(query)()
        assert database() == 2
    await all_closed(lambda: database() - 1)
    assert database() == 1
    await sync_to_async(lambda: connections[ALIAS].close())()


async def test_a_context_is_left_once_its_connections_are_closed_even_in_a_transaction(
    database: Callable[[], int],
) -> None:
    def begin() -> None:
        transaction.atomic(ALIAS).__enter__()
        query()

    async with ThreadSensitiveContext():
        await sync_to_async(begin)()
        assert database() == 1
    await all_closed(database)
