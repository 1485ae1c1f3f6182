"""Fairway beside packages that require `channels`: real environments, real wheels, pip in every order.

Django Channels comes from the package index, once for each run of the tests; everything after that is offline. What
is broken on purpose is mended with the command that `fairway doctor` prints, run as it is printed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

import pytest
from uv import find_uv_bin

import fairway
from fairway.doctor import metadata_wheel
from tests.compat.environment import clone, run, wheels
from tests.docs.pages import ROOT, split

pytestmark = pytest.mark.slow

UPSTREAM = "channels-4.3.2"
NEWER = "channels-4.99"
PAGES = [ROOT / "docs" / "howto" / name for name in ("install-beside-packages.md", "install-beside-packages.zh-CN.md")]
EXAMPLES = ROOT / "examples" / "packaging"
DEADLINE = 60.0
PIN = f"channels=={metadata_wheel.VERSION}"
WHOSE = "import channels, channels.consumer, channels.layers; print(getattr(channels, '__distribution__', 'upstream'))"
CHECK = """
import django
from django.conf import settings
from django.core.management import call_command
settings.configure(INSTALLED_APPS=["channels"])
django.setup()
call_command("check")
"""


class Shell:
    """Runs commands in a directory of its own; on PATH are these scripts and the system's, not those of the tests."""

    deadline = DEADLINE

    def __init__(self, directory: Path, scripts: Path, **variables: str) -> None:
        self.directory = directory
        self.directory.mkdir(exist_ok=True)
        hidden = ("PIP_", "PYTHON", "UV_", "VIRTUAL_ENV", "DJANGO_")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(hidden)},
            "PATH": os.pathsep.join([str(scripts), os.defpath]),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_SYSTEM_CERTS": "true",  # as pip does, which the other tests use
            **variables,
        }

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            shell=True,
            cwd=self.directory,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=self.deadline,
        )

    def does(self, command: str) -> str:
        """Run a command that has to succeed; its output."""
        done = self.run(command)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def get_wheels(self) -> None:
        """What the page says first, with the tests' own environment in place of one that `make` would set up."""
        clone(self.directory.parent / "fairway")
        (block,) = commands("Get the wheels")
        self.does(f"export VENV={shlex.quote(sys.prefix)} PIP_NO_BUILD_ISOLATION=0\n{block}")


class Site(Shell):
    """A virtual environment with pip and what Fairway depends on, and with an index that is a folder."""

    def __init__(self, directory: Path, index: Path) -> None:
        self.index = index
        self.scripts = directory / "a site" / "bin"
        super().__init__(
            directory / "a site",
            self.scripts,
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS=index.as_uri(),
            PIP_DISABLE_PIP_VERSION_CHECK="1",
        )
        venv.create(self.directory, symlinks=True)
        self.packages = next((self.directory / "lib").glob("python*/site-packages"))
        shutil.copytree(folder_of("pip"), self.packages / "pip", ignore=shutil.ignore_patterns("__pycache__"))
        (self.scripts / "pip").write_text('#!/bin/sh\nexec python -m pip "$@"\n')
        (self.scripts / "pip").chmod(0o755)
        self._provide("pip", "pip")
        for name in sorted(needs("django-fairway") | {"redis"} | needs("redis")):
            self._provide(name)

    def _provide(self, name: str, *copied: str) -> None:
        """Let the distribution be installed here, by links to where it is installed already."""
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__", *copied}:
            (self.packages / top).symlink_to(distribution(name).locate_file(top))

    def pip(self, arguments: str) -> str:
        """Let pip do something; its output."""
        return self.does(f"pip {arguments}")

    def whose(self) -> str:
        """Who provides `import channels`: "fairway", "upstream", or the error."""
        done = self.run(f"python -c {shlex.quote(WHOSE)}")
        return done.stdout.strip().splitlines()[-1]

    def doctor(self) -> tuple[int, str]:
        done = self.run("fairway doctor")
        return done.returncode, done.stdout

    def mend(self) -> str:
        """Run the command that the doctor gives for the first problem; the doctor's report from before."""
        code, report = self.doctor()
        found = re.search(r"^problem .*; to mend it: (.+)$", report, re.MULTILINE)
        assert code == 1, report
        assert found, report
        self.does(found[1])
        return report

    def server_says(self) -> str:
        """The first line that `fairway` logs when it serves an application that imports `channels`."""
        application = "import channels\n\n\nasync def application(scope, receive, send): ...\n"
        (self.directory / "application.py").write_text(application)
        command = [str(self.scripts / "fairway"), "application:application", "--port", "0"]
        with subprocess.Popen(command, cwd=self.directory, text=True, stderr=subprocess.PIPE) as server:
            try:
                assert server.stderr is not None
                return server.stderr.readline()
            finally:
                server.kill()

    def assert_is_sound(self) -> None:
        assert self.whose() == "fairway"
        code, report = self.doctor()
        assert code == 0, report
        assert "problem" not in report
        assert self.pip("check") == "No broken requirements found.\n"


def needs(name: str) -> set[str]:
    """The distributions that this one requires, and those that they do, as far as this machine has a need of them."""
    found: set[str] = set()
    for requirement in distribution(name).requires or []:
        needed = re.match(r"[\w.-]+", requirement)
        assert needed
        with suppress(PackageNotFoundError):
            found |= set() if "extra ==" in requirement else {needed[0], *needs(needed[0])}
    return found


def folder_of(package: str) -> Path:
    return Path(str(distribution(package).locate_file(package)))


def uv_only(directory: Path) -> Path:
    """A folder for PATH with uv and a bare interpreter: the tests' own environment has to be out of uv's reach."""
    directory.mkdir()
    for name, file in {"uv": find_uv_bin(), "uvx": f"{find_uv_bin()}x", "python3": sys._base_executable}.items():
        (directory / name).symlink_to(file)
    return directory


def commands(heading: str) -> list[str]:
    """The blocks of the page that are marked as run, below this heading."""
    text = PAGES[0].read_text("utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^<!-- run -->\n```sh\n(.+?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, f"no commands below {heading!r}"
    # A reader would stop at the first that fails.
    return [f"set -e\n{block}" for block in found]


def renumber(wheel: Path, version: str) -> Path:
    """The same wheel as a release with another number."""
    renumbered = wheel.with_name(wheel.name.replace("4.3.2", version))
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(renumbered, "w") as target:
        for item in source.infolist():
            name, content = item.filename, source.read(item)
            if ".dist-info/" in name:
                name, content = name.replace("4.3.2", version), content.replace(b"4.3.2", version.encode())
            target.writestr(name, content)
    return renumbered


def namesake(directory: Path) -> Path:
    """A wheel of somebody else's distribution `fairway`, with a package of the same name."""
    path = directory / "fairway-9.0-py3-none-any.whl"
    info = "fairway-9.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("fairway/paths.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: fairway\nVersion: 9.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"fairway/paths.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


@pytest.fixture(scope="module", autouse=True)
def own_environment_is_left_alone() -> Iterator[None]:
    """Upstream in the tests' own environment would hide the sources from every later test."""
    before = [one.version for one in distributions(name="channels")]
    yield
    assert [one.version for one in distributions(name="channels")] == before


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fairway, its label, Channels as it is and a later release of it, and a package that requires Channels."""
    folder = tmp_path_factory.mktemp("index")
    packages = [UPSTREAM.replace("-", "=="), "channels_redis==4.3.0", "msgpack"]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    run([*download, "--dest", str(folder), *packages])
    renumber(folder / f"{UPSTREAM}-py3-none-any.whl", NEWER.partition("-")[2])
    with wheels() as ours:
        for wheel in ours:
            shutil.copy(wheel, folder)
    return folder


@pytest.fixture
def site(tmp_path: Path, index: Path) -> Site:
    return Site(tmp_path, index)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Site:
    return Site(tmp_path_factory.mktemp("shared"), index)


@pytest.fixture
def switched(shared_site: Site) -> Site:
    """A site with Fairway, the label and a package that requires Channels; used again, in a sound state."""
    if shared_site.run("fairway doctor").returncode != 0:
        shared_site.pip("uninstall -y channels django-fairway")
        shared_site.pip(f"install django-fairway {PIN} channels_redis")
    assert shared_site.whose() == "fairway"
    return shared_site


def test_the_pages_steps_with_pip_lead_to_a_sound_site(site: Site) -> None:
    site.get_wheels()
    shutil.copy(EXAMPLES / "pip" / "requirements.txt", site.directory)

    output = "".join(map(site.does, commands("pip")[:1]))

    assert f"channels-{metadata_wheel.VERSION}" in output
    assert f"{UPSTREAM} " not in output
    site.assert_is_sound()


def test_the_pages_steps_with_pip_lead_there_from_upstream_too(site: Site) -> None:
    site.pip(f"install --no-deps {site.index / UPSTREAM}-py3-none-any.whl")
    site.get_wheels()
    shutil.copy(EXAMPLES / "pip" / "requirements.txt", site.directory)

    site.does(commands("pip")[1])

    site.assert_is_sound()


def test_the_pages_steps_with_uv_lead_there_from_upstream_too(tmp_path: Path, index: Path) -> None:
    project = Shell(tmp_path / "project", uv_only(tmp_path / "bin"), UV_FIND_LINKS=str(index))
    (install,) = commands("uv")
    upstream = index / f"{UPSTREAM}-py3-none-any.whl"
    project.does(f"uv venv --python {sys._base_executable} && uv pip install --python .venv --no-deps {upstream}")

    project.get_wheels()
    shutil.copy(EXAMPLES / "uv" / "pyproject.toml", project.directory)
    output = project.does(install)

    assert f"ok       channels {metadata_wheel.VERSION} is a label without modules" in output
    assert project.does(f".venv/bin/python -c {shlex.quote(WHOSE)}") == "fairway\n"
    assert "problem" not in output


def test_the_label_alone_pulls_nothing_from_anywhere(site: Site) -> None:
    installed = site.pip("list")

    output = site.pip(f"install ./{metadata_wheel.write(site.directory).name}")

    assert f"Successfully installed channels-{metadata_wheel.VERSION}" in output
    assert {line.split()[0] for line in site.pip("list").splitlines()} == {
        "channels",
        *(line.split()[0] for line in installed.splitlines()),
    }


def test_a_foreign_distribution_called_fairway_is_refused_and_mended(switched: Site) -> None:
    shutil.copy(namesake(switched.index), switched.directory)
    switched.pip("install --no-deps ./fairway-9.0-py3-none-any.whl")

    report = switched.mend()

    assert "problem  fairway 9.0 also has files in channels/ or fairway/, where Fairway's belong" in report
    switched.assert_is_sound()


def test_the_pages_name_the_files_that_there_are() -> None:
    files = {path: path.read_text("utf-8") for path in [*PAGES, *EXAMPLES.glob("*/*")]}

    assert len(files) == 5
    for path, text in files.items():
        assert set(re.findall(r"[\d.]+\+fairway", text)) == {metadata_wheel.VERSION}, path
        assert set(re.findall(r"django_fairway-(\d[^-]*)-", text)) == {fairway.__version__}, path


def test_both_pages_show_the_same_blocks() -> None:
    english, chinese = ([(block.kind, block.path, block.text) for block in split(page)[0]] for page in PAGES)

    assert english == chinese


def test_a_constraint_chooses_the_label_although_a_later_release_exists(site: Site) -> None:
    (site.directory / "constraints.txt").write_text(f"{PIN}\n")

    site.pip("install --constraint constraints.txt django-fairway channels_redis")
    site.assert_is_sound()
    site.pip("install --constraint constraints.txt --upgrade channels channels_redis")

    site.assert_is_sound()


def test_upstream_before_fairway_and_the_label_costs_the_files_and_is_mended(site: Site) -> None:
    """The label replaces Channels, whose files, which pip removes, are Fairway's by now."""
    site.pip(f"install --no-deps {site.index / UPSTREAM}-py3-none-any.whl")
    site.pip("install django-fairway")
    site.pip(f"install {PIN} channels_redis")
    assert site.whose() == "ModuleNotFoundError: No module named 'channels.consumer'"

    report = site.mend()

    assert "files (channels/__init__.py, channels/apps.py, channels/auth.py and" in report
    assert "more) are missing" in report
    site.assert_is_sound()


def test_fairway_over_upstream_works_until_upstream_is_uninstalled_and_is_mended_before(site: Site) -> None:
    site.pip(f"install --no-deps {NEWER.replace('-', '==')}")
    site.pip("install django-fairway")
    assert site.whose() == "fairway"
    assert "channels 4.99 also has files in channels/" in site.server_says()
    assert "(channels.W010) channels 4.99 also has files in channels/" in site.does(f"python -c {shlex.quote(CHECK)}")

    report = site.mend()

    assert "problem  channels 4.99 also has files in channels/ or fairway/, where Fairway's belong" in report
    site.assert_is_sound()


def test_an_upgrade_of_channels_overwrites_fairway_and_is_mended_with_a_label_from_the_doctor(switched: Site) -> None:
    switched.pip("install --upgrade channels")
    assert switched.whose() == "upstream"
    assert "channels/__init__.py is not Fairway's: something has overwritten it" in switched.server_says()

    report = switched.mend()

    assert "problem  channels 4.99 also has files in channels/" in report
    assert "are not as Fairway's wheel had them" in report
    assert (switched.directory / "wheels" / metadata_wheel.FILE_NAME).exists()
    switched.assert_is_sound()


def test_an_upstream_that_came_and_went_has_taken_files_along_and_is_mended(switched: Site) -> None:
    switched.pip("install --upgrade channels && pip uninstall -y channels")
    assert switched.whose() == "ModuleNotFoundError: No module named 'channels.consumer'"

    report = switched.mend()

    assert "are missing" in report
    assert "channels-redis requires channels" in report
    switched.assert_is_sound()


def test_without_the_label_fairway_works_but_the_doctor_warns(switched: Site) -> None:
    switched.pip("uninstall -y channels")
    assert switched.whose() == "fairway"
    assert "requires channels, which is not installed" in switched.run("pip check").stdout

    report = switched.mend()

    assert "problem  channels-redis requires channels, and the next pip install would overwrite Fairway's" in report
    switched.assert_is_sound()
