"""The import rules of the code base: who may know whom. A rule that is broken names the file and the import."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from tests.architecture.sources import SRC, dotted, imports, modules, tree_of, within

STDLIB = sys.stdlib_module_names


def offences(paths: list[Path], allowed: tuple[str, ...], forbidden: tuple[str, ...] = ()) -> list[str]:
    """Imports that are neither of the standard library nor allowed, or that are forbidden by name."""
    found = []
    for path in paths:
        for line, name in imports(path):
            top = name.partition(".")[0]
            is_version = name in ("fairway", "fairway.__version__")
            if within(name, *forbidden) or not (is_version or top in STDLIB or within(name, *allowed)):
                found.append(f"{path.relative_to(SRC)}:{line} imports {name}")
    return found


def test_protocols_are_pure() -> None:
    """Standard library, themselves, and the wire library that a folder wraps; no clock, chance, logging or loop."""
    wire_libraries = {"websocket": ("websockets.speedups", "websockets")}
    for folder in (SRC / "fairway/protocols").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            allowed = ("fairway.protocols", *wire_libraries.get(folder.name, ()))
            impure = ("asyncio", "time", "random", "logging", "socket", "threading", "secrets")
            assert offences(modules(f"fairway/protocols/{folder.name}"), allowed, impure) == []


@pytest.mark.slow
def test_the_wire_library_is_imported_in_one_place() -> None:
    users = {
        dotted(path)
        for path in modules("fairway", "channels")
        for _, name in imports(path)
        if within(name, "websockets")
    }

    assert users == {"fairway.protocols.websocket.masking"}


def test_what_all_others_stand_on_knows_only_the_standard_library() -> None:
    ground = [
        SRC / f"fairway/{name}.py"
        for name in ("asgi/calling", "whereabouts", "running", "departure", "logs", "json_lines")
    ]
    allowed = ("fairway.delivery", "fairway.asgi.types", "fairway.whereabouts", "fairway.running", "fairway.logs")

    assert offences([*modules("fairway/delivery"), *ground], allowed) == []


def test_the_server_knows_no_framework() -> None:
    ground = ("fairway.whereabouts", "fairway.running", "fairway.departure", "fairway.logs", "fairway.json_lines")
    engine = ("fairway.protocols", "fairway.delivery", "fairway.asgi", "fairway.timing", "fairway.server")

    # Extras for development, each in its one place.
    certificates, reloading = SRC / "fairway/server/tls/dev.py", SRC / "fairway/server/workers/reloading.py"
    others = [path for path in modules("fairway/server") if path not in (certificates, reloading)]

    assert offences(others, (*engine, *ground, "uvloop")) == []
    assert offences([certificates], (*engine, *ground, "trustme")) == []
    assert offences([reloading], (*engine, *ground, "watchfiles")) == []


def test_the_asgi_conversation_knows_no_server() -> None:
    ground = ("fairway.running", "fairway.logs", "fairway.whereabouts")
    own = ("fairway.asgi", "fairway.delivery", "fairway.protocols.http")

    assert offences(modules("fairway/asgi"), (*own, *ground)) == []


def test_timing_knows_nobody() -> None:
    assert offences(modules("fairway/timing"), ("fairway.timing",)) == []


def test_layers_know_no_server() -> None:
    own = ("fairway.delivery", "fairway.layers", "fairway.logs", "fairway.timing.source")
    # What synchronous code calls is about Django's transactions, and reaches layers of whatever make.
    synchronous = SRC / "fairway/layers/sync.py"
    # Packages that are optional, each in its one place.
    codec, redis = SRC / "fairway/layers/codec.py", modules("fairway/layers/redis")
    encryption = SRC / "fairway/layers/encryption.py"
    # Which project this is, its settings know.
    project = SRC / "fairway/layers/local/project.py"
    # A process of its own, with its event loop.
    broker = SRC / "fairway/layers/local/__main__.py"
    special = (synchronous, codec, encryption, project, broker, *redis)
    others = [path for path in modules("fairway/layers") if path not in special]

    assert offences(others, own) == []
    assert offences([codec], (*own, "ormsgpack")) == []
    assert offences([encryption], (*own, "cryptography")) == []
    assert offences([project], (*own, "django.conf")) == []
    assert offences([broker], (*own, "uvloop")) == []
    assert offences(redis, (*own, "hiredis", "redis.connection")) == []
    assert offences([synchronous], (*own, "django", "channels"), ("channels.testing", "channels.management")) == []


def test_what_consumers_are_made_of_knows_no_framework_and_no_server() -> None:
    # What threads leave behind is about the way in which `asgiref` runs them.
    asgi = ("fairway.asgi.calling", "fairway.asgi.types")
    own = ("fairway.consumers", *asgi, "fairway.delivery", "fairway.layers", "fairway.logs")

    assert offences(modules("fairway/consumers"), (*own, "asgiref.sync"), ("fairway.layers.sync",)) == []


def test_rooms_know_no_framework_and_no_server() -> None:
    ground = ("fairway.delivery", "fairway.logs", "fairway.timing.source")
    own = ("fairway.rooms", "fairway.consumers", "fairway.layers", *ground)

    assert offences(modules("fairway/rooms"), (*own, "asgiref.sync"), ("fairway.layers.sync",)) == []
    assert offences([SRC / f"fairway/rooms/{name}.py" for name in ("steps", "election", "restarts")], ()) == []


def test_the_framework_starts_servers_only_in_runserver_and_testing_and_lazily() -> None:
    may_start = ("channels.management.commands.runserver", "channels.testing")
    # `fairway.settings` judges settings, `fairway.doctor` the installation, for the system checks; they start nothing.
    may_know = (
        "fairway.consumers",
        "fairway.delivery",
        "fairway.asgi.calling",
        "fairway.asgi.types",
        "fairway.layers",
        "fairway.doctor",
        "fairway.leftovers",
        "fairway.logs",
        "fairway.settings",
        # A worker and a command have a loop and an end of their own, without a server.
        "fairway.running",
        "fairway.departure",
        "fairway.standard_streams",
        "fairway.whereabouts",
        # Whose clock an application goes by that a test runs.
        "fairway.timing.source",
    )
    found = []
    for path in modules("channels"):
        lazily = {line for line, _ in imports(path)} - {line for line, _ in imports(path, top_level_only=True)}
        for line, name in imports(path, at_run_time_only=True):
            starts = within(name, "fairway") and not within(name, *may_know)
            if starts and not (within(dotted(path), *may_start) and line in lazily):
                found.append(f"{path.relative_to(SRC)}:{line} imports {name}")

    assert found == []


def test_django_is_imported_in_the_engine_only_where_a_feature_is_about_django() -> None:
    users = {dotted(path) for path in modules("fairway") for _, name in imports(path) if within(name, "django")}

    assert users <= {
        "fairway.before_fork",
        "fairway.layers.local.project",
        "fairway.layers.sync",
        "fairway.leftovers",
        "fairway.testing.isolation",
        "fairway.testing.pytest",
        "fairway.testing.runner",
    }


def test_the_engine_does_not_know_the_framework() -> None:
    """But for what stands on it: the consumers of `fairway.generic`, the layer for synchronous code, and what tests of
    applications use.
    """
    users = {dotted(path) for path in modules("fairway") for _, name in imports(path) if within(name, "channels")}
    tools = ("fairway.testing.sent", "fairway.testing.pytest", "fairway.testing.reconnecting")
    standing_on_it = ("fairway.generic", "fairway.layers.sync", *tools)

    assert [user for user in users if not within(user, *standing_on_it)] == []


def test_nobody_imports_the_consumers_of_the_engine() -> None:
    """They stand on top: who imported them would bring the framework into the engine, or a cycle into the framework."""
    users = {
        dotted(path)
        for path in modules("fairway", "channels")
        for _, name in imports(path)
        if within(name, "fairway.generic") and not within(dotted(path), "fairway.generic")
    }

    assert users == set()


def test_there_are_no_import_cycles() -> None:
    """Imports that only a type checker sees count: a circle of knowledge is one, however it is imported."""
    known = {dotted(path) for path in modules("channels", "fairway")}
    graph: dict[str, set[str]] = {}
    for path in modules("channels", "fairway"):
        module = dotted(path)
        targets = {name for _, name in imports(path)} & known
        # A package that a submodule imports from is counted by the names it takes, not by the package.
        graph[module] = {target for target in targets if target != module and not within(module, target)}
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        if module in trail:
            pytest.fail("import cycle: " + " -> ".join((*trail[trail.index(module) :], module)))
        if module not in finished:
            for target in sorted(graph[module]):
                visit(target, (*trail, module))
            finished.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("package", ["channels", "fairway"])
def test_every_module_says_what_it_is(package: str) -> None:
    silent = [
        str(path.relative_to(SRC))
        for path in modules(package)
        if path.stat().st_size and not ast.get_docstring(tree_of(path))
    ]

    assert silent == []
