"""`manage.py runserver`: pages, sockets, static files and the autoreloader of a real process; lines and mistakes."""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.management import CommandError, call_command
from django.core.management.color import make_style, no_style
from tests.channels.management.project import ASGI_APPLICATION, STATICFILES, Project, Runserver
from tests.fairway.server.tls import certificates
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from channels.management.commands.runserver import Command, DevelopmentLog, DevelopmentServer

APPS = [STATICFILES, "channels"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Runserver]]:
    running: list[Runserver] = []

    def runserver(*arguments: str, apps: list[str] = APPS, extra: str = ASGI_APPLICATION) -> Runserver:
        running.append(Project(tmp_path, apps, extra).runserver(*arguments))
        return running[-1]

    yield runserver
    for server in running:
        server.close()


def get(port: int, path: str = "/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def close_after_change(websocket: ClientConnection, urls: Path) -> ConnectionClosed:
    """Change the page, and see the socket closed by the reload."""
    urls.write_text(urls.read_text().replace("first", "second"))
    for later in range(1, 20):
        # Django takes the first look at the files some time after the server has started; what had changed by then
        # is not news to it.
        os.utime(urls, (urls.stat().st_atime, urls.stat().st_mtime + later))
        try:
            websocket.recv(1.5)
        except TimeoutError:
            continue
        except ConnectionClosed as closed:
            return closed
    pytest.fail("the server was not reloaded")


@pytest.mark.slow
def test_page_socket_static_file_and_reload(start: Callable[..., Runserver], tmp_path: Path):
    server = start()
    port = server.port()
    banner = "\n".join(server.lines)
    assert "Performing system checks..." in banner
    assert re.search(r"^Django version \S+, using settings 'runsite\.settings'$", banner, re.M)
    server.read_until("^Quit the server with CONTROL-C.$")

    server.read_until("^lifespan startup$")
    assert get(port) == (200, b"first")
    server.read_until(r"^HTTP GET / 200 \[\d+\.\d\d, 127\.0\.0\.1:\d+\]$")
    assert get(port, "/static/hello.txt") == (200, b"static content")
    assert get(port, "/static/absent.txt")[0] == 404

    with connect(f"ws://127.0.0.1:{port}/ws/") as websocket:
        server.read_until(r"^WebSocket HANDSHAKING /ws/ \[127\.0\.0\.1:\d+\]$")
        server.read_until(r"^WebSocket CONNECT /ws/ \[127\.0\.0\.1:\d+\]$")
        websocket.send("hello")
        assert websocket.recv(20) == "hello"

        closed = close_after_change(websocket, tmp_path / "runsite" / "urls.py")
    assert closed.rcvd is not None
    assert closed.rcvd.code == 1001
    server.read_until("^lifespan shutdown$")

    port = server.port()
    assert get(port) == (200, b"second")
    # What the last lines are is not ours: after Ctrl-C the reloader gives its child a quarter of a second.
    assert server.interrupt() == 0
    assert not any("Traceback" in line for line in server.lines)


@pytest.mark.slow
def test_https_with_a_certificate_for_localhost(
    start: Callable[..., Runserver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    certificates.trustme()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    server = start("--noreload", "--dev-tls")
    port = server.port()
    assert f"at https://127.0.0.1:{port}/" in "\n".join(server.lines)
    authority = tmp_path / "fairway/dev-tls/authority.pem"
    server.read_until(f"^Let your browser trust the authority in {re.escape(str(authority))}, once.$")

    trust = ssl.create_default_context(cafile=str(authority))
    with connect(f"wss://127.0.0.1:{port}/ws/", ssl=trust) as websocket:
        websocket.send("hello")
        assert websocket.recv(20) == "hello"


@pytest.mark.slow
@pytest.mark.django_db
def test_a_wrong_certificate_is_one_sentence(settings: Any):
    settings.ASGI_APPLICATION = "runsite.asgi.application"
    settings.FAIRWAY = {"CERTFILE": "/absent.pem"}
    with pytest.raises(CommandError, match=r"^the certificate file /absent.pem cannot be read: no such file"):
        call_command(Command(), "--noreload", "127.0.0.1:0")


@pytest.mark.slow
def test_unknown_socket_path_is_rejected_in_one_line(start: Callable[..., Runserver]):
    server = start("--noreload")
    port = server.port()

    with pytest.raises(Exception, match="404"):
        connect(f"ws://127.0.0.1:{port}/absent/")
    server.read_until(r"^WebSocket REJECT /absent/ \[127\.0\.0\.1:\d+\]$")

    assert server.interrupt() == 0
    assert server.lines[-1] == "lifespan shutdown"
    assert not any("Traceback" in line for line in server.lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "apps", "debug", "status"),
    [
        (["--nostatic"], APPS, True, 404),
        ([], ["channels"], True, 404),
        ([], APPS, False, 404),
        (["--insecure"], APPS, False, 200),
    ],
)
def test_static_files_are_served_as_django_does(
    start: Callable[..., Runserver], arguments: list[str], apps: list[str], debug: bool, status: int
):
    server = start("--noreload", *arguments, apps=apps, extra=f"{ASGI_APPLICATION}; DEBUG = {debug}")

    assert get(server.port(), "/static/hello.txt")[0] == status


@pytest.mark.slow
def test_port_in_use_has_djangos_message(tmp_path: Path):
    project = Project(tmp_path, APPS)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = project.manage("runserver", "--noreload", f"127.0.0.1:{taken.getsockname()[1]}")

    assert done.returncode == 1
    assert done.stderr.strip() == "Error: That port is already in use."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "arguments", "message"),
    [
        (
            "",
            [],
            "runserver serves the application that the setting ASGI_APPLICATION names, and it is not set. "
            'Add this line to runsite.settings: ASGI_APPLICATION = "runsite.asgi.application"',
        ),
        (
            f'{ASGI_APPLICATION}; FAIRWAY = {{"PING_INTERVL": 3}}',
            [],
            "FAIRWAY has no setting 'PING_INTERVL'; did you mean \"PING_INTERVAL\"?",
        ),
        (
            ASGI_APPLICATION,
            ["--websocket_handshake_timeout", "0"],
            "connect_timeout must be more than 0 seconds, not 0.0",
        ),
    ],
)
def test_mistake_is_one_sentence(tmp_path: Path, extra: str, arguments: list[str], message: str):
    done = Project(tmp_path, APPS, extra).manage("runserver", *arguments)

    assert done.returncode == 1
    assert done.stderr == f"CommandError: {message}\n"


def test_daphnes_options_set_limits(settings: Any, monkeypatch: pytest.MonkeyPatch):
    settings.ASGI_APPLICATION = "tests.absent.application"
    settings.ALLOWED_HOSTS = ["*"]
    settings.FAIRWAY = {"MAX_FRAME_BYTES": 77, "SHUTDOWN_TIMEOUT": 0.5}
    command = Command()
    monkeypatch.setattr(command, "run", lambda **options: None)

    call_command(command, "--websocket_handshake_timeout", "3", "--websocket-max-message-size", "1000")

    assert command.limits.connect_timeout == 3.0
    assert command.limits.max_message_bytes == 1000
    assert command.limits.max_frame_bytes == 77
    assert command.limits.shutdown_timeout == 0.5


def test_open_requests_do_not_hold_up_a_restart(settings: Any, monkeypatch: pytest.MonkeyPatch):
    settings.ASGI_APPLICATION = "tests.absent.application"
    settings.ALLOWED_HOSTS = ["*"]
    command = Command()
    monkeypatch.setattr(command, "run", lambda **options: None)

    call_command(command)

    assert command.limits.shutdown_timeout == 1.0


def test_bad_address_is_refused_by_django(settings: Any):
    settings.ASGI_APPLICATION = "tests.absent.application"
    settings.ALLOWED_HOSTS = ["*"]

    with pytest.raises(CommandError, match='"nonsense:port" is not a valid port number or address:port pair'):
        call_command(Command(), "nonsense:port")


@pytest.mark.parametrize(
    ("options", "debug", "wrapped"),
    [
        ({"use_static_handler": True, "insecure_serving": False}, True, True),
        ({"use_static_handler": True, "insecure_serving": False}, False, False),
        ({"use_static_handler": True, "insecure_serving": True}, False, True),
        ({"use_static_handler": False, "insecure_serving": True}, True, False),
        ({}, True, False),
    ],
)
def test_application_is_wrapped_for_static_files(settings: Any, options: dict[str, bool], debug: bool, wrapped: bool):
    settings.ASGI_APPLICATION = f"{__name__}.test_bad_address_is_refused_by_django"
    settings.DEBUG = debug

    assert isinstance(Command().get_application(options), ASGIStaticFilesHandler) is wrapped


def test_server_takes_the_script_name(settings: Any):
    settings.FORCE_SCRIPT_NAME = "/app/"
    command = Command()
    settings.ASGI_APPLICATION = "tests.absent.application"
    settings.ALLOWED_HOSTS = ["*"]
    server_class = type("Server", (DevelopmentServer,), {"limits": None})

    server = server_class(("127.0.0.1", 0), object)
    for listening in server.sockets:
        listening.close()

    assert command.server_cls is not None
    assert server.config.root_path == "/app"
    assert server.server_port > 0


def scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "http", "method": "GET", "http_version": "1.1", "path": "/a", "raw_path": b"/a",
        "query_string": b"token=secret", "client": ("127.0.0.1", 5123), **changes,
    }  # fmt: skip


@pytest.mark.slow
def test_below_a_script_name_pages_files_and_sockets_are_found_with_and_without_it(start: Callable[..., Runserver]):
    port = start(extra=f'{ASGI_APPLICATION}; FORCE_SCRIPT_NAME = "/app"').port()

    for prefix in ("/app", "/%61pp", ""):
        assert get(port, f"{prefix}/") == (200, b"first")
        with connect(f"ws://127.0.0.1:{port}{prefix}/ws/") as websocket:
            websocket.send("hello")
            assert websocket.recv(10) == "hello"
    assert get(port, "/app/static/hello.txt") == (200, b"static content")
    assert get(port, "/apple/")[0] == 404


def test_lines_are_in_djangos_way(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="django.channels.server")
    log = DevelopmentLog(no_style())
    assert log.enabled
    log.http_finished(scope(), 200, 5, 0.0123)
    log.http_finished(scope(raw_path=b"/a%\n"), None, 5, 1)
    log.websocket_connecting(scope())
    log.websocket_connected(scope())
    log.websocket_rejected(scope(), 403)
    log.websocket_disconnected(scope(), 1000, 2.0)

    assert [record.getMessage() for record in caplog.records] == [
        "HTTP GET /a 200 [0.01, 127.0.0.1:5123]",
        "HTTP GET /a%\\x0a 499 [1.00, 127.0.0.1:5123]",
        "WebSocket HANDSHAKING /a [127.0.0.1:5123]",
        "WebSocket CONNECT /a [127.0.0.1:5123]",
        "WebSocket REJECT /a [127.0.0.1:5123]",
        "WebSocket DISCONNECT /a [127.0.0.1:5123]",
    ]
    assert {record.name for record in caplog.records} == {"django.channels.server"}


@pytest.mark.parametrize(
    ("status", "role"),
    [
        (101, "HTTP_INFO"), (200, "HTTP_SUCCESS"), (302, "HTTP_REDIRECT"), (304, "HTTP_NOT_MODIFIED"),
        (400, "HTTP_BAD_REQUEST"), (404, "HTTP_NOT_FOUND"), (500, "HTTP_SERVER_ERROR"), (799, "HTTP_SERVER_ERROR"),
    ],
)  # fmt: skip
def test_statuses_have_djangos_colours(status: int, role: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="django.channels.server")
    style = make_style("dark")
    DevelopmentLog(style).http_finished(scope(), status, 5, 0)

    text = f"HTTP GET /a {status} [0.00, 127.0.0.1:5123]"
    assert caplog.records[0].getMessage() == getattr(style, role)(text)


ENDLESS = """
    import itertools, time
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    def endless():
        # Django reads a synchronous stream to its end, in a thread, before it sends any of it.
        print("begun", flush=True)
        for number in itertools.count():
            time.sleep(0.05)
            yield b"tick"

    def stuck(request):
        print("begun", flush=True)
        time.sleep(3600)

    stream = path("endless/", lambda request: StreamingHttpResponse(endless()))
    urlpatterns = [path("", lambda request: HttpResponse("first")), stream, path("stuck/", stuck)]
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/endless/", "/stuck/"])
def test_a_synchronous_handler_that_does_not_return_holds_up_no_reload(tmp_path: Path, path: str):
    project = Project(tmp_path, APPS)
    urls = project.write("runsite/urls.py", ENDLESS)
    server = project.runserver()
    try:
        port = server.port()
        assert get(port) == (200, b"first")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            server.read_until("^begun$")
            with connect(f"ws://127.0.0.1:{port}/ws/") as websocket:
                close_after_change(websocket, urls)
            port = server.port()
        assert get(port) == (200, b"second")
        assert server.interrupt() == 0
        assert any(f"left behind: {path} for 127.0.0.1" in line for line in server.lines), "\n".join(server.lines)
    finally:
        server.close()
