"""Figures of the source: how large its parts are, how much they say, how far they reach into each other.

    python -m tests.architecture.figures [SRC]

SRC is `src` by default; give that of another checkout to compare. *Logic lines* are lines without blanks, comments and
docstrings. *Private reach* counts attributes with an underscore that are read or set on anything but `self`, `cls`, and
the names of classes and modules: a table of a class's own methods reaches into nothing.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.sources import SRC

HARD = (
    "decoder.py",
    "wire.py",
    "websocket.py",
    "connection.py",
    "batch.py",
    "sweep.py",
    "outbox.py",
    "inbox.py",
    "loop.py",
    "consumer.py",
)
"""Names of the files in which a reader needs the most help, where they exist."""


@dataclass
class Module:
    path: Path
    tree: ast.Module
    lines: int
    logic: int
    comments: int
    docstrings: int

    @classmethod
    def of(cls, path: Path) -> Module:
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        comments: set[int] = set()
        code: set[int] = set()
        skipped = (
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENCODING,
            tokenize.ENDMARKER,
        )
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                comments.add(token.start[0])
            elif token.type not in skipped:
                code.update(range(token.start[0], token.end[0] + 1))
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        docstrings: set[int] = set()
        for node in ast.walk(tree):
            for statement in getattr(node, "body", ()) if isinstance(node, documented) else ():
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    docstrings.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
        logic = code - docstrings
        return cls(path, tree, text.count("\n"), len(logic), len(comments - logic), len(docstrings))


def classes(modules: list[Module]) -> list[tuple[int, str]]:
    """Methods of each class, its own only, the most first."""
    found = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                count = sum(isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) for one in node.body)
                found.append((count, f"{node.name} ({module.path.name})"))
    return sorted(found, reverse=True)


def private_reach(module: Module) -> int:
    count = 0
    names = {"self", "cls"}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import):
            names |= {(one.asname or one.name).partition(".")[0] for one in node.names}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value
            is_own = isinstance(owner, ast.Name) and owner.id in names
            is_super = isinstance(owner, ast.Call) and ast.unparse(owner.func) == "super"
            count += not (is_own or is_super)
    return count


def longest_function(modules: list[Module]) -> tuple[int, str]:
    return max(
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{node.name} ({module.path.name})")
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def main() -> None:
    source = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else SRC
    modules = [Module.of(path) for name in ("channels", "fairway") for path in sorted((source / name).rglob("*.py"))]
    logic = sum(module.logic for module in modules)
    reach = {
        name: sum(private_reach(m) for m in modules if m.path.is_relative_to(source / name))
        for name in ("fairway", "channels")
    }
    length, name = longest_function(modules)
    print(f"modules {len(modules)}, lines {sum(module.lines for module in modules):,}, logic lines {logic:,}")
    print("largest classes (own methods):", ", ".join(f"{name} {count}" for count, name in classes(modules)[:4]))
    longest = sorted(modules, key=lambda module: module.lines, reverse=True)[:4]
    print("longest modules:", ", ".join(f"{m.path.relative_to(source)} {m.lines}" for m in longest))
    print(f"longest function: {name} {length} lines")
    print("private attributes of other objects:", ", ".join(f"{name} {count}" for name, count in reach.items()))
    print("comment and docstring lines per logic line:")
    for module in modules:
        if module.path.name in HARD and module.logic > 60:
            where = module.path.relative_to(source)
            print(f"  {where!s:<44}{module.comments / module.logic:5.2f}{module.docstrings / module.logic:6.2f}")


if __name__ == "__main__":
    main()
