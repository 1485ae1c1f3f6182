"""The example in four parts: each part laid over those before it, and then used as its reader uses it.

Browsers, servers and commands are real. The tests that the example has itself are run as its reader runs them.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from tests.browser.needed import needed_browser
from tests.examples.running import ROOT, RUNSERVER, command, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.slow

FOUR_PARTS = ROOT / "examples" / "four_parts"
PARTS = ["1-page", "2a-socket", "2b-layer", "3-async", "4-tests"]
FAIRWAY = [sys.executable, "-m", "fairway", "mysite.asgi:application", "--port", "0"]


def project_after(part: str, target: Path) -> Path:
    """The project as it is at the end of this part."""
    for name in PARTS[: PARTS.index(part) + 1]:
        unwanted = shutil.ignore_patterns("__pycache__", "*.sqlite3")
        shutil.copytree(FOUR_PARTS / name, target, ignore=unwanted, dirs_exist_ok=True)
        if (target / "settings.diff").exists():
            command(["git", "apply", "settings.diff"], target)
            (target / "settings.diff").unlink()
    return target


class Site(NamedTuple):
    """Where the project listens."""

    port: int

    def get(self, path: str) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return response.read().decode()

    def enter(self, room: str, origin: str | None = None) -> ClientConnection:
        """A socket in this room, of a page of the site itself or of another origin."""
        address = f"127.0.0.1:{self.port}"
        return connect(f"ws://{address}/ws/chat/{room}/", origin=origin or f"http://{address}", proxy=None)


def say(socket: ClientConnection, message: str) -> None:
    socket.send(json.dumps({"message": message}))


def heard(socket: ClientConnection) -> str:
    return json.loads(socket.recv(timeout=20))["message"]


# The files


def test_no_file_names_anything_but_channels_and_django() -> None:
    files = [path for part in PARTS for path in (FOUR_PARTS / part).rglob("*") if path.is_file()]
    sources = {path: path.read_text(encoding="utf-8") for path in files if path.suffix in {".py", ".diff", ".html"}}
    assert len(sources) > 15
    assert [path for path, text in sources.items() if "fairway" in text.lower()] == []


def test_the_layer_is_named_once_and_by_nothing_but_its_setting() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in FOUR_PARTS.glob("*/**/*.*") if path.suffix != ".pyc"}
    assert [path for path, text in texts.items() if "InMemory" in text] == [FOUR_PARTS / "2b-layer" / "settings.diff"]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readme_says_how_to_put_the_parts_together(tmp_path: Path, readme: str) -> None:
    if shutil.which("patch") is None:
        pytest.skip("the command `patch` is not installed")
    (loop,) = re.findall(r"^for part.*?^done$", (FOUR_PARTS / readme).read_text("utf-8"), re.S | re.M)
    (tmp_path / "by-hand").mkdir()
    command(loop.replace("/tmp/mysite", str(tmp_path / "by-hand")), FOUR_PARTS)
    finished = project_after(PARTS[-1], tmp_path / "finished")
    names = [path.relative_to(finished) for path in finished.rglob("*") if path.is_file()]
    assert filecmp.cmpfiles(tmp_path / "by-hand", finished, names, shallow=False)[0] == names


# Part 1: a page


def test_the_first_part_is_an_ordinary_django_site(tmp_path: Path) -> None:
    with running(RUNSERVER, project_after("1-page", tmp_path)) as server:
        site = Site(server.port())
        assert "Which room?" in site.get("/chat/")
        assert "Log in" in site.get("/admin/")  # the redirect is followed, and needs no table
        with pytest.raises(HTTPError, match="404") as refused:
            site.get("/chat/harbour/")
        refused.value.close()
        assert server.interrupt() == 0
    assert "Traceback" not in server.text


# Parts 2 and 3: the chat


COMMANDS = {"runserver": RUNSERVER, "fairway": FAIRWAY}


@contextmanager
def serving(part: str, command: str, target: Path) -> Iterator[Site]:
    with running(COMMANDS[command], project_after(part, target)) as server:
        yield Site(server.port())
        assert server.interrupt() == 0
    assert "Traceback" not in server.text


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Site]]:
    """The project after a part, served by a command: started when it is first asked for."""
    with ExitStack() as servers:
        yield cache(lambda part, command: servers.enter_context(serving(part, command, tmp_path_factory.mktemp(part))))


@pytest.fixture
def site(request: pytest.FixtureRequest, start: Callable[[str, str], Site]) -> Site:
    return start(*request.param)


def served(*parts: str) -> pytest.MarkDecorator:
    """Each of these parts, by the development server and by the bare one."""
    sites = [(part, command) for part in parts for command in COMMANDS]
    return pytest.mark.parametrize("site", sites, ids="-".join, indirect=True)


ECHO = served("2a-socket")
ROOMS = served("2b-layer", "3-async")
EVERY_CHAT = served("2a-socket", "2b-layer", "3-async")


@EVERY_CHAT
def test_a_room_has_a_page_and_a_name_that_can_be_none_has_not(site: Site) -> None:
    assert '<script id="room-name" type="application/json">"harbour"</script>' in site.get("/chat/harbour/")
    with pytest.raises(HTTPError, match="404") as refused:
        site.get(f"/chat/{'x' * 41}/")
    refused.value.close()


@EVERY_CHAT
def test_a_message_comes_back_to_its_sender(site: Site) -> None:
    with site.enter("harbour") as alice:
        say(alice, "你好")
        assert heard(alice) == "你好"


@EVERY_CHAT
def test_a_page_of_another_site_is_refused(site: Site) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        site.enter("harbour", origin="http://elsewhere.example")


@EVERY_CHAT
def test_a_socket_to_a_room_that_cannot_be_is_not_found(site: Site) -> None:
    with pytest.raises(InvalidStatus, match="404"):
        site.enter("x" * 41)


@ECHO
def test_without_the_layer_nobody_else_hears_it(site: Site) -> None:
    with site.enter("harbour") as alice, site.enter("harbour") as bob:
        say(alice, "hello")
        assert heard(alice) == "hello"
        say(bob, "marker")
        assert heard(bob) == "marker"


@ROOMS
def test_everybody_in_the_room_hears_it_and_nobody_in_another(site: Site) -> None:
    with site.enter("harbour") as alice, site.enter("harbour") as bob, site.enter("lighthouse") as carol:
        say(alice, "hello")
        assert heard(alice) == heard(bob) == "hello"
        say(carol, "marker")
        assert heard(carol) == "marker"


@ROOMS
def test_who_has_left_disturbs_nobody(site: Site) -> None:
    with site.enter("harbour") as alice:
        with site.enter("harbour") as bob:
            say(bob, "bye")
            assert heard(alice) == heard(bob) == "bye"
        say(alice, "alone")
        assert heard(alice) == "alone"


def test_the_label_daphne_does_as_well(tmp_path: Path) -> None:
    project = project_after("3-async", tmp_path)
    settings = project / "mysite" / "settings.py"
    text = settings.read_text(encoding="utf-8")
    assert text.count('"channels",') == 1
    settings.write_text(text.replace('"channels",', '"daphne",'), encoding="utf-8")
    sources = os.pathsep.join([str(ROOT / "src"), str(ROOT / "compat" / "daphne")])
    with running(RUNSERVER, project, PYTHONPATH=sources) as server:
        site = Site(server.port())
        with site.enter("harbour") as alice, site.enter("harbour") as bob:
            say(alice, "hello")
            assert heard(alice) == heard(bob) == "hello"
        assert server.interrupt() == 0
    assert "Traceback" not in server.text


def test_the_layer_is_tried_in_the_shell(tmp_path: Path) -> None:
    project = project_after("2b-layer", tmp_path)
    assert "{'type': 'hello'}" in command("python manage.py shell < try_the_layer.py", project)


# Part 4: tests in a browser


@pytest.mark.browser
def test_the_examples_own_tests_pass(tmp_path: Path) -> None:
    output = command("python manage.py test", project_after("4-tests", tmp_path), CHROMIUM=needed_browser())
    assert "Ran 2 tests" in output
    assert output.rstrip().splitlines()[-2] == "OK"
