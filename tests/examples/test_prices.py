"""The page on streams beside the tutorial: its `asgi.py` and its consumers, in the tutorial's project with a layer."""

from __future__ import annotations

import shutil
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests.examples.running import EXERCISES, FAIRWAY, ROOT, RUNSERVER, copy_project, running

pytestmark = pytest.mark.slow

CHANGING_VIEW = """
from channels.layers import get_channel_layer
from django.http import HttpResponse


async def change(request):
    await get_channel_layer().group_send("prices", {"type": "price.changed", "price": 42})
    return HttpResponse("changed")
"""
URLS = """
from django.contrib import admin
from django.urls import path

from your_app import views

urlpatterns = [path("admin/", admin.site.urls), path("", views.chat_page), path("change/", views.change)]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = copy_project(tmp_path / "project")
    shutil.copytree(EXERCISES / "1-rooms", project, dirs_exist_ok=True)
    shutil.copy(ROOT / "examples/prices/asgi.py", project / "your_project_name/asgi.py")
    shutil.copy(ROOT / "tests/contracts/prices.py", project / "your_app/prices.py")
    with (project / "your_app/views.py").open("a", encoding="utf-8") as views:
        views.write(CHANGING_VIEW)
    (project / "your_project_name/urls.py").write_text(URLS, encoding="utf-8")
    return project


def ask(port: int, path: str) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200, path
        return answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("args", [RUNSERVER, FAIRWAY], ids=["runserver", "fairway"])
def test_an_event_reaches_a_stream_and_a_poll_beside_the_pages_of_django(args: list[str], project: Path) -> None:
    with running(args, project) as server:
        port = server.port()
        stream, poll = (HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(2))
        stream.request("GET", "/prices/", headers={"Accept": "text/event-stream"})
        events = stream.getresponse()
        poll.request("GET", "/prices/next/")
        waiting = poll.getresponse()  # its head comes when it is in the group

        assert ask(port, "/change/") == b"changed"

        assert events.getheader("content-type") == "text/event-stream"
        lines = iter(events.readline, b"")
        assert next(line for line in lines if line.startswith(b"event:")) == b"event: price\n"
        assert next(lines) == b"data: 42\n"
        assert waiting.read() == b"42"
        assert b"chat-message-input" in ask(port, "/")
        stream.close()
        poll.close()
