"""The page on leaving Daphne, followed by a project with channels_redis: in its old environment, and in a new one.

The commands and the requirements are the page's; Channels, Daphne and channels_redis come from the package index.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import django
import pytest
from uv import find_uv_bin

import fairway
from fairway.doctor import metadata_wheel
from tests.compat.environment import clone, run
from tests.compat.test_packaging import WHOSE, Shell
from tests.docs.pages import ROOT

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "howto" / "leave-daphne.md"
TWIN = PAGE.with_suffix(".zh-CN.md")
BLOCK = re.compile(r"^<!-- (run|requirements) -->\n```(?:sh)?\n(.+?)^```$", re.MULTILINE | re.DOTALL)
DEADLINE = 300.0

OTHERS = [f"Django=={django.__version__}", "channels_redis==4.3.0"]
OLD = ["channels==4.3.2", "daphne==4.2.3"]
SETTINGS = """\
SECRET_KEY = "for this test"
INSTALLED_APPS = ["daphne", "channels", "django.contrib.staticfiles"]
STATIC_URL = "static/"
ROOT_URLCONF = "mysite.asgi"
ASGI_APPLICATION = "mysite.asgi.application"
CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}
"""
ASGI = """\
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
from django.core.asgi import get_asgi_application
http = get_asgi_application()
from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter
application = ProtocolTypeRouter({"http": http, "websocket": WebsocketConsumer.as_asgi()})
urlpatterns = []
"""
MANAGE = """\
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


class Project(Shell):
    """A project on Channels and Daphne, in a virtual environment with pip and, if it is old, with what it requires."""

    deadline = DEADLINE

    def __init__(self, folder: Path, *, is_old: bool) -> None:
        clone(folder / "fairway")
        venv.create(folder / "env", symlinks=True, with_pip=True)
        super().__init__(folder / "project", folder / "env" / "bin", PIP_DISABLE_PIP_VERSION_CHECK="1")
        self.python = folder / "env" / "bin" / "python"
        self.write("requirements.txt", "\n".join([*OTHERS, *OLD, ""]))
        self.write("manage.py", MANAGE)
        self.write("mysite/settings.py", SETTINGS)
        self.write("mysite/asgi.py", ASGI)
        if is_old:
            install = [find_uv_bin(), "--quiet", "--system-certs", "pip", "install", "--python", str(self.python)]
            run([*install, "--requirement", str(self.directory / "requirements.txt")])

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def edit(self, text: str) -> None:
        """Steps 2 and 3: other requirements, and no app `daphne`."""
        self.write("requirements.txt", "\n".join([*OTHERS, text]))
        self.write("mysite/settings.py", SETTINGS.replace('"daphne", ', ""))

    def serves(self) -> list[str]:
        """What `fairway` logs until it listens."""
        command = [str(self.python), "-m", "fairway", "mysite.asgi:application", "--port", "0"]
        lines: list[str] = []
        with subprocess.Popen(
            command, cwd=self.directory, env=self.environment, text=True, stderr=subprocess.PIPE
        ) as server:
            try:
                assert server.stderr is not None
                for line in server.stderr:
                    lines.append(line)
                    if "listening on" in line:
                        return lines
            finally:
                server.kill()
        pytest.fail("".join(lines))


def section(heading: str, page: Path = PAGE) -> list[tuple[str, str]]:
    """The marked blocks below this heading: their kind, and what is in them."""
    found = BLOCK.findall(page.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0])
    assert found, f"nothing to do below {heading!r}"
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_old", [True, False], ids=["old", "new"])
def test_leaving_at_once_leads_to_a_sound_site(tmp_path: Path, is_old: bool) -> None:
    project = Project(tmp_path, is_old=is_old)
    # In place of an environment that `make` would set up, the tests' own.
    own = f"export VENV={shlex.quote(sys.prefix)} PIP_NO_BUILD_ISOLATION=0"
    output = ""

    for kind, text in section("At once"):
        if kind == "requirements":
            project.edit(text)
        else:
            output += project.does("\n".join(["set -e", *([own] if "make" in text else []), text]))

    assert f"channels {metadata_wheel.VERSION} is a label without modules" in output
    assert "System check identified no issues" in output
    assert project.does(f"python -c {shlex.quote(WHOSE)}") == "fairway\n"
    assert [line for line in project.serves() if "Run: fairway doctor" in line] == []
    assert "channels_redis" in project.does("pip list --format=freeze")
    assert "daphne" not in project.does("pip list --format=freeze")


def test_the_page_names_the_files_that_there_are() -> None:
    (text,) = [text for kind, text in section("At once") if kind == "requirements"]

    assert re.findall(r"django_fairway-([\d.]+)-|channels-(.+?)-py3", text) == [
        (fairway.__version__, ""),
        ("", metadata_wheel.VERSION),
    ]


def test_both_languages_have_the_same_commands() -> None:
    english, chinese = (BLOCK.findall(page.read_text("utf-8")) for page in (PAGE, TWIN))

    assert english == chinese
