"""The command line: its sentences and exit codes, and what it serves."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fairway.server import collector
from fairway.server.cli import main
from fairway.server.config import Config
from fairway.server.limits import ConfigurationError, Limits
from fairway.server.process import _loop_factory
from fairway.server.proxy import ProxyHeaders

PATIENCE = 20.0

APPLICATION = """
    import gc, json

    events = []

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("application: shutdown", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/hang":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            while (await receive())["type"] != "never":
                pass
        facts = {"threshold": gc.get_threshold(), "frozen": gc.get_freeze_count(), "root_path": scope["root_path"]}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(facts).encode()})

    async def refusing(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with an application in the module `cli_site`, and the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "cli_site.py").write_text(textwrap.dedent(APPLICATION))
    yield tmp_path
    sys.modules.pop("cli_site", None)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Leave the loggers as they were."""
    ours = logging.getLogger("fairway")
    level, handlers = ours.level, list(ours.handlers)
    yield
    ours.setLevel(level)
    ours.handlers[:] = handlers


def message(line: str) -> str:
    """What a line of the log says, without its time, level and process."""
    return re.sub(r"^[-0-9]{10} [:,0-9]{12} \[\d+\] [A-Z]+ ", "", line.rstrip("\n"))


class Process:
    """`python -m fairway` in a directory, once it listens."""

    def __init__(self, directory: Path, *arguments: str, **options: Any) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "fairway", *arguments],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.lines: list[str] = []
        self.address = self.read_until("listening on ").removeprefix("listening on ")

    def read_until(self, start: str) -> str:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.lines.append(message(line))
            if self.lines[-1].startswith(start):
                return self.lines[-1]
        pytest.fail("\n".join(["the server ended:", *self.lines]))

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit code and everything on standard output."""
        output, errors = self.popen.communicate(timeout=PATIENCE)
        self.lines += map(message, errors.splitlines())
        return self.popen.returncode, output

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()


@pytest.fixture
def spawn(site: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*arguments: str, **options: Any) -> Process:
        started.append(Process(site, *arguments, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def get(address: str, path: str = "/") -> bytes:
    parts = urlsplit(address)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def begin(address: str, path: str) -> socket.socket:
    """Send a request and read the first bytes of its response, which goes on."""
    parts = urlsplit(address)
    client = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    received = b""
    while b"begun" not in received:
        received += client.recv(65536)
    return client


def test_server_says_where_it_listens_and_stops_on_sigterm(spawn: Callable[..., Process]):
    process = spawn("--port", "0", "cli_site:application")
    assert process.address.startswith("http://127.0.0.1:")

    facts = json.loads(get(process.address, "/a?token=secret"))
    assert process.read_until("127.0.0.1:").split(" ", 1)[1].startswith('"GET /a?token=*** HTTP/1.1" 200 ')
    process.popen.send_signal(signal.SIGTERM)
    code, output = process.end()

    assert code == 0
    assert output == "application: shutdown\n"
    assert facts["threshold"] == list(collector.THRESHOLDS)
    assert facts["frozen"] > 0
    assert process.lines[-2:] == ["stopping; once more to stop at once", "stopped"]


@pytest.mark.slow
def test_trusted_proxy_is_believed_and_the_servers_name_is_given(spawn: Callable[..., Process]):
    process = spawn("--port", "0", "--server-name", "boat 7", "cli_site:application")
    parts = urlsplit(process.address)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.7\r\nconnection: close\r\n\r\n")
        response = b"".join(iter(lambda: client.recv(65536), b""))

    assert b"\r\nserver: boat 7\r\n" in response
    process.read_until('203.0.113.7:0 "GET / HTTP/1.1" 200 ')


@pytest.mark.parametrize(
    ("arguments", "proxied"),
    [
        ([], True),
        (["--forwarded-allow-ips", "203.0.113.0/24, 10.0.0.1"], True),
        (["--no-proxy-headers"], False),
    ],
)
def test_proxies_are_believed_unless_told_otherwise(
    site: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], proxied: bool
):
    served: list[Any] = []
    monkeypatch.setattr("fairway.server.cli.run", lambda app, config, **options: served.append(app) or 0)

    assert main([*arguments, "cli_site:application"]) == 0
    assert isinstance(served[0], ProxyHeaders) is proxied


@pytest.mark.slow
def test_second_signal_does_not_wait_for_a_request(spawn: Callable[..., Process]):
    process = spawn("--port", "0", "--no-access-log", "cli_site:application")
    with begin(process.address, "/hang"):
        process.popen.send_signal(signal.SIGINT)
        process.read_until("stopping")
        process.popen.send_signal(signal.SIGINT)
        code, output = process.end()

    assert code == 0
    assert output == "application: shutdown\n"
    assert not any("GET" in line for line in process.lines)


@pytest.mark.slow
def test_unix_socket_is_served_and_removed(spawn: Callable[..., Process], site: Path):
    path = site / "s.sock"
    process = spawn("--uds", "s.sock", "--root-path", "/app", "cli_site:application")
    assert process.address == "unix:s.sock"

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /app/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        response = b"".join(iter(lambda: client.recv(65536), b""))
    process.popen.send_signal(signal.SIGINT)

    assert json.loads(response.partition(b"\r\n\r\n")[2])["root_path"] == "/app"
    assert process.end()[0] == 0
    assert not path.exists()


@pytest.mark.slow
def test_inherited_descriptor_is_served(spawn: Callable[..., Process]):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        process = spawn("--fd", str(number), "cli_site:application", pass_fds=[number])

        assert process.address == f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert get(process.address)


@pytest.mark.slow
def test_settings_are_read_after_the_application_was_loaded(site: Path):
    (site / "cli_django.py").write_text(
        "from django.conf import settings\nsettings.configure(FAIRWAY={'PING_INTERVL': 1})\nfrom cli_site import *\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "fairway", "cli_django:application"],
        capture_output=True, text=True, timeout=PATIENCE, cwd=site,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == "fairway: FAIRWAY has no setting 'PING_INTERVL'; did you mean \"PING_INTERVAL\"?\n"


@pytest.mark.slow
def test_layer_in_memory_and_several_workers_is_warned_of_once(site: Path):
    layers = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    (site / "cli_django.py").write_text(
        f"from django.conf import settings\nsettings.configure(CHANNEL_LAYERS={layers!r})\nfrom cli_site import *\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "fairway", "--port", "0", "cli_django:refusing"],
        env={**os.environ, "WEB_CONCURRENCY": "3"}, capture_output=True, text=True, timeout=PATIENCE, cwd=site,
    )  # fmt: skip

    assert done.returncode == 3
    (line,) = [message(line) for line in done.stderr.splitlines() if "WARNING" in line and "WEB_CONCURRENCY" in line]
    assert line.startswith("3 processes serve this site (--workers or WEB_CONCURRENCY), and the layer CHANNEL")
    assert line.endswith("or set WEB_CONCURRENCY=1 if one process serves the site.")


MODULES = """
    import gc, json, sys
    {imports}

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            # NiceGUI does that, to find its server; some objects raise an exception.
            assert [one for one in gc.get_objects() if isinstance(one, application.__class__)]
            await send({{"type": "lifespan.startup.complete"}})
            await receive()
            await send({{"type": "lifespan.shutdown.complete"}})
            return
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": json.dumps(sorted(sys.modules)).encode()}})
"""

DJANGO = """
    from django.conf import settings
    settings.configure(INSTALLED_APPS=[])
    from django.core.asgi import get_asgi_application
    get_asgi_application()
"""


def modules_of(site: Path, spawn: Callable[..., Process], imports: str, *arguments: str) -> set[str]:
    """The modules in the process that serves an application with these imports, which has looked at all objects."""
    source = textwrap.dedent(MODULES).format(imports=textwrap.dedent(imports))
    (site / "cli_modules.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    process = spawn("--port", "0", "--lifespan", "on", *arguments, "cli_modules:application", env=environment)
    return set(json.loads(get(process.address)))


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_is_not_djangos_gets_no_django(site: Path, spawn: Callable[..., Process], workers: str):
    names = modules_of(site, spawn, "", "--workers", workers)

    assert [name for name in sorted(names) if name.partition(".")[0] in ("django", "channels", "asgiref")] == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_of_djangos_leaves_no_connections(site: Path, spawn: Callable[..., Process], workers: str):
    """Also if `channels`, which sees to that too, is none of its apps."""
    names = modules_of(site, spawn, DJANGO, "--workers", workers)

    assert {"fairway.leftovers", "django.db"} <= names


def test_bad_application_path_is_one_sentence(site: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cli_site:aplication"]) == 1

    assert capsys.readouterr().err == (
        'fairway: the module "cli_site" has no attribute "aplication": did you mean "application"?\n'
    )


def test_error_in_the_application_shows_where(site: Path, capsys: pytest.CaptureFixture[str]):
    (site / "cli_broken.py").write_text("import cli_absent\n")

    assert main(["cli_broken:application"]) == 1

    first, *_, line, error, sentence = capsys.readouterr().err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert line.strip() == "import cli_absent"
    assert error == "ModuleNotFoundError: No module named 'cli_absent'"
    assert sentence == ("fairway: \"cli_broken\" cannot be imported: ModuleNotFoundError: No module named 'cli_absent'")


@pytest.mark.usefixtures("quiet")
def test_port_in_use_is_one_sentence(site: Path, capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "cli_site:application"]) == 1

    assert capsys.readouterr().err.startswith(f"fairway: port {port} is already in use: stop the program that has it")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "70000"], "port must be between 0 and 65535, not 70000"),
        (["--server-name", "a\r\nb"], "server_name must be printable ASCII, not 'a\\r\\nb'"),
        (
            ["--forwarded-allow-ips", "10.0.0.1/8"],
            "a trusted proxy is an address, a network such as 10.0.0.0/8, or *, not '10.0.0.1/8': "
            "10.0.0.1/8 has host bits set",
        ),
        (["--root-path", "app"], "root_path must start with a slash, as in \"/app\", not 'app'"),
    ],
)
def test_bad_option_is_one_sentence(
    site: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
):
    assert main([*arguments, "cli_site:application"]) == 1

    assert capsys.readouterr().err == f"fairway: {sentence}\n"


def test_bad_settings_are_one_sentence(site: Path, capsys: pytest.CaptureFixture[str]):
    def limits() -> Limits:
        assert "cli_site" in sys.modules
        raise ConfigurationError("FAIRWAY must be a dictionary, not 3")

    assert main(["cli_site:application"], limits_source=limits) == 1

    assert capsys.readouterr().err == "fairway: FAIRWAY must be a dictionary, not 3\n"


@pytest.mark.usefixtures("quiet")
def test_application_that_refuses_to_start_exits_with_3(site: Path):
    assert main(["--port", "0", "cli_site:refusing"]) == 3


@pytest.mark.usefixtures("quiet")
def test_missing_uvloop_is_one_sentence(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "uvloop", None)

    assert main(["--loop", "uvloop", "cli_site:application"]) == 1

    assert capsys.readouterr().err == ("fairway: --loop uvloop: it is not installed; pip install uvloop, or use auto\n")
    assert _loop_factory("auto") is asyncio.new_event_loop


def test_help_has_examples_and_groups(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    text = capsys.readouterr().out
    assert caught.value.code == 0
    for part in ("where to listen:", "what the application sees:", "how to run:", "examples:", "FAIRWAY"):
        assert part in text


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--version"], version="1.2")

    assert capsys.readouterr().out == "fairway 1.2\n"


def test_unix_socket_and_descriptor_exclude_each_other(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["--uds", "a", "--fd", "3", "x:y"])

    assert caught.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


# Limits, and options of other servers ---------------------------------------------------------------------------------


def test_flag_outweighs_variable_and_variable_outweighs_settings(
    site: Path, monkeypatch: pytest.MonkeyPatch, quiet: None
):
    seen: list[Config] = []
    monkeypatch.setattr("fairway.server.cli.run", lambda app, config, **options: seen.append(config) or 0)
    monkeypatch.setenv("FAIRWAY_PING_INTERVAL", "7")
    monkeypatch.setenv("FAIRWAY_MAX_MESSAGE_BYTES", "8")

    assert main(["--max-message-bytes", "9", "--no-deflate", "cli_site:application"]) == 0
    [config] = seen
    assert (config.limits.ping_interval, config.limits.max_message_bytes, config.limits.deflate) == (7.0, 9, False)


@pytest.mark.slow
def test_limit_of_the_command_line_is_kept(spawn: Callable[..., Process]):
    """A real server: a request line beyond the limit is answered 414."""
    process = spawn("--port", "0", "--max-request-line-bytes", "64", "cli_site:application")

    assert json.loads(get(process.address))
    assert b"request line" in get(process.address, "/" + "x" * 100)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--ping-interval often", "--ping-interval must be a number of seconds, not 'often'"),
        ("--max-fragments 0", "--max-fragments must be at least 1, not 0"),
    ],
)
def test_bad_limit_is_one_sentence(site: Path, capsys: pytest.CaptureFixture[str], arguments: str, sentence: str):
    assert main([*arguments.split(), "cli_site:application"]) == 1
    assert capsys.readouterr().err == f"fairway: {sentence}\n"


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (
            "--worker-class x a:b",
            "there is no option --worker-class: each worker is one event loop; write --workers for more",
        ),
        ("--use-reloader a:b", "there is no option --use-reloader: write --reload"),
        ("--ssl-keyfile=k.pem a:b", "there is no option --ssl-keyfile: write --keyfile"),
        ("-p 8001 a:b", "there is no option -p: write --port"),
        ("--bind 0.0.0.0:80 a:b", "there is no option --bind: write --host and --port"),
        ("--ping-intervall 3 a:b", "there is no option --ping-intervall: did you mean --ping-interval?"),
        ("--qqqq a:b", "there is no option --qqqq: fairway --help lists all"),
        ("a:b c:d", "'c:d' is one argument too many: there is one application"),
    ],
)
def test_option_of_another_server_names_the_way_out(arguments: str, start: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())

    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.startswith(f"fairway: {start}")
    assert error.count("\n") == 1
