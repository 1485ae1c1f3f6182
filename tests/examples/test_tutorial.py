"""The tutorial as printed: the example's files against the text, and the project under both of its commands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from tests.examples.running import FAIRWAY, RUNSERVER, TUTORIAL, command, copy_project, running
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.slow

PRINTED = Path(__file__).parent / "data" / "realtime-channels-tutorial.md"
BLOCKS = re.findall(r"^```\w+\n(.*?)^```$", PRINTED.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
INSTALL, INSTALLED_APPS, ASGI_APPLICATION, ASGI, ROUTING, CONSUMER, PAGE, CONSUMER_AGAIN = BLOCKS


def source(name: str) -> str:
    return (TUTORIAL / name).read_text(encoding="utf-8")


# The files


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("your_project_name/asgi.py", ASGI),
        ("your_app/routing.py", ROUTING),
        ("your_app/consumers.py", CONSUMER_AGAIN),
        ("your_app/templates/chat.html", PAGE),
    ],
)
def test_a_file_printed_whole_is_the_printed_block_and_nothing_else(name: str, block: str) -> None:
    assert source(name) == block


def test_the_consumer_is_printed_twice_and_both_printings_are_the_file() -> None:
    assert CONSUMER in source("your_app/consumers.py")


def test_the_setting_that_names_the_application_is_as_printed() -> None:
    assert ASGI_APPLICATION in source("your_project_name/settings.py")


def test_installed_apps_has_the_printed_lines_in_their_order_and_channels_last() -> None:
    written = re.search(r"^INSTALLED_APPS = \[\n.*?^\]\n", source("your_project_name/settings.py"), re.S | re.M)
    assert written
    lines = iter(written[0].splitlines())
    assert all(line in lines for line in INSTALLED_APPS.splitlines())
    assert written[0].endswith("'channels',\n]\n")
    assert written[0].index("'django.contrib.staticfiles'") < written[0].index("'channels'")


def test_the_asgi_file_is_where_the_printed_setting_points() -> None:
    module, _, _ = ASGI_APPLICATION.split("'")[1].rpartition(".")
    assert (TUTORIAL / f"{module.replace('.', '/')}.py").is_file()


# The project, served


class Site(NamedTuple):
    """Where a running project listens."""

    command: str
    port: int

    def get(self, path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return response.read()

    def socket(self, path: str) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}{path}", open_timeout=10, close_timeout=10, proxy=None)


@pytest.fixture(scope="module", params=[RUNSERVER, FAIRWAY], ids=["runserver", "fairway"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    project = copy_project(tmp_path_factory.mktemp("tutorial") / "project")
    with running(request.param, project) as server:
        yield Site("runserver" if request.param is RUNSERVER else "fairway", server.port())


def test_the_added_view_serves_the_printed_page(site: Site) -> None:
    assert site.get("/") == PAGE.encode()


def test_a_message_comes_back_to_its_sender(site: Site) -> None:
    with site.socket("/ws/chat/") as chat:
        chat.send('{"message": "你好"}')
        assert chat.recv(timeout=10) == r'{"message": "\u4f60\u597d"}'


def test_a_message_goes_to_its_sender_only(site: Site) -> None:
    with site.socket("/ws/chat/") as alice, site.socket("/ws/chat/") as bob:
        alice.send('{"message": "from alice"}')
        assert alice.recv(timeout=10) == '{"message": "from alice"}'
        bob.send('{"message": "marker"}')
        assert bob.recv(timeout=10) == '{"message": "marker"}'


def test_a_binary_message_ends_its_own_connection_and_no_other(site: Site) -> None:
    with site.socket("/ws/chat/") as other, site.socket("/ws/chat/") as chat:
        chat.send(b"\x00")
        with pytest.raises(ConnectionClosedError) as closed:
            chat.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
        other.send('{"message": "marker"}')
        assert other.recv(timeout=10) == '{"message": "marker"}'


def test_static_files_are_served_by_runserver_and_not_by_the_bare_application(site: Site) -> None:
    if site.command == "runserver":
        assert b"--primary" in site.get("/static/admin/css/base.css")
        return
    with pytest.raises(HTTPError) as refused:
        site.get("/static/admin/css/base.css")
    assert refused.value.code == 404
    refused.value.close()


def test_the_projects_own_tests_pass(tmp_path: Path) -> None:
    assert "Ran 2 tests" in command("python manage.py test", copy_project(tmp_path / "project"))


# What the documentation says of models in consumers


def project_with_a_model_in_its_consumers(target: Path) -> Path:
    consumers = copy_project(target) / "your_app" / "consumers.py"
    text = consumers.read_text(encoding="utf-8")
    consumers.write_text(f"from django.contrib.auth.models import User\n{text}", encoding="utf-8")
    return target


def test_a_model_imported_in_the_printed_order_stops_the_bare_server(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with 1:.*ImproperlyConfigured: Requested setting"):
        command(FAIRWAY, project_with_a_model_in_its_consumers(tmp_path / "project"))


def test_a_model_imported_in_the_printed_order_works_under_runserver(tmp_path: Path) -> None:
    project = project_with_a_model_in_its_consumers(tmp_path / "project")
    with running(RUNSERVER, project) as server, Site("", server.port()).socket("/ws/chat/") as chat:
        chat.send('{"message": "set up"}')
        assert chat.recv(timeout=10) == '{"message": "set up"}'


def test_a_model_can_be_imported_once_get_asgi_application_was_called_first(tmp_path: Path) -> None:
    project = project_with_a_model_in_its_consumers(tmp_path / "project")
    line = "from your_app.routing import websocket_urlpatterns\n"
    setting = ASGI[ASGI.index("os.environ") : ASGI.index("application =")]
    first = f"{setting}django_application = get_asgi_application()\n{line}"
    text = ASGI.replace(setting, "").replace(line, first).replace("get_asgi_application(),", "django_application,")
    (project / "your_project_name" / "asgi.py").write_text(text, encoding="utf-8")
    with running(FAIRWAY, project) as server, Site("", server.port()).socket("/ws/chat/") as chat:
        chat.send('{"message": "set up"}')
        assert chat.recv(timeout=10) == '{"message": "set up"}'


# Starting again, and ending


def test_a_changed_consumer_is_served_after_a_reload_and_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    consumers = project / "your_app" / "consumers.py"
    with running([*RUNSERVER[:3], "127.0.0.1:0"], project) as server:
        server.port()
        changed = consumers.read_text(encoding="utf-8").replace("'message': message", "'message': message.upper()")
        consumers.write_text(changed, encoding="utf-8")
        # The reloader notices a file newer than the one it saw first, and nobody knows when it looked first.
        for age in range(1, 60):
            os.utime(consumers, (consumers.stat().st_atime, consumers.stat().st_mtime + age))
            if server.find(r"consumers\.py changed, reloading", timeout=0.5):
                break
        with Site("runserver", server.port()).socket("/ws/chat/") as chat:
            chat.send('{"message": "louder"}')
            assert chat.recv(timeout=10) == '{"message": "LOUDER"}'
        assert server.interrupt() == 0
        assert "Traceback" not in server.text


@pytest.mark.parametrize("args", [RUNSERVER, FAIRWAY], ids=["runserver", "fairway"])
def test_ctrl_c_ends_it_cleanly_with_a_socket_open(args: list[str], tmp_path: Path) -> None:
    with running(args, copy_project(tmp_path / "project")) as server:
        with Site("", server.port()).socket("/ws/chat/"):
            assert server.interrupt() == 0
        assert "Traceback" not in server.text
