"""What a message, a hint or a help text names is there for whoever has only the wheel, which brings no pages."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, links

SOURCES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("compat/*/**/*.py")])
PAGE = re.compile(r"\b[\w/-]+\.md\b|\bdocs/\w+|\bREADME\b")


def texts(source: str) -> list[str]:
    """The strings of a module, parts of f-strings included, but for docstrings, which people read in the sources."""
    tree = ast.parse(source)
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in statements)
    return [node.value for node in constants if isinstance(node.value, str)]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["src/channels", "src/fairway", "compat"])
def test_no_message_points_to_a_page_that_the_wheel_does_not_bring(folder: str) -> None:
    modules = [path for path in SOURCES if path.is_relative_to(ROOT / folder)]

    wrong = {
        str(path.relative_to(ROOT)): found
        for path in modules
        if (found := [text for text in texts(path.read_text(encoding="utf-8")) if PAGE.search(text)])
    }

    assert modules
    assert wrong == {}


def test_a_page_in_a_message_is_found_and_one_in_a_docstring_is_not() -> None:
    source = '"""See docs/a.md."""\nhint = f"see docs/ref/settings.md for {name}"\n'
    assert [text for text in texts(source) if PAGE.search(text)] == ["see docs/ref/settings.md for "]


def test_the_description_in_the_metadata_has_no_link_into_the_repository() -> None:
    projects = [ROOT / "pyproject.toml", *ROOT.glob("compat/*/pyproject.toml")]
    for project in projects:
        readme = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["readme"]
        assert [link for link in links(project.parent / readme) if "://" not in link] == [], readme
    assert len(projects) == 4


def test_the_metadata_names_no_address_that_does_not_exist() -> None:
    """There is no home page yet: an address in the metadata would lead to nothing, or to somebody else."""
    for project in (Path("pyproject.toml"), *(path.relative_to(ROOT) for path in ROOT.glob("compat/*/pyproject.toml"))):
        assert "[project.urls]" not in (ROOT / project).read_text(encoding="utf-8"), project


def test_the_metadata_says_whose_it_is() -> None:
    holder = re.search(r"^Copyright \(c\) \d+, (.+)$", (ROOT / "LICENSE").read_text(encoding="utf-8"), re.MULTILINE)
    assert holder
    for project in (ROOT / "pyproject.toml", *ROOT.glob("compat/*/pyproject.toml")):
        metadata = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        assert metadata["authors"] == [{"name": holder[1]}], project
