"""How large a class may be, and what belongs to a module: a page for its folder, a test file of its name.

Each list of exceptions may only shrink: an entry that is not needed any more fails, too.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.architecture.sources import ROOT, SRC, dotted, imports, modules, tree_of, within

MOST_METHODS = 25
MOST_ATTRIBUTES = 15
LONGEST_WITHOUT_TESTS = 150

# Classes beyond the bound: methods and attributes that they may have. Those of `channels` have what Channels documents;
# the connections carry an exchange, and count with it and with what they derive from. A layer has what Channels
# documents, broadcasts and histories.
LARGE_CLASSES: dict[str, tuple[int, int]] = {
    "channels.consumer.AsyncConsumer": (22, 16),
    "channels.consumer.SyncConsumer": (22, 17),
    "channels.generic.http.AsyncHttpConsumer": (35, 21),
    "channels.generic.websocket.AsyncJsonWebsocketConsumer": (39, 17),
    "channels.generic.websocket.AsyncWebsocketConsumer": (34, 17),
    "channels.generic.websocket.JsonWebsocketConsumer": (39, 18),
    "channels.generic.websocket.WebsocketConsumer": (34, 18),
    "channels.layers.InMemoryChannelLayer": (29, 14),
    "channels.security.websocket.WebsocketDenier": (34, 17),
    "fairway.asgi.http.HttpExchange": (28, 23),
    "fairway.asgi.websocket.WebSocketExchange": (35, 10),
    "fairway.layers.layer.BackplaneLayer": (27, 15),
    "fairway.layers.local.layer.LocalChannelLayer": (27, 16),
    "fairway.layers.redis.layer.RedisChannelLayer": (27, 16),
    "fairway.generic.sse.ServerSentEventsConsumer": (49, 31),
    "fairway.server.context.ServerContext": (23, 29),
    "fairway.server.http1.connection.Http1Connection": (42, 15),
    "fairway.server.http2.stream.StreamExchange": (28, 24),
    "fairway.server.http2.wire.StreamWire": (38, 15),  # a `Wire`, and no more than that
    "fairway.server.limits.Limits": (4, 65),
    "fairway.server.websocket.connection.WebSocketConnection": (63, 13),
    "fairway.server.websocket.metered.MeteredConnection": (66, 15),
    "fairway.server.wire.Wire": (38, 15),
}

# Modules that are tested under another name, and where.
TESTED_ELSEWHERE: dict[str, str] = {
    "fairway.testing.backplane_contract": "tests/contracts/test_backplanes.py",
    "fairway.testing.in_process": "tests/contracts/test_backplanes.py",
    "fairway.testing.presence_contract": "tests/contracts/test_backplanes.py",
    "fairway.layers.audiences": "tests/fairway/layers/test_attendance.py",
    "fairway.testing.streams_contract": "tests/contracts/test_backplanes.py",
    "fairway.layers.redis.functions": "tests/fairway/layers/redis/test_streams.py",
    "fairway.layers.node": "tests/fairway/layers/test_layer.py",
    "fairway.layers.redis.scripts": "tests/contracts/test_backplanes.py",
    "fairway.layers.registrar": "tests/fairway/layers/test_shared_reach.py",
    "fairway.server.listener": "tests/integration/test_server.py",
}


def classes() -> dict[str, tuple[Path, ast.ClassDef]]:
    """By their names with that of the module."""
    return {
        f"{dotted(path)}.{node.name}": (path, node)
        for path in modules("channels", "fairway")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
    }


def own_members(node: ast.ClassDef) -> tuple[set[str], set[str]]:
    """Methods and attributes that a class adds: annotated, assigned, in its slots, or set on `self`."""
    methods: set[str] = set()
    attributes: set[str] = set()
    if any(ast.unparse(base).endswith("Enum") for base in node.bases):
        return methods, attributes  # its members are a table
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            methods.add(statement.name)
            attributes |= {
                target.attr
                for target in ast.walk(statement)
                if isinstance(target, ast.Attribute)
                and isinstance(target.ctx, ast.Store)
                and isinstance(target.value, ast.Name)
                and target.value.id == "self"
            }
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            attributes.add(statement.target.id)
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name) and target.id == "__slots__":
                    attributes |= {str(one.value) for one in ast.walk(statement.value) if isinstance(one, ast.Constant)}
                elif isinstance(target, ast.Name):
                    attributes.add(target.id)
    return methods, attributes


def bases(name: str, known: dict[str, tuple[Path, ast.ClassDef]]) -> set[str]:
    """Those of our own classes that a class names as its bases."""
    path, node = known[name]
    found = set()
    for base in node.bases:
        last = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        # In the module itself, else from where it is imported; a package may have it from one of its modules.
        imported = [one for _, one in imports(path) if one.endswith(f".{last}")]
        of_packages = [one for one in known if one.endswith(f".{last}") and within(one, *map(package_of, imported))]
        here = f"{dotted(path)}.{last}"
        found |= (
            {here} if here in known and here != name else {one for one in imported if one in known} or {*of_packages}
        )
    return found


def package_of(name: str) -> str:
    return name.rpartition(".")[0]


def members(name: str, known: dict[str, tuple[Path, ast.ClassDef]]) -> tuple[set[str], set[str]]:
    """Those of a class, with what it inherits from our own classes."""
    methods, attributes = own_members(known[name][1])
    for base in bases(name, known):
        more_methods, more_attributes = members(base, known)
        methods |= more_methods
        attributes |= more_attributes
    return methods, attributes - methods


@pytest.mark.slow
def test_no_class_is_larger_than_it_has_to_be() -> None:
    known = classes()
    large = {}
    for name in known:
        methods, attributes = members(name, known)
        if len(methods) > MOST_METHODS or len(attributes) > MOST_ATTRIBUTES:
            large[name] = (len(methods), len(attributes))

    grown = {
        name: size
        for name, size in large.items()
        if any(found > most for found, most in zip(size, LARGE_CLASSES.get(name, (0, 0)), strict=True))
    }
    assert grown == {}
    assert LARGE_CLASSES.keys() - large.keys() == set(), "small enough now: take it off the list"


def test_a_long_module_has_a_test_file_of_its_name() -> None:
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    untested = {
        dotted(path)
        for path in modules("channels", "fairway")
        if len(path.read_text("utf-8").splitlines()) > LONGEST_WITHOUT_TESTS and f"test_{path.stem}" not in files
    }

    assert untested - TESTED_ELSEWHERE.keys() == set()
    assert TESTED_ELSEWHERE.keys() - untested == set(), "it has a test file now: take it off the list"


def test_every_folder_of_the_engine_has_a_page() -> None:
    folders = {path.parent for path in modules("fairway")}

    assert sorted(str(folder.relative_to(SRC)) for folder in folders if not (folder / "README.md").is_file()) == []
