"""Does everything exist that a test, a benchmark or the demo imports from another module of this repository?

    python -m tests.architecture.imported_names

They are not type-checked, and a name that has gone would be noticed only when all tests are collected. This reads the
files and imports nothing. It prints each name that is not there, and exits with 1 if there is one. What is imported
from elsewhere is not looked at, nor are attributes of modules.
"""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.architecture.sources import ROOT

PATHS = {
    "tests": (".", "src", "demo", "docs/site"),
    "bench": ("bench", "bench/micro", ".", "src"),
    "demo": ("demo", "src"),
}
"""The folders to look at, and where a file in each of them finds modules of the repository."""

EVERY_MODULE = {"__doc__", "__file__", "__name__", "__path__", "__spec__"}


@dataclass
class Names:
    """What a module has at its top level. `all`: what that is cannot be told."""

    names: set[str] = field(default_factory=set)
    all: bool = False

    def __contains__(self, name: str) -> bool:
        return self.all or name in self.names or name in EVERY_MODULE


class Repository:
    """The modules of a repository, read when they are needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trees: dict[Path, ast.Module] = {}
        self._names: dict[Path, Names] = {}

    def offences(self) -> Iterator[str]:
        """A line for each import that does not find what it names."""
        for folder in PATHS:
            for path in self._files(folder):
                for node in _statements(self._tree(path).body):
                    for problem in self._problems(node, path):
                        yield f"{path.relative_to(self.root)}:{node.lineno}: {problem}"

    def _files(self, folder: str) -> list[Path]:
        # Folders whose names begin with a dot hold what was made or downloaded, such as environments of benchmarks.
        return [
            path
            for path in sorted((self.root / folder).rglob("*.py"))
            if not any(part.startswith(".") for part in path.relative_to(self.root).parts)
        ]

    def _problems(self, node: ast.stmt, path: Path) -> Iterator[str]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if self._is_missing(alias.name, self._search(path)):
                    yield f"there is no module {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            search = self._search(path, node.level)
            name, places = "." * node.level + (node.module or ""), _places(node.module or "", search)
            if not places and (node.level or self._is_missing(node.module or "", search)):
                yield f"there is no module {name}"
            for alias in node.names:
                if places and not any(self._has(place, alias.name) for place in places):
                    yield f"{name} has no {alias.name}"

    def _search(self, path: Path, level: int = 0) -> tuple[Path, ...]:
        """Where a file finds modules; with a level, those that it names by so many dots."""
        if level:
            return (path.parents[level - 1],)
        own = path.relative_to(self.root).parts[0]
        return tuple(self.root / one for one in PATHS.get(own, ("src",)))

    def _is_missing(self, module: str, search: tuple[Path, ...]) -> bool:
        """Whether a module's first package is here, and the module is not."""
        return bool(_places(module.partition(".")[0], search)) and not _places(module, search)

    def _has(self, place: Path, name: str) -> bool:
        if name == "*" or name in self._names_in(place):
            return True
        return place.is_dir() and bool(_places(name, (place,)))

    def _names_in(self, place: Path) -> Names:
        path = place / "__init__.py" if place.is_dir() else place
        if path not in self._names:
            names = self._names[path] = Names()
            if path.is_file():
                for node in _at_top_level(self._tree(path).body):
                    self._add(names, node, path)
        return self._names[path]

    def _add(self, names: Names, node: ast.AST, path: Path) -> None:
        """Add what a statement binds."""
        match node:
            case ast.FunctionDef(name="__getattr__"):
                names.all = True
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.names.add(node.name)
            case ast.ImportFrom() if any(alias.name == "*" for alias in node.names):
                self._add_star(names, node, path)
            case ast.Import() | ast.ImportFrom():
                names.names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            case ast.Name(ctx=ast.Store()):
                names.names.add(node.id)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.names.add(name)

    def _add_star(self, names: Names, node: ast.ImportFrom, path: Path) -> None:
        places = _places(node.module or "", self._search(path, node.level))
        names.all = names.all or not places
        for place in places:
            others = self._names_in(place)
            names.names |= others.names
            names.all = names.all or others.all

    def _tree(self, path: Path) -> ast.Module:
        if path not in self._trees:
            self._trees[path] = ast.parse(path.read_text("utf-8"), str(path))
        return self._trees[path]


@cache
def _places(module: str, search: tuple[Path, ...]) -> list[Path]:
    """The files and folders that may be this module. A folder without an `__init__.py` is a part of a package."""
    found = []
    parts = module.split(".") if module else []
    for base in search:
        place = base.joinpath(*parts)
        if place.is_dir():
            found.append(place)
        elif (file := place.with_name(f"{place.name}.py")).is_file():
            found.append(file)
        if parts and (base / parts[0] / "__init__.py").is_file():
            break  # the whole package is here
    return found


def _statements(body: Sequence[ast.AST]) -> Iterator[ast.stmt]:
    """All statements, and those within them. Nothing is imported in an expression."""
    unseen = list(body)
    while unseen:
        node = unseen.pop()
        if isinstance(node, ast.stmt):
            yield node
        for name in ("body", "orelse", "handlers", "finalbody", "cases"):
            unseen += getattr(node, name, ()) if isinstance(node, _HOLDERS) else ()


_HOLDERS = ast.stmt | ast.ExceptHandler | ast.match_case


def _at_top_level(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All nodes but those inside functions, classes and expressions with names of their own."""
    apart = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.comprehension
    unseen = list(body)
    while unseen:
        node = unseen.pop()
        yield node
        if not isinstance(node, apart):
            unseen += ast.iter_child_nodes(node)


def main(root: Path = ROOT) -> int:
    found = sorted(Repository(root).offences())
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    gc.disable()  # which would look at all trees again and again
    sys.exit(main())
