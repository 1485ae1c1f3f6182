"""The stub package `types-channels`, as pip installs it: not into the environment, where it would take the place of our
own annotations, but into pytest's cache.
"""

from __future__ import annotations

import ast
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REQUIREMENT = "types-channels==4.3.0.20260518"


def install(config: pytest.Config) -> Path:
    """The folder with the stubs in it. Downloads them if they are not in the cache."""
    assert config.cache is not None
    folder = config.cache.mkdir(REQUIREMENT.replace("==", "-"))
    # Two workers of one test run may want them at once.
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "channels-stubs" / "py.typed").exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
            subprocess.run([*pip, REQUIREMENT], check=True, timeout=120)
    return folder / "channels-stubs"


def public_names(stubs: Path) -> Iterator[tuple[str, str]]:
    """The modules of the stubs, each with the names, and `Class.attribute`s, that it defines without an underscore."""
    for path in sorted(stubs.rglob("*.pyi")):
        module = ".".join(("channels", *path.relative_to(stubs).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.parse(path.read_text()).body:
            for name in _defined(node):
                yield module, name
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                inside = (name for inner in node.body for name in _defined(inner))
                yield from ((module, f"{node.name}.{name}") for name in dict.fromkeys(inside))


def _defined(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            names = [name]
        case ast.AnnAssign(target=ast.Name(id=name)):
            names = [name]
        case ast.Assign(targets=[ast.Name(id=name)]):
            names = [name]
        case _:
            names = []
    yield from (name for name in names if not name.startswith("_"))
