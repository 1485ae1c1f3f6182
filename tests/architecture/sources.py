"""The source files of the project, parsed: what the rules are checked on."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"


def modules(*packages: str) -> list[Path]:
    """All modules below these folders of `src`, or these modules."""
    found = [path for package in packages for path in sorted((SRC / package).rglob("*.py"))]
    found += [SRC / name for name in packages if name.endswith(".py")]
    assert found, f"no modules in {packages}"
    return found


def dotted(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports(path: Path, *, top_level_only: bool = False, at_run_time_only: bool = False) -> list[tuple[int, str]]:
    """The dotted names that a module imports, with their lines; `from a import b` counts as `a.b` too.

    Imports that only a type checker sees count like all others, unless `at_run_time_only`.
    """
    found: list[tuple[int, str]] = []
    unseen: list[ast.AST] = [tree_of(path)]
    while unseen:
        node = unseen.pop()
        is_guard = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (at_run_time_only and is_guard) or (top_level_only and is_function):
            continue
        if isinstance(node, ast.Import):
            found += ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            found.append((node.lineno, node.module or ""))
            found += ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        unseen += ast.iter_child_nodes(node)
    return found


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)
