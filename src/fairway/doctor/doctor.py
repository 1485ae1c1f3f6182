"""`fairway doctor`: checks whether the installation is sound, and prints the command that mends each fault.

Fairway and the distribution `channels` on the package index fill the same folder, `channels/`. If both are installed,
the second overwrites the first, and uninstalling either removes the files of both. The metadata of the installed
distributions tells which file belongs to which: their RECORD lists each file with its hash.

The doctor imports nothing of `channels` or Django, because it has to work where these are broken. If all files are as
they should be, a separate process imports every module: some may not work with this Python or with another package.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fairway
from fairway.doctor import metadata_wheel

DISTRIBUTION = "django-fairway"
"""The distribution that provides `channels` and `fairway`. On the index, the name `fairway` is another project's."""

CONFLICT_HINT = "Run: fairway doctor, which prints the command that mends it"

PROVENANCE = "__distribution__"
"""The attribute that marks a package `channels` as Fairway's."""

_FOLDERS = ("channels/", "fairway/")
_OLDEST_DJANGO = (5, 2)
_SHOWN = 3
# Never install it from an index: until the name is registered there, anybody may take it.
_FROM_WHEELS = "--no-index --find-links wheels"

_DESCRIPTION = """\
Check whether this installation is sound. The doctor looks for files of Fairway that were overwritten or removed, other
distributions in the same folder, a folder that hides the package `channels`, packages that miss the distribution
`channels`, and modules that cannot be imported. Then it tries the channel layers of a project: it connects, sends and
receives. Each fault is one line, with the command that mends it. The exit code is 0 if there is none, otherwise 1."""

# Packages that a site need not have. Modules that need one of them are skipped without it.
_OPTIONAL = ("hiredis", "ormsgpack", "pytest", "redis")

_IMPORT_ALL = """\
import importlib, json, pkgutil, sys
sys.path[:], optional = json.loads(sys.argv[1]), json.loads(sys.argv[2])
import django.conf
django.conf.settings.configure(INSTALLED_APPS=["channels"])
django.setup()
names, left_out = [], []
for package in map(importlib.import_module, ("fairway", "channels")):
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    names += [one.name for one in found if not one.name.endswith(".__main__")]
for name in names:
    try:
        importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ImportError) and error.name in optional:
            left_out.append(name)
            continue
        sys.exit(f"{name} cannot be imported: {type(error).__name__}: {error}")
print(len(names) - len(left_out))
"""

_TRY_LAYERS = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import django
django.setup()
from channels.checks import tried_layers
from channels.layers import channel_layers
print(json.dumps([
    [alias, channel_layers.configs[alias].get("BACKEND"), outcome.problem, outcome.advice, outcome.seconds]
    for alias, outcome in tried_layers()
]))
"""

_SETTINGS_VARIABLE = "DJANGO_SETTINGS_MODULE"

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `mend` is a command for the shell. Only problems make an installation unsound."""

    level: Level
    text: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.text}" + (f"; to mend it: {self.mend}" if self.mend else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `fairway doctor` with these arguments. Returns the exit code: 0 if the installation is sound, else 1."""
    options = _parser().parse_args(argv)
    if options.label is not None:
        return _write_label(options.label)
    path = [str(Path.cwd()), *sys.path]
    findings = examine(path)
    if not _is_unsound(findings):
        # Otherwise it would say the same again, less clearly.
        findings.append(import_everything(path))
    if not _is_unsound(findings):
        findings += try_layers(path, options.settings or os.environ.get(_SETTINGS_VARIABLE, ""))
    for finding in findings:
        print(finding)
    return int(_is_unsound(findings))


def examine(path: Sequence[str]) -> list[Finding]:
    """Return the findings about what a process with this `sys.path` would import."""
    return [*Examination(path).findings()]


def import_everything(path: Sequence[str]) -> Finding:
    """Whether a new process with this `sys.path` can import every module of `fairway` and `channels`."""
    command = [sys.executable, "-c", _IMPORT_ALL, json.dumps(list(path)), json.dumps(_OPTIONAL)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == 0:
        return Finding("ok", f"all {done.stdout.strip()} modules of fairway and channels can be imported")
    # The last line of a traceback says what happened.
    return Finding("problem", (done.stderr.strip().splitlines() or ["the process that imports all modules died"])[-1])


def try_layers(path: Sequence[str], settings: str) -> list[Finding]:
    """Whether the channel layers in these settings work, in a new process with this `sys.path`."""
    if not settings:
        return [Finding("note", f"no channel layer was tried: give --settings, or set {_SETTINGS_VARIABLE}")]
    command = [sys.executable, "-c", _TRY_LAYERS, json.dumps(list(path))]
    environment = {**os.environ, _SETTINGS_VARIABLE: settings}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["the process that tries them died"])[-1]
        return [Finding("problem", f"the channel layers of {settings} cannot be tried: {said}")]
    # What the settings print comes before it.
    rows = json.loads(done.stdout.splitlines()[-1])
    return [_of_layer(*row) for row in rows] or [Finding("ok", f"{settings} has no channel layer")]


def _of_layer(alias: str, backend: object, problem: str, advice: str, seconds: float) -> Finding:
    layer = f"the channel layer {alias!r} ({backend})"
    if problem:
        return Finding("problem", f"{layer} does not work: {problem}; {advice}")
    return Finding("ok", f"{layer} works: a message to a group takes {seconds * 1000:.1f} ms")


def start_warnings() -> list[str]:
    """Return the warnings that a starting server logs about the `channels` that the application has imported."""
    module = sys.modules.get("channels")
    if module is None:
        return []
    if getattr(module, PROVENANCE, None) == "fairway":
        return [f"{conflict} {CONFLICT_HINT}" for conflict in conflicts()]
    place = getattr(module, "__file__", None) or "the package `channels`"
    what = f"{place} is not Fairway's: something has overwritten it or hides it, and consumers run on that"
    return [f"{what}. {CONFLICT_HINT}"]


def conflicts() -> list[str]:
    """Return a sentence about each other distribution with files in the folders of Fairway.

    It reads only the lists of files, which takes some milliseconds; an examination takes a second.
    """
    found = [one for one in distributions() if _has_files_in(one, _FOLDERS) and "Name" in one.metadata]
    return [
        f"{name} {version} also has files in channels/ or fairway/, where Fairway's belong: the next change to either "
        "breaks both."
        for name, version in sorted({(one.metadata["Name"], one.version) for one in found})
        if _normal(name) != DISTRIBUTION
    ]


class Examination:
    """Reads once what is installed along one `sys.path`, and judges it."""

    def __init__(self, path: Sequence[str]) -> None:
        self.path = list(dict.fromkeys(path))
        self.installed = _by_name(distributions(path=self.path))

    def findings(self) -> Iterator[Finding]:
        yield Finding("ok", f"Python {sys.version.split()[0]} at {sys.executable}")
        yield self._django()
        yield self._uvloop()
        yield self._fairway()
        yield from self._namesake()
        yield from self._twice()
        yield from self._intruders()
        yield from self._damage()
        yield from self._shadow()
        yield from self._label()
        yield from self._daphne()

    def _django(self) -> Finding:
        django = self._get("django")
        wanted = ".".join(map(str, _OLDEST_DJANGO))
        mend = self._install(f"'Django>={wanted}'")
        if django is None:
            return Finding("problem", "Django is not installed", mend)
        if _numbers(django.version) < _OLDEST_DJANGO:
            return Finding("problem", f"Django {django.version} is too old: Fairway needs {wanted} or later", mend)
        return Finding("ok", f"Django {django.version}")

    def _uvloop(self) -> Finding:
        uvloop = self._get("uvloop")
        if uvloop is not None:
            return Finding("ok", f"uvloop {uvloop.version}")
        if sys.platform == "win32" or sys.implementation.name != "cpython":
            return Finding("ok", "uvloop does not exist for this Python; the server runs on asyncio's own loop")
        return Finding("note", "uvloop is not installed, the server is slower without it", self._install("uvloop"))

    def _fairway(self) -> Finding:
        here = _home()
        if self.fairway is None:
            return Finding("note", f"Fairway is not installed but runs from {here}; its files cannot be checked")
        if self.is_editable:
            return Finding("ok", f"Fairway {self.fairway.version}, an editable install of {here}; no hashes to check")
        place = _location(self.fairway)
        if place != here:
            return Finding("note", f"Fairway {self.fairway.version} is installed in {place}, but runs from {here}")
        return Finding("ok", f"Fairway {self.fairway.version} in {place}")

    def _namesake(self) -> Iterator[Finding]:
        namesake = self._get("fairway")
        if namesake is not None and namesake not in self.intruders:
            text = f"fairway {namesake.version} is not this Fairway, whose distribution is {DISTRIBUTION}"
            yield Finding("problem", text, self._mend("fairway"))

    def _twice(self) -> Iterator[Finding]:
        for name in (DISTRIBUTION, "channels", "daphne"):
            found = self.installed.get(name, [])
            if len(found) > 1:
                places = ", ".join(f"{one.version} in {_location(one)}" for one in found)
                yield Finding("problem", f"{name} is installed {len(found)} times: {places}", self._mend(name))

    def _intruders(self) -> Iterator[Finding]:
        for one in self.intruders:
            name = one.metadata["Name"]
            text = f"{name} {one.version} also has files in channels/ or fairway/, where Fairway's belong"
            yield Finding("problem", text, self._mend(name))

    def _damage(self) -> Iterator[Finding]:
        if self.fairway is None or self.is_editable:
            return
        missing, changed = _compare(self.fairway)
        for names, what in ((missing, "missing"), (changed, "not as Fairway's wheel had them")):
            if names:
                yield Finding("problem", f"{_counted(names)} {what}", self._mend())

    def _shadow(self) -> Iterator[Finding]:
        wanted = _home() / "channels"
        spec = PathFinder.find_spec("channels", self.path)
        if spec is None or spec.origin is None:
            yield Finding("problem", f"`import channels` finds no package; it should find {wanted}", self._mend())
            return
        origin = Path(spec.origin).resolve()
        found = origin.parent if origin.name == "__init__.py" else origin
        if found == wanted:
            yield Finding("ok", f"`import channels` finds {wanted}")
            return
        yield Finding("problem", f"`import channels` finds {found} instead of {wanted}", self._mend_shadow(found))

    def _label(self) -> Iterator[Finding]:
        channels = self._get("channels")
        if channels is not None:
            if channels not in self.intruders:
                yield Finding("ok", f"channels {channels.version} is a label without modules")
        elif self.requirers:
            text = f"{', '.join(self.requirers)} requires channels, and the next pip install would overwrite Fairway's"
            yield Finding("problem", text, self._install("--no-deps", self._label_file()))

    def _daphne(self) -> Iterator[Finding]:
        daphne = self._get("daphne")
        if daphne is not None:
            whose = "Fairway's label and command" if daphne.version.endswith("+fairway") else "Django's server Daphne"
            yield Finding("ok", f"daphne {daphne.version} is {whose}")

    @cached_property
    def fairway(self) -> Distribution | None:
        return self._get(DISTRIBUTION)

    @cached_property
    def is_editable(self) -> bool:
        return self.fairway is not None and _is_editable(_direct_url(self.fairway))

    @cached_property
    def intruders(self) -> list[Distribution]:
        """Other distributions with files in the folders that are Fairway's."""
        others = (one for name, found in self.installed.items() if name != DISTRIBUTION for one in found)
        return [one for one in others if _has_files_in(one, _FOLDERS)]

    @cached_property
    def requirers(self) -> list[str]:
        """The names of the distributions that require the distribution `channels`."""
        names = (name for name, found in self.installed.items() for one in found if _requires_channels(one))
        return sorted(set(names) - {"channels", DISTRIBUTION})

    def _get(self, name: str) -> Distribution | None:
        """Return the first distribution of this name on the path, which is the one that `importlib.metadata` finds."""
        return next(iter(self.installed.get(name, [])), None)

    # The commands. Uninstalling an intruder also removes Fairway's files, so Fairway is installed again after it.

    def _mend(self, *also: str) -> str:
        removed = sorted({one.metadata["Name"] for one in self.intruders} | set(also))
        # If a distribution is installed twice, pip removes one copy at a time.
        steps = [self._uninstall(name) for name in removed for _ in self.installed.get(_normal(name), [])]
        if restored := self._to_restore(removed):
            steps.append(self._install("--force-reinstall", "--no-deps", *restored))
        return " && ".join(steps)

    def _to_restore(self, removed: list[str]) -> list[str]:
        if self.fairway is None:
            # If `fairway` is among the removed ones, the package that ran until now belonged to another project.
            return [f"{_FROM_WHEELS} {DISTRIBUTION}"] if "fairway" in removed else []
        restored = []
        if DISTRIBUTION in removed or not self.is_editable:
            restored.append(_source(self.fairway))
        misses_label = "channels" in removed or self._get("channels") is None
        # Fairway writes this wheel, so it cannot be installed in one go with a new Fairway.
        if self.requirers and misses_label and DISTRIBUTION not in removed:
            restored.append(self._label_file())
        return restored

    def _mend_shadow(self, found: Path) -> str:
        if any(found.is_relative_to(_location(one)) for one in self.intruders):
            return self._mend()
        aside = found.with_name(f"local_{found.name}")
        return shlex.join(["mv", str(found), str(aside)])

    def _install(self, *arguments: str) -> str:
        return " ".join([self._pip("install"), *arguments])

    def _uninstall(self, *names: str) -> str:
        return " ".join([self._pip("uninstall"), *([] if self._is_uv else ["-y"]), *names])

    def _pip(self, verb: str) -> str:
        python = shlex.quote(sys.executable)
        return f"uv pip {verb} --python {python}" if self._is_uv else f"{python} -m pip {verb}"

    @cached_property
    def _is_uv(self) -> bool:
        return self.fairway is not None and (self.fairway.read_text("INSTALLER") or "").strip() == "uv"

    def _label_file(self) -> str:
        return f"$({shlex.quote(sys.executable)} -m fairway doctor --label)"


def _is_unsound(findings: Iterable[Finding]) -> bool:
    return any(finding.level == "problem" for finding in findings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fairway doctor", description=_DESCRIPTION)
    parser.add_argument(
        "--label",
        metavar="DIR",
        nargs="?",
        type=Path,
        const=Path("wheels"),
        help="instead write the wheel of the distribution `channels` without modules, for packages that require it, "
        "into DIR (default: wheels) and print its path",
    )
    parser.add_argument(
        "--settings",
        metavar="MODULE",
        help=f"the settings of the project whose channel layers are tried (default: {_SETTINGS_VARIABLE})",
    )
    return parser


def _write_label(directory: Path) -> int:
    try:
        print(metadata_wheel.write(directory))
    except OSError as error:
        print(f"cannot write {directory / metadata_wheel.FILE_NAME}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _home() -> Path:
    """The directory that the running Fairway was imported from."""
    return Path(fairway.__file__).resolve().parents[1]


def _location(distribution: Distribution) -> Path:
    return Path(str(distribution.locate_file(""))).resolve()


def _by_name(found: Iterable[Distribution]) -> dict[str, list[Distribution]]:
    """The distributions by normalised name. If two entries of the path lead to the same one, it is there once."""
    names: dict[str, dict[tuple[Path, str], Distribution]] = {}
    for one in found:
        # The remains of an interrupted uninstallation have no name.
        if "Name" in one.metadata:
            name = one.metadata["Name"]
            names.setdefault(_normal(name), {}).setdefault((_location(one), one.version), one)
    return {name: list(places.values()) for name, places in names.items()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _direct_url(distribution: Distribution) -> dict[str, Any]:
    """Return where a distribution was installed from, if that was not an index (PEP 610)."""
    content: dict[str, Any] = json.loads(distribution.read_text("direct_url.json") or "{}")
    return content


def _is_editable(origin: dict[str, Any]) -> bool:
    return bool(origin.get("dir_info", {}).get("editable"))


def _source(distribution: Distribution) -> str:
    """Return the requirement that installs the same distribution again, with the options that pip needs to find it."""
    origin = _direct_url(distribution)
    url = str(origin.get("url", ""))
    if _is_editable(origin):
        return f"--editable {shlex.quote(url)}"
    if "vcs_info" in origin:
        return shlex.quote(f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}")
    is_gone = url.startswith("file:") and not Path(url2pathname(urlsplit(url).path)).exists()
    return f"{_FROM_WHEELS} {DISTRIBUTION}=={distribution.version}" if is_gone or not url else shlex.quote(url)


def _has_files_in(distribution: Distribution, folders: tuple[str, ...]) -> bool:
    return any(line.startswith(folders) for line in (distribution.read_text("RECORD") or "").splitlines())


def _requires_channels(distribution: Distribution) -> bool:
    """Whether a distribution always requires `channels`. An extra's requirement does not count; other markers do."""
    pattern = re.compile(r"channels\s*(\[[^]]*\])?\s*($|[(<>=!~;@])", re.IGNORECASE)
    return any(pattern.match(text) and not re.search(r"\bextra\s*==", text) for text in distribution.requires or [])


def _compare(distribution: Distribution) -> tuple[list[str], list[str]]:
    """Return the files that are missing, and those whose hash differs from the recorded one."""
    missing, changed = [], []
    # `distribution.files` would not do: since Python 3.12 it leaves out missing files.
    for name, recorded, *_ in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if recorded and name.startswith(_FOLDERS):
            try:
                is_same = _hash_of(Path(str(distribution.locate_file(name))), recorded.partition("=")[0]) == recorded
            except OSError:
                missing.append(name)
            else:
                changed.extend([] if is_same else [name])
    return missing, changed


def _hash_of(path: Path, algorithm: str) -> str:
    """The hash of a file in the form of RECORD (PEP 376)."""
    digest = hashlib.new(algorithm, path.read_bytes()).digest()
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _counted(names: list[str]) -> str:
    more = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{len(names)} file{'s' if len(names) > 1 else ''} ({shown}) {'are' if len(names) > 1 else 'is'}"
