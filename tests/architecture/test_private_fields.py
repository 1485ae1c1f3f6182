"""What tests may look at: those that use whole connections ask by what is public."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.architecture.sources import ROOT

MODULES = {"asyncio", "os", "sys"}
"""What begins with an underscore there is documented."""


def private_looks(path: Path) -> list[str]:
    """Attributes with an underscore that are read or set on anything but the test's own objects."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls", *MODULES})
        and ast.unparse(node.value) != "super()"
    ]


@pytest.mark.parametrize("folder", ["integration", "contracts"])
def test_tests_of_whole_connections_look_at_nothing_private(folder: str) -> None:
    paths = sorted((ROOT / "tests" / folder).rglob("*.py"))

    assert paths
    assert [look for path in paths for look in private_looks(path)] == []
