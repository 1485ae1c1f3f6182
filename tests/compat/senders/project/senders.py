"""A Django project in one module: a page and a Celery task that use the database, and send before and after, over every
layer that there is.
"""

from __future__ import annotations

import json
import os
import threading

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="for this test",
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["channels", "django.contrib.sessions"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["DATABASE"],
            "OPTIONS": {"timeout": 60, "transaction_mode": "IMMEDIATE"},
        }
    },
    CHANNEL_LAYERS=json.loads(os.environ["LAYERS"]),
)
django.setup()

from celery import Celery  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402

from fairway.layers.sync import group_broadcast_json, group_send, group_send_on_commit  # noqa: E402

LAYERS = list(settings.CHANNEL_LAYERS)


def report(number: int, step: str) -> dict[str, object]:
    threads = [thread.name for thread in threading.enumerate()]
    return {"type": "report", "number": number, "step": step, "process": os.getpid(), "threads": threads}


def work(number: int) -> None:
    """What a view or task does: send, use the database, send again, and when it is committed once more."""
    for layer in LAYERS:
        group_send("reports", report(number, "before"), layer=layer)
    assert Session.objects.count() >= 0
    for layer in LAYERS:
        group_send("reports", report(number, "after"), layer=layer)
    with transaction.atomic():
        Session.objects.create(session_key=os.urandom(16).hex(), session_data="", expire_date=timezone.now())
        for layer in LAYERS:
            group_send_on_commit("reports", report(number, "committed"), layer=layer)
    for layer in LAYERS:
        group_broadcast_json("sockets", {"number": number}, layer=layer)


def page(request: HttpRequest, number: int) -> HttpResponse:
    work(number)
    return HttpResponse(str(number))


urlpatterns = [path("work/<int:number>/", page)]
application = get_wsgi_application()

app = Celery("senders", broker=os.environ.get("BROKER", "memory://"))
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)


@app.task(name="work")
def task(number: int) -> None:
    work(number)


if os.environ.get("SENDS_FIRST"):
    # In the parent of the workers, if the server loads the application before it forks.
    for each in LAYERS:
        group_send("reports", report(-1, "before"), layer=each)
