"""The distribution is `django-fairway`, which no index has yet: nothing in the repository calls it otherwise.

The project that an index lists as `fairway` is somebody else's. A command or a requirement that names it would install
that; one that names `django-fairway` without a file would ask an index for a name that anybody can take.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

# The tests that lay foreign distributions beside ours have to name them, and pip is given no index there.
EXEMPT = {Path("tests/docs/test_name.py"), Path("tests/fairway/test_doctor.py"), Path("tests/compat/test_packaging.py")}
TEXT = {"", ".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".html", ".po", ".cfg", ".sh", ".js", ".diff", ".json"}
FROM_ANYWHERE = r"(?:pip3? install|pipx install|pipx run|uvx|uv add|uv tool install|poetry add|pip download)\b"
METADATA = r"(?:version|metadata|distributions?|requires|files)"

OLD_NAME = {
    "an installation by the old name": rf"{FROM_ANYWHERE}[^\n`;|&]*[ '\"]fairway(?![\w./:-])",
    "a requirement of the old name": r"(?:Requires-Dist: |[\"'])fairway *(?:\[\w+\])? *[<>=~!@]",
    "a list of requirements with the old name": r"(?:dependencies|requires) *= *\[[^\]]*[\"']fairway[\"'\[]",
    "a line of requirements with the old name": r"(?m)^fairway(?:\[\w+\])? *(?:(?:[<>~!]|==).*)?$",
    "metadata asked for by the old name": rf"{METADATA}\((?:name=)?[\"']fairway[\"']\)",
    "a wheel of the old name": r"(?<![\w-])fairway-(?:\*|\d[\w.]*)(?:-|\.)[\w.*-]*(?:whl|tar\.gz|dist-info)",
    "prose with the old name": r"(?i:distribution|发行包)(?: called| named|叫|名为)? ?[`\"'“]fairway[`\"'”]",
    "the name of the project": r"(?m)^name = \"fairway\"$",
}
BY_NAME = rf"{FROM_ANYWHERE}[^\n`;|&]*[ '\"]django-fairway"


def files() -> list[Path]:
    """The files of the repository, those that are not yet committed included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:  # not a clone, but an archive of the sources
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
        return [path for path in found if not any(part.startswith(".") for part in path.parts)]
    return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def found(pattern: str, text: str) -> list[str]:
    return [match[0][-80:] for match in re.finditer(pattern, text)]


@pytest.mark.parametrize("what", OLD_NAME)
def test_no_file_uses_the_old_name(what: str) -> None:
    wrong = {
        str(path): hits
        for path in files()
        if path.suffix in TEXT and path not in EXEMPT
        if (hits := found(OLD_NAME[what], (ROOT / path).read_text("utf-8", errors="replace")))
    }

    assert wrong == {}, what


def test_no_page_and_no_message_asks_an_index_for_the_new_name() -> None:
    wrong = {
        str(path): hits
        for path in files()
        if path.suffix in TEXT and path not in EXEMPT
        if (hits := found(BY_NAME, (ROOT / path).read_text("utf-8", errors="replace")))
    }

    assert wrong == {}


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("an installation by the old name", "type `pip install fairway`."),
        ("an installation by the old name", "python -m pip install --upgrade 'fairway'"),
        ("an installation by the old name", "uvx fairway doctor --label wheels"),
        ("a requirement of the old name", "Requires-Dist: fairway>=0.1.0"),
        ("a requirement of the old name", 'dependencies = ["fairway>=0.1.0"]'),
        ("a list of requirements with the old name", 'dependencies = ["Django", "fairway"]'),
        ("a line of requirements with the old name", "Django>=5.2\nfairway\nchannels-redis\n"),
        ("a line of requirements with the old name", "--find-links wheels\nfairway==0.1.0\n"),
        ("metadata asked for by the old name", 'importlib.metadata.version("fairway")'),
        ("metadata asked for by the old name", 'distributions(name="fairway")'),
        ("a wheel of the old name", "pip install dist/fairway-*.whl"),
        ("a wheel of the old name", "fairway-0.1.0-py3-none-any.whl"),
        ("prose with the old name", "the distribution `fairway`"),
        ("prose with the old name", "发行包叫 `fairway`"),
    ],
)
def test_the_patterns_find_what_they_are_for(what: str, text: str) -> None:
    assert found(OLD_NAME[what], text), text


@pytest.mark.parametrize(
    "text",
    [
        "pip install ../fairway\n",
        "pip install ../fairway/dist/django_fairway-0.1.0-py3-none-any.whl",
        "pip install -e . && fairway doctor",
        "channels-4.3.2+fairway-py3-none-any.whl",
        "the import package `fairway`",
        'sys.executable, "-m", "fairway", "mysite.asgi:application"',
    ],
)
def test_the_patterns_pass_over_the_package_and_the_command(text: str) -> None:
    assert {what: hits for what, pattern in OLD_NAME.items() if (hits := found(pattern, text))} == {}
