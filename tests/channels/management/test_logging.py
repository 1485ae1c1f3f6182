"""What a real server writes about errors under usual `LOGGING` settings: once, and where somebody reads it."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.channels.management.project import ASGI_APPLICATION, Process, Project
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

pytestmark = pytest.mark.slow

_ASGI = """
    from django.core.asgi import get_asgi_application
    from django.urls import path
    http = get_asgi_application()
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from channels.security.websocket import AllowedHostsOriginValidator

    class Failing(AsyncWebsocketConsumer):
        async def connect(self):
            if self.scope["path"] == "/connect/":
                raise ArithmeticError("in connect")
            await self.accept()

        async def receive(self, text_data=None, bytes_data=None):
            raise ArithmeticError("in receive")

        async def disconnect(self, code):
            raise ArithmeticError("in disconnect")

    sockets = URLRouter([path("connect/", Failing.as_asgi()), path("receive/", Failing.as_asgi())])
    application = ProtocolTypeRouter({"http": http, "websocket": AllowedHostsOriginValidator(sockets)})
"""

_URLS = """
    from django.urls import path
    def view(request):
        raise ArithmeticError("in view")
    urlpatterns = [path("", view)]
"""

_TO_CONSOLE = '"handlers": {"c": {"class": "logging.StreamHandler"}}'
LOGGING = {
    "default": "",
    "disabled": 'LOGGING = {"version": 1, "disable_existing_loggers": True}',
    "key absent": f'LOGGING = {{"version": 1, {_TO_CONSOLE}, "loggers": {{"django": {{"handlers": ["c"]}}}}}}',
    "root": f'LOGGING = {{"version": 1, {_TO_CONSOLE}, "root": {{"handlers": ["c"]}}}}',
}


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str, str], tuple[Process, int]]]:
    running: list[Process] = []

    def start(command: str, extra: str) -> tuple[Process, int]:
        project = Project(tmp_path, ["channels"], f"{ASGI_APPLICATION}; {extra}")
        project.write("runsite/asgi.py", _ASGI)
        project.write("runsite/urls.py", _URLS)
        if command == "runserver":
            process: Process = project.runserver("--noreload")
            running.append(process)
            return process, int(process.read_until(r"server at http://127\.0\.0\.1:(\d+)/").group(1))
        project.write("manage.py", _SERVE)
        process = project.start("--port", "0", "runsite.asgi:application")
        running.append(process)
        return process, int(process.read_until(r"listening on http://127\.0\.0\.1:(\d+)").group(1))

    yield start
    for process in running:
        process.close()


_SERVE = """
    import os, sys
    os.environ["DJANGO_SETTINGS_MODULE"] = "runsite.settings"
    from fairway.__main__ import main
    sys.exit(main())
"""


def provoke(port: int) -> None:
    """One error of each kind."""
    for path, origin in [
        ("connect/", None),
        ("receive/", None),
        ("connect/", "http://evil.example"),
        ("absent/", None),
    ]:
        try:
            with connect(f"ws://127.0.0.1:{port}/{path}", origin=origin or f"http://127.0.0.1:{port}") as websocket:  # type: ignore[arg-type]
                websocket.send("x")
                websocket.recv(20)
        except WebSocketException:
            pass
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    assert connection.getresponse().status == 500
    connection.close()


@pytest.mark.parametrize("command", ["fairway", "runserver"])
@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("logging", LOGGING)
def test_every_error_is_in_the_log_once(
    server: Callable[[str, str], tuple[Process, int]], command: str, debug: bool, logging: str
):
    process, port = server(command, f"DEBUG = {debug}; ALLOWED_HOSTS = ['127.0.0.1']; {LOGGING[logging]}")
    provoke(port)
    process.interrupt()

    text = "\n".join(process.lines)
    # Django itself writes its own records twice to who adds a handler to the root, while DEBUG is on.
    twice = 2 if logging == "root" and debug else 1
    assert text.count("\nArithmeticError: in connect") == 1, text
    assert text.count("\nArithmeticError: in receive") == 1, text
    assert text.count("\nArithmeticError: in disconnect") == twice, text  # the second one is a line
    assert text.count("\nArithmeticError: in view") == twice, text
    assert len(re.findall("origin 'http://evil.example' is not allowed", text)) == twice, text
    assert text.count("No route found for path 'absent/'") == 1, text


@pytest.mark.parametrize("extra", [LOGGING["default"], LOGGING["disabled"]])
def test_worker_is_heard(tmp_path: Path, extra: str):
    project = Project(tmp_path, ["channels"], f"{ASGI_APPLICATION}; DEBUG = False; {extra}")
    project.write("runsite/settings.py", (tmp_path / "runsite/settings.py").read_text() + _LAYER)
    worker = project.start("runworker", "thumbnails")
    try:
        worker.read_until(r"INFO Worker listens to thumbnails$")
    finally:
        worker.close()


_LAYER = '\nCHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}\n'


def test_test_server_is_heard(tmp_path: Path):
    """`ChannelsLiveServerTestCase`: a failing consumer is seen in the output of the tests, which have DEBUG off."""
    project = Project(tmp_path, ["channels"], ASGI_APPLICATION)
    project.write("runsite/asgi.py", _ASGI)
    project.write("runsite/tests.py", """
        from channels.testing import ChannelsLiveServerTestCase
        from websockets.sync.client import connect

        class Live(ChannelsLiveServerTestCase):
            databases = []
            def test_it(self):
                try:
                    connect(self.live_server_ws_url + "/connect/", origin=self.live_server_url)
                except Exception as error:
                    self.assertIn("500", str(error))
    """)  # fmt: skip
    done = project.manage("test", "runsite")

    assert done.returncode == 0, done.stderr
    assert "\nArithmeticError: in connect\n" in done.stderr
