"""`ChannelsLiveServerTestCase`: real sockets to a real process, which sees what the test has put into the database."""

from __future__ import annotations

import ast
import asyncio
import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import override_settings
from tests.channels.management.project import Project
from tests.services.postgres import PostgresServer
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from channels.testing import ChannelsLiveServerTestCase, live
from channels.testing.live import make_application
from fairway.testing import ServerProcess

pytestmark = pytest.mark.slow

PATIENCE = 30.0
HERE = Path(__file__).parents[1]
SITE = override_settings(
    ASGI_APPLICATION="tests.channels.live_site.application",
    ROOT_URLCONF="tests.channels.live_site",
    STATICFILES_DIRS=[HERE],
)


@contextmanager
def starting_by(method: str) -> Iterator[None]:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


class Served:
    """What holds for every start method."""

    start_method: ClassVar[str]

    @classmethod
    def setUpClass(cls: Any) -> None:
        with starting_by(cls.start_method):
            super().setUpClass()

    def test_page_sees_the_users_of_the_test(self: Any) -> None:
        get_user_model().objects.create_user("mira")

        assert httpx.get(f"{self.live_server_url}/users/", timeout=PATIENCE).json() == ["mira"]

    def test_database_is_the_one_of_the_test(self: Any) -> None:
        names = httpx.get(f"{self.live_server_url}/databases/", timeout=PATIENCE).json()

        assert names == {"default": str(connection.settings_dict["NAME"])}

    def test_settings_are_those_of_the_test(self: Any) -> None:
        served = httpx.get(f"{self.live_server_url}/settings/", timeout=PATIENCE).json()

        assert served == {name: getattr(settings, name) for name in served}
        assert served["EMAIL_BACKEND"] == "django.core.mail.backends.locmem.EmailBackend"
        assert {"localhost", "testserver"} <= set(served["ALLOWED_HOSTS"])

    def test_socket_sees_the_session_of_the_test(self: Any) -> None:
        self.client.force_login(get_user_model().objects.create_user("mira"))
        headers = {"Cookie": f"sessionid={self.client.cookies['sessionid'].value}"}

        with connect(
            f"{self.live_server_ws_url}/ws/", origin=self.live_server_url, additional_headers=headers
        ) as socket:
            socket.send('"mira"')
            assert json.loads(socket.recv(PATIENCE)) == {"exists": True, "asked by": "mira"}
            socket.send('"tom"')
            assert json.loads(socket.recv(PATIENCE)) == {"exists": False, "asked by": "mira"}

    def test_foreign_origin_is_rejected(self: Any) -> None:
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"{self.live_server_ws_url}/ws/", origin="https://example.org")

    def test_static_files_are_served(self: Any) -> None:
        answer = httpx.get(f"{self.live_server_url}/static/live_site.py", timeout=PATIENCE)

        assert answer.text == (HERE / "live_site.py").read_text()


@SITE
class TestFork(Served, ChannelsLiveServerTestCase):
    start_method = "fork"


@SITE
class TestSpawn(Served, ChannelsLiveServerTestCase):
    start_method = "spawn"


@SITE
class TestForkserver(Served, ChannelsLiveServerTestCase):
    start_method = "forkserver"


@SITE
class TestWithoutStaticFiles(ChannelsLiveServerTestCase):
    serve_static = False
    host = "127.0.0.1"

    def test_static_files_are_not_served(self) -> None:
        assert self.live_server_url.startswith("http://127.0.0.1:")
        assert self.live_server_ws_url == self.live_server_url.replace("http", "ws")
        assert httpx.get(f"{self.live_server_url}/static/live_site.py", timeout=PATIENCE).status_code == 404


class Shouting(ServerProcess):
    """A process class of a project's own."""

    def __init__(self, host: str, get_application: Any, **options: Any) -> None:
        super().__init__(host, get_application, kwargs={"root_path": "/loud"}, **options)


@SITE
class TestProcessOfOnesOwn(ChannelsLiveServerTestCase):
    ProtocolServerProcess = Shouting

    def test_it_is_used(self) -> None:
        assert isinstance(self._server_process, Shouting)
        assert httpx.get(f"{self.live_server_url}/users/", timeout=PATIENCE).json() == []


@contextmanager
def live_server(site: Any = SITE, **attributes: Any) -> Iterator[ChannelsLiveServerTestCase]:
    """The life of a test class, lived by hand."""
    test_case = site(type("LiveServer", (ChannelsLiveServerTestCase,), attributes))
    try:
        test_case.setUpClass()
        yield test_case("setUp")
        test_case.tearDownClass()
    finally:
        test_case.doClassCleanups()


def fail_to_make_application(static_wrapper: Any) -> Any:
    raise LookupError("nothing to serve")


class SilentlyGone(multiprocessing.Process):
    """Daphne's shape, and dies without a word."""

    def __init__(self, host: str, get_application: Any, kwargs: Any = None, setup: Any = None) -> None:
        super().__init__(target=os._exit, args=(9,))
        self.port = multiprocessing.Value("i", 0)
        self.ready = multiprocessing.Event()
        self.errors: Any = multiprocessing.Queue()


def test_error_in_the_server_is_raised_with_its_traceback():
    with pytest.raises(RuntimeError) as caught, live_server(static_wrapper=fail_to_make_application):
        pass

    assert str(caught.value).startswith("The live server did not start. Its process says:\n\nTraceback (most recent")
    assert str(caught.value).endswith("LookupError: nothing to serve\n")
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_application_that_cannot_be_imported_is_named(method: str):
    wrong = override_settings(ASGI_APPLICATION="tests.channels.absent.application")

    with (
        starting_by(method),
        pytest.raises(RuntimeError, match=r"Cannot import ASGI_APPLICATION module 'tests\.channels\.absent'"),
        live_server(wrong),
    ):
        pass


def test_port_in_use_is_named(unused_tcp_port: int):
    process = partial(ServerProcess, port=unused_tcp_port)
    with live_server(host="127.0.0.1", ProtocolServerProcess=process) as first:
        assert first.live_server_url == f"http://127.0.0.1:{unused_tcp_port}"

        with (
            pytest.raises(RuntimeError, match=f"port {unused_tcp_port} is already in use"),
            live_server(host="127.0.0.1", ProtocolServerProcess=process),
        ):
            pass


def test_address_of_ipv6_has_brackets():
    test_case = type("LiveServer", (ChannelsLiveServerTestCase,), {"host": "::1", "_port": 80})("setUp")

    assert (test_case.live_server_url, test_case.live_server_ws_url) == ("http://[::1]:80", "ws://[::1]:80")


def test_process_that_dies_silently_is_noticed():
    message = r"^The live server's process ended with exit code 9 before it was ready\."
    with pytest.raises(RuntimeError, match=message), live_server(ProtocolServerProcess=SilentlyGone):
        pass


def holding(hold: Callable[[], object]) -> Any:
    """An application whose every request holds a thread for good, and is answered once it does."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        held, loop = asyncio.Event(), asyncio.get_running_loop()

        def hold_on() -> None:
            loop.call_soon_threadsafe(held.set)
            hold()

        thread = asyncio.ensure_future(asyncio.to_thread(hold_on))
        await held.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"held"})
        await thread

    return application


def hold_a_thread(static_wrapper: Any) -> Any:
    return holding(lambda: threading.Event().wait())


def hold_the_interpreter(static_wrapper: Any) -> Any:
    """For a while it is answered, and then nothing of Python runs any more, no signal handler either."""
    return holding(lambda: (time.sleep(0.5), ctypes.PyDLL(None).sleep(3600)))


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=0.5).is_success
    except httpx.TransportError:
        return False


def test_a_thread_that_does_not_end_does_not_hold_up_the_test():
    with live_server(static_wrapper=hold_a_thread) as test_case:
        process = test_case._server_process
        assert httpx.get(test_case.live_server_url, timeout=PATIENCE).text == "held"
        began = time.monotonic()

    assert time.monotonic() - began < live._STOP_TIMEOUT, "it was not killed"
    assert getattr(process, "exitcode", None) == 0


def test_a_server_that_cannot_end_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "_STOP_TIMEOUT", 1.0)
    with live_server(static_wrapper=hold_the_interpreter) as test_case:
        process = test_case._server_process
        assert httpx.get(test_case.live_server_url, timeout=PATIENCE).text == "held"
        deadline = time.monotonic() + PATIENCE
        while answers(test_case.live_server_url):
            assert time.monotonic() < deadline, "it is not held"

    assert getattr(process, "exitcode", None) == -signal.SIGKILL


def test_setting_that_cannot_be_handed_over_is_named():
    message = "^The setting LANGUAGES is overridden with a value that cannot be pickled"
    with (
        starting_by("spawn"),
        override_settings(LANGUAGES=lambda: None),
        pytest.raises(ImproperlyConfigured, match=message),
        live_server(),
    ):
        pass


def test_database_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(connection.settings_dict, "NAME", "file:memorydb_default?mode=memory&cache=shared")
    message = r'"TEST": {"NAME": BASE_DIR / "test.sqlite3"} in DATABASES\["default"\]\.$'

    with pytest.raises(ImproperlyConfigured, match=message), live_server():
        pass


def test_application_can_be_made_by_hand():
    with SITE:
        bare = make_application(static_wrapper=None)

        assert make_application(static_wrapper=lambda application: [application]) == [bare]


TESTS = """
    import multiprocessing
    from urllib.request import urlopen
    from django.db import connections
    from channels.testing import ChannelsLiveServerTestCase, live

    if {method!r} != multiprocessing.get_start_method():
        multiprocessing.set_start_method({method!r}, force=True)

    class FirstTests(ChannelsLiveServerTestCase):
        databases = {{"default", "archive", "mirror"}}

        def test_every_database_is_that_of_the_test(self):
            ours = {{alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}}
            assert ours["mirror"] == ours["archive"]
            assert "test-default" in ours["default"] and "test-archive" in ours["archive"], ours
            with urlopen(self.live_server_url + "/databases/", timeout=20) as answer:
                served = eval(answer.read())
            assert served.pop("unused").startswith("file:memorydb_unused"), served
            assert served.items() <= ours.items(), (served, ours)

    class SecondTests(FirstTests):
        pass
"""

MANAGE = """
    import os, sys
    from django.core.management import execute_from_command_line

    if __name__ == "__main__":
        os.environ["DJANGO_SETTINGS_MODULE"] = "runsite.settings"
        execute_from_command_line(sys.argv)
"""

URLS = """
    from django.db import connections
    from django.http import HttpResponse
    from django.urls import path

    def databases(request):
        return HttpResponse(repr({alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}))

    def sessions(request):
        from django.contrib.sessions.models import Session

        return HttpResponse(str(Session.objects.count()))

    urlpatterns = [path("databases/", databases), path("sessions/", sessions)]
"""

DATABASES = """
    def _database(name, test):
        name = str(Path(__file__).parent / name)
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "TEST": test}

    DATABASES = {
        "default": _database("real-default", {"NAME": str(Path(__file__).parent / "test-default")}),
        "archive": _database("real-archive", {"NAME": str(Path(__file__).parent / "test-archive")}),
        "mirror": _database("real-archive", {"MIRROR": "archive"}),
        "unused": _database("real-unused", {}),
    }
"""


def run_django_tests(project: Project, databases: str, tests: str, *arguments: str) -> None:
    with (project.directory / "runsite/settings.py").open("a") as settings:
        settings.write(textwrap.dedent(databases))
    project.write("manage.py", MANAGE)
    project.write("runsite/urls.py", URLS)
    project.write("runsite/tests.py", tests)

    done = project.manage("test", "runsite", *arguments)

    assert done.returncode == 0, done.stderr
    assert "Ran 2 tests" in done.stderr


@pytest.mark.parametrize(("method", "arguments"), [("fork", ["--parallel", "2"]), ("spawn", [])])
def test_every_database_is_that_of_the_test(tmp_path: Path, method: str, arguments: list[str]):
    project = Project(tmp_path, ["django.contrib.staticfiles", "channels"])

    run_django_tests(project, DATABASES, TESTS.format(method=method), *arguments)


SHARED = """
    import multiprocessing
    from urllib.request import urlopen
    from django.contrib.sessions.models import Session
    from django.utils import timezone
    from channels.testing import ChannelsLiveServerTestCase, live

    if {method!r} != multiprocessing.get_start_method():
        multiprocessing.set_start_method({method!r}, force=True)

    class FirstTests(ChannelsLiveServerTestCase):
        def test_server_and_test_use_the_same_database_side_by_side(self):
            for number in range(3):
                Session.objects.create(session_key=number, session_data="", expire_date=timezone.now())
                with urlopen(self.live_server_url + "/sessions/", timeout=20) as answer:
                    assert int(answer.read()) == number + 1

    # The connection of the tests' process has outlived the first server's.
    class SecondTests(FirstTests):
        pass
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_connection_of_the_test_survives_the_server(tmp_path: Path, postgres: PostgresServer, method: str):
    project = Project(tmp_path, ["django.contrib.sessions", "django.contrib.staticfiles", "channels"])
    name = postgres.create_database("live")

    run_django_tests(project, f"DATABASES = {{'default': {postgres.django(name)!r}}}", SHARED.format(method=method))


SCRIPT = """
    import multiprocessing
    import django
    from django.conf import settings
    from django.test.runner import DiscoverRunner

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": settings.NAME_OF_THE_BOAT.encode()})

    if __name__ == "__main__":
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "db", "TEST": {"NAME": "test"}}
        settings.configure(
            DATABASES={"default": database}, ASGI_APPLICATION="script.application", NAME_OF_THE_BOAT="Mira"
        )
        django.setup()
        multiprocessing.set_start_method("spawn")
        raise SystemExit(DiscoverRunner().run_tests(["script_tests"]))
"""

SCRIPT_TESTS = """
    from urllib.request import urlopen
    from channels.testing import ChannelsLiveServerTestCase, live

    class ScriptTests(ChannelsLiveServerTestCase):
        serve_static = False

        def test_settings_are_those_of_the_script(self):
            with urlopen(self.live_server_url, timeout=20) as answer:
                assert answer.read() == b"Mira"
"""


def test_settings_without_a_module_are_handed_over(tmp_path: Path):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "script_tests.py").write_text(textwrap.dedent(SCRIPT_TESTS))
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}

    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )

    assert done.returncode == 0, done.stderr
    assert "Ran 1 test" in done.stderr


def test_databases_are_switched_by_name_where_nothing_is_handed_over(tmp_path: Path):
    project = Project(tmp_path, ["channels"])
    with (tmp_path / "runsite/settings.py").open("a") as settings:
        settings.write(textwrap.dedent(DATABASES))
    code = (
        "from channels.testing.live import set_database_connection; from django.db import connections;"
        "set_database_connection(); set_database_connection();"
        "print(*(connections.settings[alias]['NAME'].rpartition('/')[2] for alias in connections))"
    )

    done = project.manage("shell", "--command", code)

    assert done.stdout.splitlines()[-1].split()[:3] == ["test-default", "test-archive", "test-archive"], done.stderr
    assert "memorydb_unused" in done.stdout


def test_inherited_connections_and_pools_are_left_alone(tmp_path: Path):
    project = Project(tmp_path, ["channels"])
    code = (
        "from channels.testing.live import set_database_connection; from django.db import connection, connections;"
        "connection.ensure_connection(); inherited = connection.connection;"
        "pools = connections['default']._connection_pools = {'default': object()};"
        "set_database_connection();"
        "print(inherited.execute('SELECT 1').fetchall(), connection.connection, pools)"
    )

    done = project.manage("shell", "--command", code)

    assert done.stdout.splitlines()[-1] == "[(1,)] None {}", done.stderr


def test_the_process_has_the_name_that_fixtures_import():
    assert live.DaphneProcess is ServerProcess
    with pytest.raises(AttributeError, match=r"^module 'channels\.testing\.live' has no attribute 'UvicornProcess'$"):
        _ = live.UvicornProcess


def test_importing_the_package_imports_no_server():
    code = "import channels.testing, sys; print([name for name in sys.modules if name.startswith('fairway.')])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)

    imported = {".".join(name.split(".")[:2]) for name in ast.literal_eval(done.stdout)}
    assert imported == {"fairway.asgi", "fairway.delivery", "fairway.protocols", "fairway.timing"}
