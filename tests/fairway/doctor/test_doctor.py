"""What the doctor says about installations: folders with the metadata that pip and uv write, examined where they lie.

Whole environments that pip has spoilt and the printed commands mend are in `tests/compat/test_packaging.py`.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from email import message_from_bytes
from email.message import Message
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from tests.services.redis import free_port

import channels
import fairway
from fairway.__main__ import main
from fairway.doctor import doctor, metadata_wheel

ROOT = Path(__file__).parents[3]
SOURCES = Path(fairway.__file__).parents[1]
PIP = f"{sys.executable} -m pip"
AGAIN = "--no-index --find-links wheels django-fairway==0.1.0"
LABEL_FILE = f"$({sys.executable} -m fairway doctor --label)"


class Folder:
    """A folder on `sys.path` in which distributions are installed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir(parents=True, exist_ok=True)

    def install(
        self,
        name: str,
        version: str,
        *files: str,
        requires: tuple[str, ...] = (),
        installer: str = "pip",
        origin: dict[str, object] | None = None,
    ) -> None:
        info = self.path / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires)]
        (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))
        (info / "INSTALLER").write_text(f"{installer}\n")
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))
        rows = [(file, f"sha256={hash_of(self.write(file))}", "") for file in files]
        with (info / "RECORD").open("w", newline="") as record:
            csv.writer(record).writerows([*rows, (f"{info.name}/RECORD", "", "")])

    def install_fairway(self, *files: str, installer: str = "pip", origin: dict[str, object] | None = None) -> None:
        self.install("django_fairway", "0.1.0", *files, installer=installer, origin=origin)

    def write(self, name: str, text: str = "# as it was installed\n") -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def problems(self, *before: Path) -> list[str]:
        """The problems of a process that finds this folder, then the running Fairway's, after those `before`."""
        found = doctor.examine([*map(str, before), str(self.path), str(SOURCES)])
        return [str(finding).removeprefix("problem  ") for finding in found if finding.level == "problem"]

    def says(self) -> str:
        return "\n".join(map(str, doctor.examine([str(self.path), str(SOURCES)])))


def hash_of(file: Path) -> str:
    return urlsafe_b64encode(sha256(file.read_bytes()).digest()).rstrip(b"=").decode()


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        return message_from_bytes(archive.read(name))


@pytest.fixture
def bare(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "site-packages")


@pytest.fixture
def folder(bare: Folder) -> Folder:
    """One in which all is well, apart from Fairway, which runs from the sources."""
    bare.install("Django", "5.2.1")
    bare.install("uvloop", "0.22.1")
    return bare


def test_a_sound_installation_has_no_problem_and_names_its_versions(folder: Folder) -> None:
    folder.install_fairway("fairway/log.py", "channels/log.py")
    folder.install("channels", metadata_wheel.VERSION)

    assert folder.problems() == []
    report = folder.says()
    assert f"ok       Python {sys.version.split()[0]} at {sys.executable}" in report
    assert "ok       Django 5.2.1" in report
    assert "ok       uvloop 0.22.1" in report
    assert f"ok       `import channels` finds {SOURCES / 'channels'}" in report
    assert f"ok       channels {metadata_wheel.VERSION} is a label without modules" in report


def test_missing_and_changed_files_are_named_and_counted(folder: Folder) -> None:
    names = [f"channels/{name}.py" for name in "abcde"]
    folder.install_fairway(*names, "fairway/log.py")
    (folder.path / "channels/b.py").unlink()
    for name in ("a", "c", "d", "e"):
        folder.write(f"channels/{name}.py", "# of somebody else\n")

    again = f"to mend it: {PIP} install --force-reinstall --no-deps {AGAIN}"
    assert folder.problems() == [
        f"1 file (channels/b.py) is missing; {again}",
        "4 files (channels/a.py, channels/c.py, channels/d.py and 1 more) are not as Fairway's wheel had them; "
        + again,
    ]


def test_upstream_channels_is_removed_before_fairway_is_installed_again(folder: Folder) -> None:
    folder.install_fairway("channels/log.py")
    folder.install("channels", "4.3.2", "channels/log.py", "channels/worker.py")

    assert folder.problems() == [
        "channels 4.3.2 also has files in channels/ or fairway/, where Fairway's belong; to mend it: "
        f"{PIP} uninstall -y channels && {PIP} install --force-reinstall --no-deps {AGAIN}"
    ]


def test_the_label_comes_in_upstreams_place_where_something_requires_it(folder: Folder) -> None:
    folder.install_fairway("channels/log.py")
    folder.install("channels", "4.3.2", "channels/log.py")
    folder.install("channels_redis", "4.3.0", requires=("redis>=4.6", "channels>=4.2.2"))

    (problem,) = folder.problems()
    assert problem.endswith(f"install --force-reinstall --no-deps {AGAIN} {LABEL_FILE}")


@pytest.mark.parametrize(
    "requirement",
    [
        "channels",
        "channels>=4.2.2",
        "Channels[daphne] (>=4)",
        "channels ; python_version >= '3.8'",
        "channels<5,>=4",
        "channels @ https://example.com/channels.whl",
    ],
)
def test_without_the_label_a_package_that_requires_channels_is_a_problem(folder: Folder, requirement: str) -> None:
    folder.install("some-package", "1.0", requires=(requirement,))

    assert folder.problems() == [
        "some-package requires channels, and the next pip install would overwrite Fairway's; "
        f"to mend it: {PIP} install --no-deps {LABEL_FILE}"
    ]


@pytest.mark.parametrize("requirement", ["channels-redis>=4", "channels; extra == 'ws'", "channelsmultiplexer"])
def test_other_requirements_are_none(folder: Folder, requirement: str) -> None:
    folder.install("some-package", "1.0", requires=(requirement,))

    assert folder.problems() == []


def test_an_editable_install_says_so_and_upstream_that_hides_it_is_uninstalled(folder: Folder) -> None:
    folder.install_fairway(origin={"url": ROOT.as_uri(), "dir_info": {"editable": True}})
    assert folder.problems() == []
    assert f"ok       Fairway 0.1.0, an editable install of {SOURCES}; no hashes to check" in folder.says()

    folder.install("channels", "4.3.2", "channels/__init__.py")

    mend = f"to mend it: {PIP} uninstall -y channels"
    assert folder.problems() == [
        f"channels 4.3.2 also has files in channels/ or fairway/, where Fairway's belong; {mend}",
        f"`import channels` finds {folder.path / 'channels'} instead of {SOURCES / 'channels'}; {mend}",
    ]


@pytest.mark.parametrize("name", ["channels/__init__.py", "channels.py"])
def test_a_local_module_of_this_name_is_moved_aside(folder: Folder, tmp_path: Path, name: str) -> None:
    project = Folder(tmp_path / "my project")
    project.write(name)
    top = Path(name).parts[0]

    assert folder.problems(project.path) == [
        f"`import channels` finds {project.path / top} instead of {SOURCES / 'channels'}; "
        f"to mend it: mv '{project.path / top}' '{project.path / f'local_{top}'}'"
    ]


def test_a_local_folder_without_modules_hides_nothing(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "project" / "channels").mkdir(parents=True)

    assert folder.problems(tmp_path / "project") == []


def test_a_package_that_cannot_be_found_is_a_problem(folder: Folder) -> None:
    folder.install_fairway("fairway/log.py")

    found = doctor.examine([str(folder.path)])

    assert (
        f"problem  `import channels` finds no package; it should find {SOURCES / 'channels'}; "
        f"to mend it: {PIP} install --force-reinstall --no-deps {AGAIN}" in map(str, found)
    )


def test_a_distribution_called_fairway_is_another_project(folder: Folder) -> None:
    folder.install_fairway("fairway/log.py")
    folder.install("fairway", "2.0", "something_else.py")

    assert folder.problems() == [
        "fairway 2.0 is not this Fairway, whose distribution is django-fairway; "
        f"to mend it: {PIP} uninstall -y fairway && {PIP} install --force-reinstall --no-deps {AGAIN}"
    ]


def test_a_distribution_called_fairway_with_files_among_ours_is_an_intruder(folder: Folder) -> None:
    folder.install_fairway("fairway/log.py")
    folder.install("fairway", "2.0", "fairway/engine.py")

    assert folder.problems() == [
        "fairway 2.0 also has files in channels/ or fairway/, where Fairway's belong; "
        f"to mend it: {PIP} uninstall -y fairway && {PIP} install --force-reinstall --no-deps {AGAIN}"
    ]


def test_a_distribution_called_fairway_instead_of_ours_is_replaced(folder: Folder) -> None:
    folder.install("fairway", "2.0", "something_else.py")

    (problem,) = folder.problems()
    assert problem.endswith(
        f"{PIP} uninstall -y fairway && "
        f"{PIP} install --force-reinstall --no-deps --no-index --find-links wheels django-fairway"
    )


def test_of_two_installations_each_is_removed(folder: Folder, tmp_path: Path) -> None:
    folder.install_fairway("fairway/log.py")
    folder.install("channels", metadata_wheel.VERSION)
    folder.install("channels", "4.2.0+fairway")

    (problem,) = folder.problems()
    assert problem.startswith("channels is installed 2 times: ")
    assert f"{metadata_wheel.VERSION} in {folder.path}" in problem
    assert f"4.2.0+fairway in {folder.path}" in problem
    assert problem.endswith(
        f"to mend it: {PIP} uninstall -y channels && {PIP} uninstall -y channels && "
        f"{PIP} install --force-reinstall --no-deps {AGAIN}"
    )


def test_one_installation_on_two_entries_of_the_path_is_one(folder: Folder, tmp_path: Path) -> None:
    folder.install("channels", metadata_wheel.VERSION)
    (tmp_path / "link").symlink_to(folder.path)

    assert folder.problems(tmp_path / "link") == []


def test_an_old_django_and_none_are_problems(bare: Folder) -> None:
    mend = f"to mend it: {PIP} install 'Django>=5.2'"
    assert bare.problems() == [f"Django is not installed; {mend}"]

    bare.install("Django", "4.2.11")

    assert bare.problems() == [f"Django 4.2.11 is too old: Fairway needs 5.2 or later; {mend}"]


@pytest.mark.parametrize("version", ["5.2", "5.2rc1", "6.0.1", "6.1a1", "10.0"])
def test_later_djangos_are_new_enough(bare: Folder, version: str) -> None:
    bare.install("django", version)

    assert bare.problems() == []


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist for Windows")
def test_a_missing_uvloop_is_worth_a_note(bare: Folder) -> None:
    bare.install("Django", "5.2.1")

    assert f"note     uvloop is not installed, the server is slower without it; to mend it: {PIP} install uvloop" in (
        bare.says()
    )
    assert bare.problems() == []


@pytest.mark.parametrize(
    ("version", "whose"), [("4.2.1", "Django's server Daphne"), ("4.2.1+fairway", "Fairway's label and command")]
)
def test_daphne_is_told_from_the_label(folder: Folder, version: str, whose: str) -> None:
    folder.install("daphne", version, "daphne/__init__.py")

    assert f"ok       daphne {version} is {whose}" in folder.says()
    assert folder.problems() == []


def test_uv_is_mended_with_uv(folder: Folder) -> None:
    folder.install_fairway("channels/log.py", installer="uv")
    folder.install("channels", "4.3.2", "channels/log.py", installer="uv")

    (problem,) = folder.problems()
    assert problem.endswith(
        f"to mend it: uv pip uninstall --python {sys.executable} channels && "
        f"uv pip install --python {sys.executable} --force-reinstall --no-deps {AGAIN}"
    )


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        ({"url": ROOT.as_uri(), "dir_info": {}}, ROOT.as_uri()),
        ({"url": "file:///gone/fairway.whl", "archive_info": {}}, AGAIN),
        ({"url": "https://example.com/fairway.whl?a=1&b=2"}, "'https://example.com/fairway.whl?a=1&b=2'"),
        (
            {"url": "https://example.com/fairway.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "git+https://example.com/fairway.git@abc",
        ),
    ],
)
def test_fairway_comes_again_from_where_it_came_from(
    folder: Folder, origin: dict[str, object], requirement: str
) -> None:
    folder.install_fairway("channels/log.py", origin=origin)
    (folder.path / "channels/log.py").unlink()

    (problem,) = folder.problems()
    assert problem.endswith(f"--no-deps {requirement}")


def test_a_distribution_whose_metadata_are_lost_is_passed_over(folder: Folder) -> None:
    (folder.path / "lost-1.0.dist-info").mkdir()

    assert folder.problems() == []


@pytest.mark.slow
def test_the_command_is_reached_by_its_name_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert f"`import channels` finds {SOURCES / 'channels'}" in report
    assert re.search(r"^ok       all \d\d+ modules of fairway and channels can be imported$", report, re.MULTILINE)

    Folder(tmp_path).write("channels.py")

    assert main(["doctor"]) == 1
    assert f"problem  `import channels` finds {tmp_path / 'channels.py'} instead of" in capsys.readouterr().out


def test_a_module_that_cannot_be_imported_is_a_problem_although_its_file_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As with a release of Python, or of another package, that Fairway's files do not work with.
    Folder(tmp_path).write("asgiref/__init__.py", "raise TypeError('too old')\n")
    monkeypatch.chdir(tmp_path)

    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "problem  TypeError: too old"


@pytest.mark.slow
@pytest.mark.parametrize("package", ["hiredis", "ormsgpack", "redis"])
def test_a_package_that_a_site_need_not_have_is_not_missed(tmp_path: Path, package: str) -> None:
    missing = f'raise ModuleNotFoundError("No module named {package!r}", name={package!r})\n'
    everything = doctor.import_everything(sys.path)
    Folder(tmp_path).write(f"{package}/__init__.py", missing)

    found = doctor.import_everything([str(tmp_path), *sys.path])

    assert (everything.level, found.level) == ("ok", "ok")
    assert int(re.findall(r"\d+", found.text)[0]) < int(re.findall(r"\d+", everything.text)[0])


@pytest.mark.slow
def test_the_first_module_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    Folder(tmp_path).write("websockets/__init__.py", "raise TypeError('too old')\n")

    found = doctor.import_everything([str(tmp_path), *sys.path])

    assert found.level == "problem"
    assert re.fullmatch(r"fairway\.[\w.]+ cannot be imported: TypeError: too old", found.text)


@pytest.mark.slow
def test_channel_layers_are_tried(tmp_path: Path) -> None:
    near = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    far = {"BACKEND": "fairway.layers.redis.RedisChannelLayer", "CONFIG": {"hosts": [("127.0.0.1", free_port())]}}
    layers = {"default": near, "far": far}
    Folder(tmp_path).write("mysettings.py", f"print('settings are loaded')\nCHANNEL_LAYERS = {layers!r}\n")
    Folder(tmp_path).write("nolayers.py", "INSTALLED_APPS = []\n")
    path = [str(tmp_path), *sys.path]

    (found,) = doctor.try_layers(path, "nolayers")
    assert (found.level, found.text) == ("ok", "nolayers has no channel layer")
    first, second = doctor.try_layers(path, "mysettings")
    assert first.level == "ok"
    assert re.fullmatch(
        r"the channel layer 'default' \(channels\.layers\.InMemoryChannelLayer\) works: "
        r"a message to a group takes \d+\.\d ms",
        first.text,
    )
    assert second.level == "problem"
    assert re.fullmatch(
        r"the channel layer 'far' \(fairway\.layers\.redis\.RedisChannelLayer\) does not work: Redis at "
        r"127\.0\.0\.1:\d+ is away: .*; nothing listens there: start the service, or correct the address",
        second.text,
    )
    (found,) = doctor.try_layers(path, "nowhere.settings")
    assert found.level == "problem"
    assert found.text == (
        "the channel layers of nowhere.settings cannot be tried: ModuleNotFoundError: No module named 'nowhere'"
    )


@pytest.mark.slow
def test_settings_are_those_of_the_option_or_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(doctor, "import_everything", lambda path: doctor.Finding("ok", "all of it"))
    monkeypatch.setattr(doctor.subprocess, "run", lambda command, *, env, **_: tried.append(env[SETTINGS]) or Died())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SETTINGS)
    assert main(["doctor"]) == 0
    assert (
        "note     no channel layer was tried: give --settings, or set DJANGO_SETTINGS_MODULE\n"
        in capsys.readouterr().out
    )
    monkeypatch.setenv(SETTINGS, "of.the.variable")
    assert main(["doctor"]) == main(["doctor", "--settings", "of.the.option"]) == 1
    assert tried == ["of.the.variable", "of.the.option"]
    assert "of.the.option cannot be tried: the process that tries them died\n" in capsys.readouterr().out


SETTINGS = "DJANGO_SETTINGS_MODULE"


class Died:
    """A process that has ended without a word."""

    returncode, stdout, stderr = -9, "", ""


def test_help_says_what_the_exit_code_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--help"])

    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: fairway doctor [-h] [--label [DIR]] [--settings MODULE]")
    assert "The exit code is 0 if" in " ".join(output.split())


@pytest.mark.slow
def test_the_doctor_needs_neither_django_nor_channels_nor_the_server() -> None:
    names = ("django", "channels", "asgiref", "uvloop", "fairway.server")
    script = (
        "import sys; from fairway.__main__ import main; main(['doctor']); "
        f"print('loaded:', [name for name in {names} if name in sys.modules])"
    )
    command = [sys.executable, "-c", script]

    output = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, timeout=60, check=True).stdout

    assert output.endswith("loaded: []\n")


def test_the_label_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "some" / "folder"

    assert main(["doctor", "--label", str(folder)]) == 0

    path = folder / "channels-4.3.2+fairway-py3-none-any.whl"
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_bytes() == metadata_wheel.write(tmp_path).read_bytes()


def test_a_label_that_is_there_keeps_its_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / metadata_wheel.FILE_NAME
    path.write_bytes(b"as made by make wheels")

    assert main(["doctor", "--label", str(tmp_path)]) == 0

    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_bytes() == b"as made by make wheels"


def test_a_label_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    assert main(["doctor", "--label", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"cannot write {tmp_path / 'file' / metadata_wheel.FILE_NAME}: File exists\n"


def test_the_label_says_what_the_project_in_compat_says(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "compat/channels/pyproject.toml").read_text("utf-8"))["project"]

    metadata = metadata_of(metadata_wheel.write(tmp_path))

    extras = project["optional-dependencies"]
    of_extras = [f"{text}; extra == '{extra}'" for extra, texts in extras.items() for text in texts]
    assert (metadata["Name"], metadata["Version"]) == (project["name"], project["version"])
    assert metadata["Summary"] == project["description"]
    assert metadata["License-Expression"] == project["license"]
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata.get_all("Provides-Extra") == list(extras)
    assert metadata.get_all("Requires-Dist") == [*project["dependencies"], *of_extras] == of_extras


def test_the_label_stands_for_the_interface_that_the_package_has() -> None:
    assert f"{channels.__version__}+fairway" == metadata_wheel.VERSION


def test_a_server_with_fairways_channels_has_nothing_to_say() -> None:
    assert doctor.start_warnings() == []


def test_a_server_with_another_channels_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("channels")
    module.__file__ = "/srv/channels/__init__.py"
    monkeypatch.setitem(sys.modules, "channels", module)

    assert doctor.start_warnings() == [
        "/srv/channels/__init__.py is not Fairway's: something has overwritten it or hides it, and consumers run on "
        "that. Run: fairway doctor, which prints the command that mends it"
    ]


def test_a_server_with_fairways_channels_over_those_of_another_says_so(
    bare: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.install("Channels", "4.3.2", "channels/consumer.py")
    bare.install("django_fairway", "0.1.0", "channels/db.py")
    bare.install("channels_redis", "4.3.0", "channels_redis/core.py")
    monkeypatch.syspath_prepend(bare.path)

    assert doctor.start_warnings() == [
        "Channels 4.3.2 also has files in channels/ or fairway/, where Fairway's belong: the next change to either "
        "breaks both. Run: fairway doctor, which prints the command that mends it"
    ]


def test_a_server_of_an_application_without_channels_has_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "channels")

    assert doctor.start_warnings() == []
