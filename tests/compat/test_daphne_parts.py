"""The parts of the distribution `daphne` that need no process: flags, endpoints, headers, limits, lines of the log."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps

from fairway.server.limits import ConfigurationError, Limits
from fairway.server.proxy import ProxyHeaders
from tests.compat.environment import ROOT

# Imported in passing: to all other tests the distribution is not installed.
sys.path.insert(0, str(ROOT / "compat" / "daphne"))
try:
    import daphne
    from daphne.access import AccessLogGenerator
    from daphne.checks import check_daphne_installed
    from daphne.cli import CommandLineInterface
    from daphne.endpoints import build_endpoint_description_strings, parse
    from daphne.server import Server
    from daphne.testing import TestApplication
    from daphne.timeouts import TimeLimits
    from daphne.utils import import_by_path, parse_x_forwarded_for
finally:
    sys.path.remove(str(ROOT / "compat" / "daphne"))
    MODULES = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "daphne"}


@pytest.fixture(autouse=True)
def _imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)


MIB = 1024 * 1024


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Does nothing."""


class Recorder(CommandLineInterface):
    """The command, with another server and another way to load."""

    def server_class(self, **arguments: Any) -> Any:
        self.arguments = arguments
        return type("Recorded", (), {"run": lambda self: None})()

    def load_asgi_app(self, path: str) -> Any:
        return application


def arguments(*flags: str) -> dict[str, Any]:
    interface = Recorder()
    interface.run([*flags, "site:application"])
    assert interface.server is not None
    return interface.arguments


# Flags ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "endpoints"),
    [
        ([], ["tcp:port=8000:interface=127.0.0.1"]),
        (["-p", "123"], ["tcp:port=123:interface=127.0.0.1"]),
        (["--bind", "10.0.0.1"], ["tcp:port=8000:interface=10.0.0.1"]),
        (["-b", "::1", "--port", "0"], [r"tcp:port=0:interface=\:\:1"]),
        (["-u", "/tmp/a.sock"], ["unix:/tmp/a.sock"]),
        (["--fd", "0"], ["fd:fileno=0"]),
        (["--unix-socket", "/a", "-p", "9"], ["tcp:port=9:interface=127.0.0.1", "unix:/a"]),
        (
            ["-e", "unix:/b", "--endpoint", "fd:fileno=4", "-u", "/a", "-p", "9"],
            ["fd:fileno=4", "tcp:port=9:interface=127.0.0.1", "unix:/a", "unix:/b"],
        ),
        (["-e", "tcp:port=7"], ["tcp:port=7"]),
    ],
)
def test_places_are_combined_sorted_and_filled_in(flags: list[str], endpoints: list[str]):
    assert arguments(*flags)["endpoints"] == endpoints


def test_defaults_are_daphnes():
    given = arguments()

    assert isinstance(given.pop("action_logger"), AccessLogGenerator)
    assert given.pop("application") is application
    assert given == {
        "endpoints": ["tcp:port=8000:interface=127.0.0.1"],
        "http_timeout": None,
        "ping_interval": 20,
        "ping_timeout": 30,
        "websocket_timeout": 86400,
        "websocket_connect_timeout": 5,
        "websocket_handshake_timeout": 5,
        "websocket_max_message_size": MIB,
        "websocket_max_frame_size": MIB,
        "application_close_timeout": 10,
        "root_path": "",
        "verbosity": 1,
        "server_name": "daphne",
        "proxy_forwarded_address_header": None,
        "proxy_forwarded_port_header": None,
        "proxy_forwarded_proto_header": None,
    }


def test_flags_reach_the_server():
    given = arguments(
        "-t", "7", "--ping-interval", "1", "--ping-timeout", "2", "--websocket_timeout", "-1",
        "--websocket_connect_timeout", "3", "--websocket-max-message-size", "0", "--websocket-max-frame-size", "5",
        "--application-close-timeout", "4", "--root-path", "/app", "-s", "boat", "-v", "0",
        "--proxy-headers", "--proxy-headers-host", "X-Real-IP", "--proxy-headers-port", "X-Real-Port",
    )  # fmt: skip

    assert (given["http_timeout"], given["ping_interval"], given["ping_timeout"]) == (7, 1, 2)
    assert (given["websocket_timeout"], given["websocket_connect_timeout"]) == (-1, 3)
    assert (given["websocket_max_message_size"], given["websocket_max_frame_size"]) == (0, 5)
    assert (given["application_close_timeout"], given["root_path"], given["server_name"]) == (4, "/app", "boat")
    assert (given["verbosity"], given["action_logger"]) == (0, None)
    assert given["proxy_forwarded_address_header"] == "X-Real-IP"
    assert given["proxy_forwarded_port_header"] == "X-Real-Port"
    assert given["proxy_forwarded_proto_header"] == "X-Forwarded-Proto"


def test_header_is_named_without_a_name_too():
    assert arguments("--no-server-name")["server_name"] == ""
    assert arguments("--proxy-headers")["proxy_forwarded_address_header"] == "X-Forwarded-For"


@pytest.mark.parametrize("flag", ["--proxy-headers-host", "--proxy-headers-port"])
def test_names_of_headers_need_proxy_headers(flag: str):
    with pytest.raises(argparse.ArgumentError) as caught:
        arguments(flag, "X-Real-IP")

    assert caught.value.argument_name == flag
    assert caught.value.message == "--proxy-headers has to be passed for this parameter."


def test_access_log_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="1"):
        arguments("--access-log", str(tmp_path / "absent" / "log"))

    assert capsys.readouterr().err.startswith("daphne: [Errno 2] No such file or directory")


# Arguments of the server ----------------------------------------------------------------------------------------------


def test_arguments_become_limits():
    limits = Server(
        application,
        ping_interval=1,
        ping_timeout=2,
        websocket_connect_timeout=9,
        websocket_handshake_timeout=3,
        websocket_max_message_size=0,
        websocket_max_frame_size=5,
        application_close_timeout=4,
    ).limits()

    assert (limits.ping_interval, limits.ping_timeout, limits.connect_timeout) == (1, 2, 3)
    assert (limits.max_message_bytes, limits.max_frame_bytes) == (sys.maxsize, 5)
    assert limits.disconnect_timeout == 4
    assert limits.keep_alive_timeout == Limits().keep_alive_timeout


def test_settings_hold_where_an_argument_is_left_at_its_default(settings: Any):
    settings.FAIRWAY = {"PING_INTERVAL": 7, "PING_TIMEOUT": 8, "KEEP_ALIVE_TIMEOUT": 9}

    limits = Server(application, ping_timeout=3).limits()

    assert (limits.ping_interval, limits.ping_timeout, limits.keep_alive_timeout) == (7, 3, 9)
    assert limits.connect_timeout == 5


def test_mistake_names_the_argument():
    with pytest.raises(ConfigurationError, match=r"^application_close_timeout must be more than 0 seconds, not -1$"):
        Server(application, application_close_timeout=-1).limits()


@pytest.mark.parametrize("root_path", ["/app", "/app/", "app"])
@pytest.mark.parametrize(
    ("path", "seen"), [("/a", "/app/a"), ("/app/a", "/app/a"), ("/app", "/app"), ("/apple", "/app/apple")]
)
async def test_root_path_is_at_the_head_of_each_path_once(root_path: str, path: str, seen: str):
    scope = {"type": "http", "path": path, "root_path": ""}

    await Server(application, root_path=root_path).wrapped_application()(scope, None, None)

    assert scope == {"type": "http", "path": seen, "root_path": "/app"}


def test_name_is_handed_on():
    assert Server(application, server_name="").config().server_name == ""


def test_proxies_are_believed_only_when_asked_for():
    assert isinstance(Server(application).wrapped_application(), TimeLimits)
    asked = Server(application, proxy_forwarded_proto_header="X-Forwarded-Proto")
    assert isinstance(asked.wrapped_application(), ProxyHeaders)


def test_server_without_a_place_exits():
    with pytest.raises(SystemExit, match="1"):
        Server(application).run()


def test_server_stops_in_any_thread_and_before_it_has_started():
    told: list[str] = []
    server = Server(application, ["tcp:port=0:interface=127.0.0.1"], ready_callable=lambda: told.append("ready"))
    server.stop()

    server.run()

    assert server.listening_addresses[0][0] == "127.0.0.1"
    assert server.listening_addresses[0][1] > 0


# Endpoints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "descriptions"),
    [
        ({}, []),
        ({"host": "127.0.0.1", "port": 8000}, ["tcp:port=8000:interface=127.0.0.1"]),
        ({"host": "[200a::1]", "port": 8000}, [r"tcp:port=8000:interface=200a\:\:1"]),
        ({"unix_socket": "/tmp/sock.a"}, ["unix:/tmp/sock.a"]),
        ({"file_descriptor": 5}, ["fd:fileno=5"]),
        ({"unix_socket": "/a", "file_descriptor": 0}, ["unix:/a", "fd:fileno=0"]),
    ],
)
def test_descriptions_are_built(given: dict[str, Any], descriptions: list[str]):
    assert build_endpoint_description_strings(**given) == descriptions


@pytest.mark.parametrize("given", [{"host": "127.0.0.1"}, {"port": 8000}])
def test_half_of_an_address_is_refused(given: dict[str, Any]):
    with pytest.raises(ValueError, match=r"^a TCP endpoint needs both host and port$"):
        build_endpoint_description_strings(**given)


@pytest.mark.parametrize(
    ("description", "place"),
    [
        ("tcp:port=80:interface=10.0.0.1", ("10.0.0.1", 80, None, None)),
        ("tcp:80", ("0.0.0.0", 80, None, None)),
        ("tcp6:port=80", ("::", 80, None, None)),
        (r"tcp:port=80:interface=200a\:\:1", ("200a::1", 80, None, None)),
        ("unix:/tmp/a.sock", (None, None, "/tmp/a.sock", None)),
        (r"unix:address=/tmp/a\:b", (None, None, "/tmp/a:b", None)),
        ("unix:/tmp/a=b", (None, None, "/tmp/a=b", None)),
        ("fd:fileno=3", (None, None, None, 3)),
    ],
)
def test_descriptions_are_understood(description: str, place: tuple[Any, ...]):
    config = parse(description).config

    host, port, uds, fd = place
    assert (config.uds, config.fd) == (uds, fd)
    if host is not None:
        assert (config.host, config.port) == (host, port)


def test_mode_of_a_unix_socket_is_octal():
    assert parse("unix:/a:mode=660").mode == 0o660
    assert parse("unix:/a").mode is None


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ("ssl:443:privateKey=k", "ssl: is not served; end TLS in a proxy such as nginx"),
        ("systemd:domain=INET:index=0", "systemd: is not served; use --fd 3"),
        ("carrier-pigeon:", "carrier-pigeon: is not served; tcp:, tcp6:, unix: and fd: are"),
        ("tcp:interface=127.0.0.1", "port is missing"),
        ("tcp:port=http", "port must be a number, not 'http'"),
        ("unix:", "address is missing"),
        ("unix:/a:mode=rw", "mode must be octal, such as 660"),
        ("tcp:80:backlog=9", "'backlog=9' is not understood; tcp: has port, interface"),
    ],
)
def test_mistaken_description_is_one_sentence(description: str, problem: str):
    with pytest.raises(ConfigurationError) as caught:
        parse(description)

    assert str(caught.value).startswith(f"endpoint {description!r}: {problem}")


# Utilities ------------------------------------------------------------------------------------------------------------

FORWARDED = {b"X-Forwarded-For": [b"10.1.2.3, 10.1.2.4"], b"X-Forwarded-Port": [b"1234"]}


@pytest.mark.parametrize(
    ("headers", "options", "result"),
    [
        (FORWARDED, {}, (["10.1.2.3", 1234], None)),
        ({"x-forwarded-for": "10.1.2.3"}, {}, (["10.1.2.3", 0], None)),
        ([(b"x-forwarded-for", b"[200a::1]:44")], {}, (["200a::1", 44], None)),
        (FORWARDED, {"port_header_name": None}, (["10.1.2.3", 0], None)),
        (FORWARDED, {"address_header_name": None, "original_addr": ["a", 1]}, (["a", 1], None)),
        ({}, {"original_addr": ["a", 1], "original_scheme": "http"}, (["a", 1], "http")),
        ({**FORWARDED, b"X-Forwarded-Proto": b"https"}, {"original_scheme": "http"}, (["10.1.2.3", 1234], "https")),
        ({**FORWARDED, b"X-Forwarded-Proto": b"https"}, {"proto_header_name": ""}, (["10.1.2.3", 1234], None)),
        ({"X-Forwarded-For": "unknown"}, {}, (["unknown", 0], None)),
        ({"X-Forwarded-For": "1043::a321:0001, 10.0.0.1"}, {}, (["1043::a321:0001", 0], None)),
        ({"X-Forwarded-For": "[1043::A321:0001]:44"}, {}, (["1043::A321:0001", 44], None)),
        ({"X-Forwarded-For": "10.1.2.3:44"}, {}, (["10.1.2.3", 44], None)),
        ({"X-Forwarded-For": "unknown:44"}, {}, (["unknown:44", 0], None)),
    ],
)
def test_forwarded_headers_are_read(headers: Any, options: dict[str, Any], result: Any):
    assert parse_x_forwarded_for(headers, **options) == result


def test_forwarded_headers_of_twisted_are_read():
    class Headers:
        def getAllRawHeaders(self) -> Any:  # Twisted's name
            return FORWARDED.items()

    assert parse_x_forwarded_for(Headers()) == (["10.1.2.3", 1234], None)


def test_import_by_path():
    assert import_by_path("daphne.server:Server.run") is Server.run
    with pytest.raises(ValueError, match=r"^'daphne\.server' names no object: write it as package\.module:attribute$"):
        import_by_path("daphne.server")
    with pytest.raises(ImportError):
        import_by_path("daphne.absent:a")


def test_line_of_the_access_log():
    stream = io.StringIO()
    log = AccessLogGenerator(stream)

    log.write_entry("::1", datetime(2026, 11, 23, 22, 15), "GET /", 200, 5)
    log("http", "unheard of", {})
    log("websocket", "unheard of", {})

    assert stream.getvalue() == '::1 - - [23/Nov/2026:22:15:00] "GET /" 200 5\n'


@pytest.mark.parametrize(
    ("installed", "problems"),
    [
        (["daphne", "django.contrib.staticfiles"], []),
        (["django.contrib.staticfiles", "daphne"], ["daphne.E001"]),
        (["daphne"], []),
        (["django.contrib.staticfiles"], []),
    ],
)
def test_place_of_the_app_is_checked(monkeypatch: pytest.MonkeyPatch, installed: list[str], problems: list[str]):
    configs = [type("Config", (), {"name": name})() for name in installed]
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)

    assert [error.id for error in check_daphne_installed(None)] == problems


# The application for tests --------------------------------------------------------------------------------------------


class Conversation:
    """Messages for an application, each followed by what the test does before the next; and what it has sent."""

    def __init__(self, *steps: tuple[dict[str, Any], Callable[[], Any] | None]) -> None:
        self.steps = list(steps)
        self.sent: list[dict[str, Any]] = []
        self.meanwhile: Callable[[], Any] | None = None

    async def receive(self) -> dict[str, Any]:
        if self.meanwhile is not None:
            self.meanwhile()
        message, self.meanwhile = self.steps.pop(0)
        return message

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


CONNECT, DISCONNECT = {"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}
SCOPE = {"type": "websocket"}


async def test_test_application_sends_what_is_set_up_at_each_message_once(tmp_path: Path):
    test_application = TestApplication(tmp_path)
    test_application.save_setup([{"type": "websocket.accept"}])
    hello = {"type": "websocket.receive", "text": "hello"}
    talk = Conversation(
        (CONNECT, lambda: test_application.save_setup([{"type": "websocket.send", "text": "1"}])),
        (hello, None),
        (hello, lambda: test_application.save_setup([{"type": "websocket.send", "text": "late"}])),
        (DISCONNECT, None),
    )

    await test_application(SCOPE, talk.receive, talk.send)

    assert talk.sent == [{"type": "websocket.accept"}, {"type": "websocket.send", "text": "1"}]
    assert test_application.load_result() == (SCOPE, [CONNECT, hello, hello, DISCONNECT])
    assert test_application.load_setup() == [{"type": "websocket.send", "text": "late"}]


async def test_test_application_answers_a_request_when_all_of_it_is_there(tmp_path: Path):
    test_application = TestApplication(tmp_path)
    test_application.save_setup([{"type": "http.response.start", "status": 204}])
    parts = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.request", "body": b"b"}]
    seen: list[int] = []
    talk = Conversation(
        (parts[0], lambda: seen.append(len(talk.sent))),
        (parts[1], lambda: seen.append(len(talk.sent))),
        ({"type": "http.disconnect"}, None),
    )

    await test_application({"type": "http"}, talk.receive, talk.send)

    assert seen == [0, 1]
    assert test_application.load_result()[1] == [*parts, {"type": "http.disconnect"}]


async def test_what_is_set_up_while_it_sends_stays_for_the_next_message(tmp_path: Path):
    test_application = TestApplication(tmp_path)
    test_application.save_setup([{"type": "websocket.accept"}])
    next_one = [{"type": "websocket.close"}]
    talk = Conversation((CONNECT, None), (DISCONNECT, None))

    async def send(message: dict[str, Any]) -> None:
        test_application.save_setup(next_one)

    await test_application(SCOPE, talk.receive, send)

    assert test_application.load_setup() == next_one


async def test_methods_of_the_test_application_can_be_called_on_the_class(tmp_path: Path):
    class Own(TestApplication):
        """Shares the messages of its base."""

    elsewhere = TestApplication(tmp_path)
    TestApplication.save_setup([{"type": "websocket.accept"}])
    assert TestApplication.load_setup() == Own.load_setup() == [{"type": "websocket.accept"}]
    assert elsewhere.load_setup() == []

    talk = Conversation((CONNECT, None), (DISCONNECT, None))
    await Own()(SCOPE, talk.receive, talk.send)
    assert talk.sent == [{"type": "websocket.accept"}]
    assert TestApplication.load_result() == (SCOPE, [CONNECT, DISCONNECT])

    TestApplication.save_exception(OverflowError("too much"))
    with pytest.raises(OverflowError, match=r"^too much$"):
        Own.load_result()
    TestApplication.delete_result()
    with pytest.raises(ValueError, match=r"^no connection has reached the application$"):
        TestApplication.load_result()
    TestApplication.save_setup([])
    TestApplication.delete_setup()
    TestApplication.delete_setup()


def test_result_of_the_test_application_is_asked_for_too_early(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^no connection has reached the application$"):
        TestApplication(tmp_path).load_result()


async def test_failure_of_the_test_application_is_raised(tmp_path: Path):
    test_application = TestApplication(tmp_path)

    async def receive() -> Any:
        raise OverflowError("too much")

    with pytest.raises(OverflowError):
        await test_application({"type": "http"}, receive, None)
    with pytest.raises(OverflowError, match="too much"):
        test_application.load_result()


def test_version_is_that_of_the_interface():
    assert daphne.__version__ == "4.2.3"
