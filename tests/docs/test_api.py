"""The API reference has every public name of `channels`, and every name of `fairway` that a page or an example uses.

What is in it is what autodoc shows: the documented members of the modules and classes that docs/site/api/ names.
"""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT

DIRECTIVES = [
    found
    for page in sorted((ROOT / "docs/site/api").glob("*.md"))
    for found in re.findall(
        r"^\.\. auto(module|class|function):: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE
    )
]
MODULES = {name for kind, name in DIRECTIVES if kind == "module"}
SINGLE = {name for kind, name in DIRECTIVES if kind != "module"}

NAMES = tomllib.loads((ROOT / "tests/compat/names.toml").read_text(encoding="utf-8"))
COMPATIBILITY = (ROOT / "docs/ref/compatibility.md").read_text(encoding="utf-8")
ABSENT = {
    "channels.auth._get_user_session_key",  # private
    "channels.db.close_old_connections",  # Django's
    "channels.testing.live.DaphneProcess",  # another name of fairway.testing.ServerProcess
}

IMPORT = re.compile(r"from (fairway[\w.]*) import (?:([\w, ]+)|\(([^)]*)\))")
LOGGERS = {"fairway.access", "fairway.server", "fairway.layers", "fairway.delivery"}
OTHER = {
    "fairway.md",  # a page
    "fairway.forwarded",  # a key of messages
    "fairway.__version__",
    "fairway.server.Config",  # the short name of fairway.server.config.Config
    "fairway.delivery.statistics.detours",  # an attribute of an instance of Statistics
}


def found(name: str) -> Any:
    """The object of a dotted name; raises LookupError if there is none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            at: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(at, part):
                break
            at = getattr(at, part)
        else:
            return at
    raise LookupError(name)


def is_shown(name: str) -> bool:
    """Whether the reference has this name, or the class or base class that has it."""
    if name in MODULES | SINGLE:
        return True
    owner, _, last = name.rpartition(".")
    if owner in MODULES:
        module, value = importlib.import_module(owner), found(name)
        is_own = getattr(value, "__module__", owner) == owner or last in getattr(module, "__all__", ())
        return is_own and bool(inspect.getdoc(value))
    if not owner:
        return False
    holder = found(owner)
    if not inspect.isclass(holder):
        return is_shown(owner)
    bases = [base for base in holder.__mro__ if last in vars(base)]
    places = [owner, *(f"{base.__module__}.{base.__qualname__}" for base in bases)]
    return any(is_shown(place) for place in places) and bool(inspect.getdoc(found(name)))


def public_names_of_channels() -> Iterator[str]:
    for module, names in NAMES.items():
        if module != "channels" and not module.startswith("channels."):
            continue
        for name, kind in names.items():
            is_callable = not kind.startswith(("value", "instance"))
            if is_callable and "__" not in name and f"{module}.{name}" not in ABSENT:
                yield f"{module}.{name}"


def names_of_fairway_on_pages() -> dict[str, set[str]]:
    """Dotted names of `fairway`, by the pages and examples that use them."""
    pages = [
        *ROOT.glob("README*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("demo/*.md"),
        *ROOT.glob("compat/**/*.md"),
    ]
    users = [path for path in pages if not path.is_relative_to(ROOT / "docs/internals") and path.parent.name != "api"]
    users += [path for folder in ("examples", "demo") for path in ROOT.glob(f"{folder}/**/*.py")]
    named: dict[str, set[str]] = {}
    for path in users:
        text = path.read_text(encoding="utf-8")
        found = set(re.findall(r"\bfairway(?:\.[A-Za-z_]\w*)+", text))
        for module, names, in_brackets in IMPORT.findall(text):
            found |= {f"{module}.{name}" for name in re.findall(r"\w+", names or in_brackets)}
        for name in found - LOGGERS - OTHER:
            named.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return named


@pytest.mark.parametrize("name", sorted(MODULES | SINGLE))
def test_the_reference_names_what_there_is(name: str) -> None:
    assert inspect.getdoc(found(name)), name


def test_every_public_name_of_channels_is_in_the_reference() -> None:
    names = [name for name in public_names_of_channels() if is_there(name)]
    assert len(names) > 150
    assert [name for name in names if not is_shown(name)] == []


def is_there(name: str) -> bool:
    try:
        found(name)
    except LookupError:
        return False
    return True


def test_every_name_of_fairway_that_a_page_or_an_example_uses_is_in_the_reference() -> None:
    named = names_of_fairway_on_pages()
    assert {"fairway.AsyncGroupsMixin", "fairway.layers.sync.group_send"} <= set(named)
    assert {name: sorted(users) for name, users in named.items() if not is_there(name) or not is_shown(name)} == {}


@pytest.mark.parametrize("name", ["fairway.layers.hub.Hub", "channels.consumer.ConsumerApplication.nothing"])
def test_what_is_not_in_the_reference_is_told_apart(name: str) -> None:
    assert not is_there(name) or not is_shown(name)


def test_the_pages_of_the_reference_are_two() -> None:
    assert sorted(path.name for path in Path(ROOT / "docs/site/api").glob("*.md")) == ["channels.md", "fairway.md"]
