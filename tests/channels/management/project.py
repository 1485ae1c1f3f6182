"""A small Django project on disk, and its `manage.py` run as people run it."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path

PATIENCE = 30.0

_MANAGE = """
    import os, sys
    os.environ["DJANGO_SETTINGS_MODULE"] = "runsite.settings"
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""

_SETTINGS = """
    from pathlib import Path
    SECRET_KEY = "not a secret: tests only"
    DEBUG = True
    ALLOWED_HOSTS = ["*"]
    ROOT_URLCONF = "runsite.urls"
    STATIC_URL = "static/"
    STATICFILES_DIRS = [Path(__file__).parent / "static"]
    INSTALLED_APPS = {apps!r}
    DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
    {extra}
"""

_URLS = """
    from django.http import HttpResponse
    from django.urls import path
    urlpatterns = [path("", lambda request: HttpResponse("first"))]
"""

_ASGI = """
    from django.core.asgi import get_asgi_application
    from django.urls import path
    http = get_asgi_application()
    from channels.generic.websocket import WebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter

    class Echo(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            self.send(text_data=text_data)

    async def lifespan(scope, receive, send):
        for phase in ("startup", "shutdown"):
            await receive()
            print("lifespan", phase, flush=True)
            await send({"type": f"lifespan.{phase}.complete"})

    application = ProtocolTypeRouter({
        "http": http, "websocket": URLRouter([path("ws/", Echo.as_asgi())]), "lifespan": lifespan,
    })
"""

_OVERRIDE = """
    from django.core.management.commands.runserver import Command as Runserver
    class Command(Runserver):
        help = "the runserver of the app named override"
"""

STATICFILES = "django.contrib.staticfiles"
ASGI_APPLICATION = 'ASGI_APPLICATION = "runsite.asgi.application"'


class Project:
    """Files in a directory; `override` is an app in it with a `runserver` of its own."""

    def __init__(self, directory: Path, apps: Sequence[str], extra: str = ASGI_APPLICATION) -> None:
        self.directory = directory
        self.write("manage.py", _MANAGE)
        self.write("runsite/__init__.py", "")
        self.write("runsite/settings.py", _SETTINGS.format(apps=list(apps), extra=extra))
        self.write("runsite/urls.py", _URLS)
        self.write("runsite/asgi.py", _ASGI)
        self.write("runsite/static/hello.txt", "static content")
        for folder in ("override", "override/management", "override/management/commands"):
            self.write(f"{folder}/__init__.py", "")
        self.write("override/management/commands/runserver.py", _OVERRIDE)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
        return path

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.directory, env=_environment(), capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip

    def runserver(self, *arguments: str) -> Runserver:
        """Start the server on a free port."""
        return Runserver(self.directory, arguments)

    def start(self, *arguments: str) -> Process:
        """Start a command that goes on until it is stopped."""
        return Process(self.directory, arguments)


class Process:
    """A running `manage.py`, whose output is read as it comes."""

    def __init__(self, directory: Path, arguments: Sequence[str]) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=directory, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
            # A test run started in the background ignores SIGINT, and its children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def read_until(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """The next line in which the pattern is found. TimeoutError after so many seconds without a line."""
        while (line := self._next_line(patience)) is not None:
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError("\n".join([f"the output ended before {pattern!r}:", *self.lines]))

    def _next_line(self, patience: float) -> str | None:
        try:
            return self._queue.get(timeout=patience)
        except queue.Empty:
            raise TimeoutError("\n".join([f"no line within {patience:g} s after:", *self.lines])) from None

    def interrupt(self) -> int:
        """Press Ctrl-C in the terminal, which all of its processes get; returns the exit code and reads the rest."""
        os.killpg(self.popen.pid, signal.SIGINT)
        return self.wait()

    def terminate(self) -> int:
        """Send SIGTERM, as a supervisor does; returns the exit code and reads the rest."""
        self.popen.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; returns the exit code and reads the rest."""
        code = self.popen.wait(PATIENCE)
        while (line := self._queue.get(timeout=PATIENCE)) is not None:
            self.lines.append(line)
        return code

    def close(self) -> None:
        """Leave nothing running, whatever happened."""
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.popen.stdout is not None
        self.popen.stdout.close()


class Runserver(Process):
    """A running `manage.py runserver`, on a free port."""

    def __init__(self, directory: Path, arguments: Sequence[str]) -> None:
        super().__init__(directory, ["runserver", "127.0.0.1:0", *arguments])

    def port(self) -> int:
        """The port of the next banner."""
        return int(self.read_until(r"development server at https?://127\.0\.0\.1:(\d+)/").group(1))


def _environment() -> dict[str, str]:
    hidden = ("DJANGO_SETTINGS_MODULE", "DJANGO_COLORS", "RUN_MAIN")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**environment, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
