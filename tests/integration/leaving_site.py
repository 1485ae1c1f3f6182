"""What `test_collector.py` serves: views and a consumer that leave something behind. Also the project's `manage.py`."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import weakref
from collections.abc import AsyncIterator
from typing import Any

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    ASGI_APPLICATION="tests.integration.leaving_site.application",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["LEAVING_SITE_DATABASE"],
            "CONN_MAX_AGE": 600,
        }
    },
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    DEBUG="runserver" in sys.argv,
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    ROOT_URLCONF="tests.integration.leaving_site",
    SECRET_KEY="not a secret: tests only",
)

import django  # noqa: E402

if __name__ == "__main__":
    sys.modules["tests.integration.leaving_site"] = sys.modules["__main__"]
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

journal = os.open(os.environ["LEAVING_SITE_JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(event: str) -> None:
    """Write what happens where the tests see it without a request: one would be a reason to collect."""
    os.write(journal, f"{event}\n".encode())


def note_collection(phase: str, information: dict[str, int]) -> None:
    if phase == "stop" and information["generation"] == 2:
        note("collection")


gc.callbacks.append(note_collection)


class Cycle:
    """Something that only a collection frees."""

    def __init__(self, held: object) -> None:
        self.itself, self.held = self, held


def query() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def length(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


def sync_view(request: HttpRequest) -> HttpResponse:
    query()
    return HttpResponse()


async def async_view(request: HttpRequest) -> HttpResponse:
    await sync_to_async(query)()
    return HttpResponse()


async def files(request: HttpRequest) -> HttpResponse:
    file = tempfile.TemporaryFile()  # noqa: SIM115  # left open, as applications do
    Cycle(file)
    return HttpResponse()


async def failure(request: HttpRequest) -> HttpResponse:
    """Leaves a future that failed, whose exception nobody asks for."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: note(context["message"]))
    future = loop.create_future()
    future.set_exception(ArithmeticError("on purpose"))
    Cycle(future)
    return HttpResponse()


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[bytes]:
        note("stream")
        try:
            while True:
                yield bytes(65536)
        finally:
            note("stream ended")

    return StreamingHttpResponse(pieces())


class Holder(AsyncWebsocketConsumer):
    """Is in a cycle with its own task, and with a callback."""

    async def connect(self) -> None:
        weakref.finalize(self, note, "consumer ended")
        self.task = asyncio.create_task(self.work())
        self.callback = self.work
        await self.accept()

    async def work(self) -> None:
        await asyncio.sleep(0)


urlpatterns = [
    path("length/", length),
    path("sync/", sync_view),
    path("async/", async_view),
    path("files/", files),
    path("failure/", failure),
    path("stream/", stream),
]

application: Any = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("holder/", Holder.as_asgi())])}
)

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
