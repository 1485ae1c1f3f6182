"""A page followed as its reader follows it: in an empty folder, block after block, every command really run.

Commands are run as printed, in the environment that the page makes, into which `pip` installs a copy of this checkout;
only those that serve are given a port of their own. The browser and its driver are not downloaded: they are those of
this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from pathlib import Path
from typing import ClassVar

import pytest
from tests.browser.needed import needed_browser
from tests.compat.environment import clone
from tests.docs.pages import INTRO, Block, split
from tests.examples.running import TUTORIAL, command, environment, running
from tests.examples.test_four_parts import FOUR_PARTS, Site, heard, say
from websockets.sync.client import connect

PROVIDED = {"pip install playwright", "playwright install chromium"}


class Reader:
    """Someone at a terminal, with an editor, who follows one page."""

    page: ClassVar[Path]
    project_name: ClassVar[str]
    serving: ClassVar[dict[str, str]]
    """The commands that serve, with a free port added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / self.project_name
        self.env: dict[str, str] = {}
        self.served: list[str] = []

    def write(self, block: Block) -> None:
        """Bring a file to where the block says it is; one marked as a part stands for an edit that leads there."""
        raise NotImplementedError

    def use(self, port: int) -> None:
        """What the page says to try while the project is served."""
        raise NotImplementedError

    def follow(self, block: Block) -> None:
        if block.kind == "run":
            for line in block.text.splitlines():
                self.type(line)
        else:
            self.write(block)

    def copy(self, source: Path, name: Path) -> None:
        target = self.project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

    def type(self, line: str) -> None:
        if line in self.serving:
            self.serve(line)
        elif line.startswith("cd "):
            self.folder = self.folder / line.removeprefix("cd ")
        elif line.startswith(". "):
            self.activate(self.folder / line.removeprefix(". "))
        elif line in PROVIDED:
            self.env["PYTHONPATH"] = sysconfig.get_path("purelib")
        else:
            command(line, self.folder, **self.env)

    def activate(self, script: Path) -> None:
        """What the script does, for the commands that follow."""
        assert script.is_file()
        scripts, home = script.parent, script.parent.parent
        path = os.pathsep.join([str(scripts), environment()["PATH"]])
        self.env = {"PATH": path, "VIRTUAL_ENV": str(home), "PYTHONPATH": ""}

    def serve(self, line: str) -> None:
        with running(self.serving[line].split(), self.folder, **self.env) as server:
            self.use(server.port())
            assert server.interrupt() == 0
        self.served.append(line)


class TutorialReader(Reader):
    page = INTRO / "tutorial.en.md"
    project_name = "your_project_name"
    serving: ClassVar[dict[str, str]] = {
        "python manage.py runserver": "python manage.py runserver 127.0.0.1:0",
        "fairway your_project_name.asgi:application": "fairway your_project_name.asgi:application --port 0",
    }

    def write(self, block: Block) -> None:
        source = Path(block.path).relative_to("examples/tutorial")
        exercise, name = source.parts[:2], Path(*source.parts[2:])
        self.copy(TUTORIAL / source, name if exercise[0] == "exercises" else source)

    def use(self, port: int) -> None:
        with connect(f"ws://127.0.0.1:{port}/ws/chat/", proxy=None) as chat:
            chat.send('{"message": "hello"}')
            assert chat.recv(timeout=10) == '{"message": "hello"}'


class FourPartsReader(Reader):
    page = INTRO / "four-parts.en.md"
    project_name = "mysite"
    serving: ClassVar[dict[str, str]] = {
        "python manage.py runserver": "python manage.py runserver 127.0.0.1:0",
        "fairway mysite.asgi:application": "fairway mysite.asgi:application --port 0",
    }

    def write(self, block: Block) -> None:
        part, *names = Path(block.path).relative_to("examples/four_parts").parts
        self.copy(FOUR_PARTS / part / Path(*names), Path(*names))
        if names == ["settings.diff"]:
            command(["git", "apply", "settings.diff"], self.project)

    def use(self, port: int) -> None:
        site = Site(port)
        assert "Which room?" in site.get("/chat/")
        if (self.project / "chat" / "consumers.py").exists():
            with site.enter("harbour") as alice:
                say(alice, "hello")
                assert heard(alice) == "hello"

    def type(self, line: str) -> None:
        if line == "python manage.py test":
            self.env["CHROMIUM"] = needed_browser()
        super().type(line)


def written(project: Path) -> dict[str, str]:
    """The files of a project by name, without what running it leaves, and without what differs between Django's
    versions: their numbers in comments, and the kind of key, which 5.2 writes and 6.0 has as its default.
    """
    unwanted = {"__pycache__", "db.sqlite3", "exercises"}
    files = (path for path in project.rglob("*") if path.is_file() and not unwanted & set(path.parts))
    version = re.compile(r"(?<=using Django )[\d.]+|(?<=docs\.djangoproject\.com/en/)[\d.]+|.*default_auto_field.*\n")
    return {str(path.relative_to(project)): version.sub("", path.read_text(encoding="utf-8")) for path in files}


@pytest.mark.slow
@pytest.mark.parametrize(
    "follower", [TutorialReader, pytest.param(FourPartsReader, marks=[pytest.mark.browser, pytest.mark.patient])]
)
def test_following_the_page_from_an_empty_folder_works_at_every_step(follower: type[Reader], tmp_path: Path) -> None:
    clone(tmp_path / "fairway")
    (tmp_path / "here").mkdir()
    reader = follower(tmp_path / "here")
    for block in split(reader.page)[0]:
        try:
            reader.follow(block)
        except Exception as error:
            error.add_note(f"at {block}")
            raise
    assert set(reader.served) == set(reader.serving)


@pytest.mark.slow
def test_what_the_reader_has_before_the_exercises_is_the_example(tmp_path: Path) -> None:
    command("django-admin startproject your_project_name", tmp_path)
    reader = TutorialReader(tmp_path)
    command("python manage.py startapp your_app", reader.project)
    for block in split(reader.page)[0]:
        if block.path and "/exercises/" not in block.path:
            reader.write(block)
    assert written(reader.project) == written(TUTORIAL)
