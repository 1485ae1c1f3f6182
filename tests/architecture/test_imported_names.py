"""The check for imports of names that have gone, on small repositories and on this one."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from tests.architecture.imported_names import Repository, main
from tests.architecture.sources import ROOT

OTHER = """
    import os.path
    from pathlib import Path as Place
    from src_only import *

    if True:
        EARLY: int = 1
    else:
        try:
            (late, [*rest]) = 1, [2]
        except ValueError as error:
            pass
    for number in ():
        with open("x") as file:
            pass

    class Thing:
        inside = 1

    async def run():
        local = 1
        [hidden for hidden in ()]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With a package `tests`, another one in `demo` and modules to import from."""
    for folder in ("tests/parts", "demo/tests", "bench", "src/engine"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tests/__init__.py").touch()
    (tmp_path / "tests/other.py").write_text(textwrap.dedent(OTHER))
    (tmp_path / "tests/parts/piece.py").write_text("from ..other import Thing\nfrom . import piece\n")
    (tmp_path / "tests/starred.py").write_text("from tests.other import *\nfrom tests.parts.piece import *\n")
    (tmp_path / "tests/any.py").write_text("from somewhere_else import *\n")
    (tmp_path / "tests/lazy.py").write_text("def __getattr__(name): return 1\n")
    (tmp_path / "src/src_only.py").write_text("starred = 1\n")
    (tmp_path / "src/engine/__init__.py").write_text("speed = 1\n")
    (tmp_path / "src/engine/wheel.py").touch()
    (tmp_path / "demo/chat.py").write_text("TEXT = ''\n")
    (tmp_path / "demo/tests/sockets.py").write_text("from chat import TEXT\n")
    (tmp_path / "bench/measuring.py").write_text("def report(): ...\n")
    return tmp_path


def offences(repository: Path, source: str, name: str = "tests/test_it.py") -> list[str]:
    (repository / name).write_text(textwrap.dedent(source))
    return list(Repository(repository).offences())


@pytest.mark.parametrize("name", ["os", "Place", "EARLY", "late", "rest", "error", "number", "file", "Thing", "run"])
def test_what_a_module_binds_is_there(repository: Path, name: str) -> None:
    assert offences(repository, f"from tests.other import {name}\nfrom tests.starred import {name} as also\n") == []


@pytest.mark.parametrize("name", ["path", "Path", "local", "inside", "hidden", "gone"])
def test_what_it_does_not_bind_is_an_offence(repository: Path, name: str) -> None:
    assert offences(repository, f"\nfrom tests.other import Thing, {name}\n") == [
        f"tests/test_it.py:2: tests.other has no {name}"
    ]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("import tests.other, tests.parts.piece, engine.wheel", ""),
        ("from tests import other, parts", ""),
        ("from tests.other import *", ""),
        ("from engine import speed, wheel, __name__", ""),
        ("from tests.lazy import whatever", ""),
        ("from tests.any import whatever", ""),
        ("from tests.other import starred", ""),
        ("from chat import TEXT", ""),
        ("import somewhere_else.gone; from django.nowhere import nothing", ""),
        ("import tests.gone", "there is no module tests.gone"),
        ("import engine.gone as gone", "there is no module engine.gone"),
        ("from tests.gone import thing", "there is no module tests.gone"),
        ("from tests import gone", "tests has no gone"),
        ("from engine import gone", "engine has no gone"),
        ("from chat import gone", "chat has no gone"),
        # A test of the demo, which only the demo's own find.
        ("from tests.sockets import TEXT", "there is no module tests.sockets"),
        ("from . import gone", ". has no gone"),
        ("from .other import gone", ".other has no gone"),
        ("from .gone import thing", "there is no module .gone"),
    ],
)
def test_an_import_finds_what_it_names(repository: Path, statement: str, problem: str) -> None:
    expected = [f"tests/test_it.py:1: {problem}"] if problem else []
    assert offences(repository, statement) == expected


def test_imports_within_functions_and_branches_count(repository: Path) -> None:
    source = """
        def test():
            for _ in ():
                try:
                    pass
                except ImportError:
                    with open("x"):
                        from tests.other import gone
        '''
        from tests.other import only_text
        '''
    """
    assert offences(repository, source) == ["tests/test_it.py:8: tests.other has no gone"]


def test_files_of_other_folders_look_in_their_own_places(repository: Path) -> None:
    assert offences(repository, "from measuring import report\nfrom tests.other import Thing", "bench/it.py") == []
    assert offences(repository, "from tests.sockets import TEXT", "demo/tests/test_it.py") == []
    assert offences(repository, "from measuring import gone", "bench/it.py") == ["bench/it.py:1: measuring has no gone"]


def test_what_is_wrong_is_printed(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "tests/test_it.py").write_text("import tests.gone\nfrom tests.other import gone\n")

    assert main(repository) == 1
    assert capsys.readouterr().out.splitlines() == [
        "tests/test_it.py:1: there is no module tests.gone",
        "tests/test_it.py:2: tests.other has no gone",
    ]


@pytest.mark.slow
def test_all_that_is_imported_here_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ROOT) == 0, capsys.readouterr().out


def test_what_was_made_in_hidden_folders_is_not_looked_at(repository: Path) -> None:
    (repository / "bench/.cache").mkdir()
    assert offences(repository, "from measuring import gone", "bench/.cache/module.py") == []
    assert len(offences(repository, "from measuring import gone", "bench/module.py")) == 1
