"""The site of `bench/collector.py`: views that leave something behind, and figures about how long it stays.

| path | what it does |
|---|---|
| `POST /length/` | answers with the length of `request.body` |
| `/sync/`, `/async/` | a query, in a view of that kind |
| `/stream/NAME/` | sends without end; its `finally` notes when it ran |
| `/facts/` | when each `finally` ran, how often and how long the collector ran; forgets them with `?clear=1` |
| `/idle/` | a WebSocket on which nothing is said |

Database and debug mode stand in LEAVING_DATABASE (JSON) and LEAVING_DEBUG. It is also the project's `manage.py`.
"""

import gc
import json
import os
import sys
import time

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    ASGI_APPLICATION="leaving_app.application",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={"default": json.loads(os.environ["LEAVING_DATABASE"])},
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    DEBUG=bool(os.environ.get("LEAVING_DEBUG")),
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF="leaving_app",
    SECRET_KEY="not a secret",
    USE_TZ=True,
)

import django  # noqa: E402

if __name__ == "__main__":
    sys.modules["leaving_app"] = sys.modules["__main__"]
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

ended = {}
# Of each generation: how long, by the clock and in CPU time, which others on the machine do not lengthen.
pauses = [[], [], []]
spent = [[], [], []]
began = (0.0, 0.0)


def watch(phase, information):
    global began
    now = (time.perf_counter(), time.thread_time())
    if phase == "start":
        began = now
    else:
        generation = information["generation"]
        pauses[generation].append(now[0] - began[0])
        spent[generation].append(now[1] - began[1])


gc.callbacks.append(watch)


def query():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]


def length(request):
    return HttpResponse(str(len(request.body)))


def sync_view(request):
    return HttpResponse(str(query()))


async def async_view(request):
    return HttpResponse(str(await sync_to_async(query)()))


def stream(request, name):
    async def pieces():
        try:
            await sync_to_async(query)()
            while True:
                yield b"x" * 16384
        finally:
            ended[name] = time.time()

    return StreamingHttpResponse(pieces())


async def facts(request):
    found = {
        "ended": dict(ended),
        "pauses_ms": [[round(1000 * one, 3) for one in generation] for generation in pauses],
        "spent_ms": [[round(1000 * one, 3) for one in generation] for generation in spent],
        "frozen": gc.get_freeze_count(),
        "walked": len(gc.get_objects()),
    }
    if request.GET.get("clear"):
        ended.clear()
        for generation in pauses + spent:
            generation.clear()
    return JsonResponse(found)


class Idle(AsyncWebsocketConsumer):
    pass


urlpatterns = [
    path("length/", length),
    path("sync/", sync_view),
    path("async/", async_view),
    path("stream/<name>/", stream),
    path("facts/", facts),
]

application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("idle/", Idle.as_asgi())])}
)

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
