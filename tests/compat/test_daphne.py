"""The distribution `daphne`: its wheel in an environment of its own, the command with real sockets, and `runserver`."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
import threading
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect, unix_connect

from tests.compat.environment import ROOT, run

SOURCE = ROOT / "compat" / "daphne"
PATIENCE = 30.0

APPLICATION = """
    import asyncio

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await {"http": answer, "websocket": converse}[scope["type"]](scope, receive, send)

    async def answer(scope, receive, send):
        if scope["path"] == "/slow":
            await asyncio.sleep(60)
        text = f"{scope['client'][0] if scope['client'] else 'unix'} {scope['scheme']} {scope['root_path']}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})

    async def converse(scope, receive, send):
        await receive()
        if scope["path"] == "/undecided":
            await asyncio.sleep(60)
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        print("disconnect", message.get("code"), flush=True)

    class Older:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            await application(self.scope, receive, send)
"""

SETTINGS = """
    from pathlib import Path
    SECRET_KEY = "not a secret: tests only"
    DEBUG = True
    STATIC_URL = "static/"
    ROOT_URLCONF = "settings"
    ASGI_APPLICATION = "site_asgi.application"
    WSGI_APPLICATION = "wsgi.application"
    INSTALLED_APPS = {apps!r}
    DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE = 10
    urlpatterns = []
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment in which our two wheels are installed."""
    directory = tmp_path_factory.mktemp("daphne")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory / "dist")]
    run([*pip, *build, str(ROOT), str(SOURCE)])
    venv.create(directory / "venv", symlinks=True)
    packages = next((directory / "venv").glob("lib/python*/site-packages"))
    # What both depend on. The path file that makes this checkout importable is not read from there.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = ["--python", str(directory / "venv"), "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, *install, *map(str, (directory / "dist").glob("*.whl"))])
    return directory / "venv" / "bin"


class Process:
    """A command, whose output is read as it comes."""

    def __init__(self, command: list[str], directory: Path, **options: Any) -> None:
        hidden = ("DJANGO_SETTINGS_MODULE", "PYTHONPATH", "FORWARDED_ALLOW_IPS")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self.popen = subprocess.Popen(
            command, cwd=directory, env={**environment, "PYTHONUNBUFFERED": "1", **options.pop("env", {})},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
        )  # fmt: skip
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.popen.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def read_until(self, pattern: str) -> re.Match[str]:
        while (line := self._queue.get(timeout=PATIENCE)) is not None:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError("\n".join([f"the output ended before {pattern!r}:", *self.lines]))

    def port(self) -> int:
        return int(self.read_until(r"Listening on http://[^ ]*:(\d+)").group(1))

    def end(self) -> int:
        """Stop it as a supervisor does; the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        code = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while (line := self._queue.get(timeout=PATIENCE)) is not None:
            self.lines.append(line)
        return code

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self.popen.stdout.close()


@pytest.fixture
def daphne(scripts: Path, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    running: list[Process] = []
    (tmp_path / "site_asgi.py").write_text(textwrap.dedent(APPLICATION))

    def start(*arguments: str, command: str = "daphne", **options: Any) -> Process:
        program = [str(scripts / "daphne")] if command == "daphne" else [str(scripts / "python"), *command.split()]
        running.append(Process([*program, *arguments], tmp_path, **options))
        return running[-1]

    yield start
    for process in running:
        process.close()


# The command ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pages_sockets_and_the_access_log(daphne: Callable[..., Process]):
    process = daphne("-p", "0", "--websocket-max-message-size", "10", "site_asgi:application")
    port = process.port()

    answer = httpx.get(f"http://127.0.0.1:{port}/a?b=c", timeout=PATIENCE)
    assert (answer.text, answer.headers["server"]) == ("127.0.0.1 http ", "daphne")
    process.read_until(r'^127\.0\.0\.1:\d+ - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\] "GET /a\?b=c" 200 15$')
    with connect(f"ws://127.0.0.1:{port}/ws") as socket:
        socket.send("hello")
        assert socket.recv(PATIENCE) == "hello"
        process.read_until(r'^127\.0\.0\.1:\d+ - - \[.*\] "WSCONNECTING /ws" - -$')
        process.read_until(r'^127\.0\.0\.1:\d+ - - \[.*\] "WSCONNECT /ws" - -$')
        socket.send("eleven char")
        with pytest.raises(ConnectionClosed, match="1009"):
            socket.recv(PATIENCE)
    process.read_until(r'^127\.0\.0\.1:\d+ - - \[.*\] "WSDISCONNECT /ws" - -$')
    assert process.end() == 0
    assert not any("Traceback" in line for line in process.lines)


@pytest.mark.slow
def test_every_place_to_listen_at_once(daphne: Callable[..., Process], tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        number = inherited.fileno()
        process = daphne(
            "-b", "127.0.0.1", "-p", "0", "-u", "one.sock", "--fd", str(number), "-e", "unix:two.sock:mode=600",
            "--no-server-name", "--root-path", "/app/", "site_asgi:application",
            command="-m daphne", pass_fds=[number],
        )  # fmt: skip
        process.read_until("Starting server at fd:fileno")
        process.read_until("Listening on http")
        process.read_until("Listening on unix:two.sock")

        for transport in (httpx.HTTPTransport(uds=str(tmp_path / name)) for name in ("one.sock", "two.sock")):
            with httpx.Client(transport=transport) as client:
                answer = client.get("http://site/", timeout=PATIENCE)
            assert answer.text == "unix http /app"
            assert "server" not in answer.headers
        url = f"http://127.0.0.1:{inherited.getsockname()[1]}/"
        assert httpx.get(url, timeout=PATIENCE).text == "127.0.0.1 http /app"
        with unix_connect(str(tmp_path / "one.sock"), "ws://site/ws") as client:
            client.send("hello")
            assert client.recv(PATIENCE) == "hello"
        assert (tmp_path / "two.sock").stat().st_mode & 0o777 == 0o600
    assert process.end() == 0
    assert not (tmp_path / "one.sock").exists()
    assert not (tmp_path / "two.sock").exists()


@pytest.mark.slow
def test_time_limits_and_older_applications(daphne: Callable[..., Process], tmp_path: Path):
    process = daphne(
        "-p", "0", "-t", "0.5", "--websocket_timeout", "2", "--websocket_connect_timeout", "0.5",
        "--application-close-timeout", "0.5", "--access-log", "access.log", "site_asgi:Older",
    )  # fmt: skip
    port = process.port()

    assert httpx.get(f"http://127.0.0.1:{port}/slow", timeout=PATIENCE).status_code == 503
    process.read_until("no complete response within 0.5 s; answered with 503")
    with connect(f"ws://127.0.0.1:{port}/") as client, pytest.raises(ConnectionClosed, match="1000"):
        client.recv(PATIENCE)
    process.read_until("^disconnect 1000$")
    with pytest.raises(InvalidStatus, match="500"):
        connect(f"ws://127.0.0.1:{port}/undecided")
    process.read_until("did not end within 0.5 s after the disconnect: cancelled")
    assert process.end() == 0
    assert re.findall('"(.*)"', (tmp_path / "access.log").read_text()) == [
        "GET /slow",
        "WSCONNECTING /",
        "WSCONNECT /",
        "WSDISCONNECT /",
        "WSCONNECTING /undecided",
        "WSREJECT /undecided",
    ]
    assert not any("Traceback" in line for line in process.lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environment", "seen"),
    [
        (["--proxy-headers"], {}, "203.0.113.7 https "),
        (["--proxy-headers", "--proxy-headers-host", "X-Real-IP"], {}, "198.51.100.1 https "),
        (["--proxy-headers"], {"FORWARDED_ALLOW_IPS": "10.0.0.1"}, "127.0.0.1 http "),
        ([], {}, "127.0.0.1 http "),
    ],
)
def test_proxy_headers(daphne: Callable[..., Process], arguments: list[str], environment: dict[str, str], seen: str):
    process = daphne("-p", "0", *arguments, "site_asgi:application", env=environment)
    headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Real-IP": "198.51.100.1"}

    assert httpx.get(f"http://127.0.0.1:{process.port()}/", headers=headers, timeout=PATIENCE).text == seen
    assert process.end() == 0
    assert any("is not a trusted proxy" in line for line in process.lines) is bool(environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["-e", "ssl:443:privateKey=key.pem:certKey=crt.pem"],
            "endpoint 'ssl:443:privateKey=key.pem:certKey=crt.pem': ssl: is not served; "
            "end TLS in a proxy such as nginx, and listen on tcp: or unix: behind it",
        ),
        (["--proxy-headers-host", "X-Real-IP"], "--proxy-headers has to be passed for this parameter."),
        (["-p", "0", "--ping-interval", "0"], "ping_interval must be more than 0 seconds, not 0.0"),
    ],
)
def test_what_cannot_be_served_exits_with_1_and_is_named(
    daphne: Callable[..., Process], arguments: list[str], sentence: str
):
    process = daphne(*arguments, "site_asgi:application")

    assert process.wait() == 1
    assert process.lines[-1].endswith(sentence)
    assert arguments[-2].lstrip("-").replace("-", "_") in "\n".join(process.lines).replace("-", "_")


@pytest.mark.slow
def test_port_in_use_and_missing_application_exit_with_1(daphne: Callable[..., Process]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = daphne("-p", str(port), "site_asgi:application")
        assert process.wait() == 1
    assert process.lines[-1].endswith(f"port {port} is already in use: stop the program that has it, or choose "
                                      "another one with --port")  # fmt: skip

    process = daphne("-p", "0", "site_asgi:app")
    assert process.wait() == 1
    assert process.lines == ['daphne: the module "site_asgi" has no attribute "app"']


TESTS = """
    import multiprocessing, sys
    from http.client import HTTPConnection
    from daphne.testing import DaphneProcess, DaphneTestingInstance, TestApplication
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    if __name__ == "__main__":
        multiprocessing.set_start_method(sys.argv[1])
        with DaphneTestingInstance(xff=True, request_buffer_size=1000) as instance:
            instance.add_send_messages([
                {"type": "http.response.start", "status": 201},
                {"type": "http.response.body", "body": b"made"},
            ])
            client = HTTPConnection(instance.host, instance.port, timeout=20)
            client.request("POST", "/a", body=b"x" * 5000, headers={"X-Forwarded-For": "203.0.113.7"})
            response = client.getresponse()
            assert (response.status, response.read()) == (201, b"made")
            scope, messages = instance.get_received()
            assert scope["method"] == "POST" and tuple(scope["client"]) == ("203.0.113.7", 0), scope
            assert b"".join(message.get("body", b"") for message in messages) == b"x" * 5000
            client.close()

        with DaphneTestingInstance(websocket_max_message_size=10, websocket_max_frame_size=0) as instance:
            TestApplication.delete_setup()
            instance.add_send_messages([{"type": "websocket.accept"}])
            with connect(f"ws://{instance.host}:{instance.port}/") as client:
                instance.add_send_messages([{"type": "websocket.send", "text": "reply"}])
                client.send("hello")
                assert client.recv(20) == "reply"
                _, messages = TestApplication.load_result()
                assert [message.get("text") for message in messages] == [None, "hello"], messages
                client.send("eleven char")
                try:
                    client.recv(20)
                except ConnectionClosed as closed:
                    assert closed.rcvd.code == 1009, closed
                else:
                    raise AssertionError("a message of 11 bytes was taken")

        from site_asgi import Older
        process = DaphneProcess("127.0.0.1", Older, kwargs={"websocket_timeout": "never"})
        process.start()
        error, text = process.errors.get(timeout=20)
        assert "TypeError" in text, text
        process.join()
        print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_classes_for_tests(daphne: Callable[..., Process], tmp_path: Path, start_method: str):
    (tmp_path / "tests.py").write_text(textwrap.dedent(TESTS))
    process = daphne(start_method, command="tests.py")

    assert process.wait() == 0, process.lines
    assert process.lines[-1] == "done"


# Django ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def manage(daphne: Callable[..., Process], tmp_path: Path) -> Callable[..., Process]:
    def start(apps: list[str], *arguments: str) -> Process:
        (tmp_path / "settings.py").write_text(textwrap.dedent(SETTINGS.format(apps=apps)))
        return daphne(*arguments, command="-m django", env={"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": "."})

    return start


@pytest.mark.slow
@pytest.mark.parametrize(
    "apps", [["daphne"], ["daphne", "channels", "django.contrib.staticfiles"], ["channels", "daphne"]]
)
def test_runserver_is_the_asgi_one(manage: Callable[..., Process], apps: list[str]):
    process = manage(apps, "runserver", "--noreload", "127.0.0.1:0")
    port = process.read_until(r"Starting ASGI development server at http://127\.0\.0\.1:(\d+)/").group(1)

    with connect(f"ws://127.0.0.1:{port}/") as client:
        client.send("hello")
        assert client.recv(PATIENCE) == "hello"
        if apps[0] == "daphne":
            client.send("eleven char")
            with pytest.raises(ConnectionClosed, match="1009"):
                client.recv(PATIENCE)


@pytest.mark.slow
def test_place_of_the_app_is_checked(manage: Callable[..., Process]):
    process = manage(["django.contrib.staticfiles", "daphne"], "check")

    assert process.wait() == 1
    assert any("(daphne.E001)" in line for line in process.lines)


@pytest.mark.slow
def test_noasgi_is_djangos_own(manage: Callable[..., Process], tmp_path: Path):
    (tmp_path / "wsgi.py").write_text(
        "from django.core.wsgi import get_wsgi_application as make\napplication = make()\n"
    )
    process = manage(["daphne"], "runserver", "--noreload", "--noasgi", "127.0.0.1:0")

    process.read_until(r"Starting (WSGI )?development server at http://127\.0\.0\.1:")
