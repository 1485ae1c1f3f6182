"""Every public name of Channels, channels_redis and Daphne: accounted for on the page, and here if the page says so.

`names.toml` says what there is, `docs/ref/compatibility.md` what becomes of it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.management import call_command, load_command_class

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from channels.generic.http import AsyncHttpConsumer
from channels.layers import BaseChannelLayer, ChannelLayerManager, InMemoryChannelLayer
from channels.management.commands import runworker
from channels.middleware import BaseMiddleware
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from channels.sessions import CookieMiddleware, InstanceSessionWrapper, SessionMiddleware
from channels.testing import (
    ApplicationCommunicator,
    ChannelsLiveServerTestCase,
    HttpCommunicator,
    WebsocketCommunicator,
)
from channels.worker import Worker
from tests.compat import stubs

ROOT = Path(__file__).parents[2]
NAMES: dict[str, dict[str, str]] = tomllib.loads((Path(__file__).parent / "names.toml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/ref/compatibility.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "docs/ref/compatibility.zh-CN.md").read_text(encoding="utf-8")

STATUSES = {"same": "相同", "better": "更好", "different": "不同", "absent": "没有"}


class Entry(NamedTuple):
    """A name on the page."""

    table: str
    name: str
    status: str
    note: str


def entries() -> Iterator[Entry]:
    """The rows of the page, one entry for each name; `.attribute` belongs to the class before it."""
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        owner = ""
        for cell, status, note in re.findall(r"^\| (`.+?) \| (\w+) \|(.*)\|$", text, re.MULTILINE):
            for name in re.findall(r"`([^`]+)`", cell):
                if not name.startswith("."):
                    owner = name
                yield Entry(heading.strip("`"), owner + name if name.startswith(".") else name, status, note.strip())


ENTRIES = list(entries())
OURS = [entry for entry in ENTRIES if entry.table.partition(".")[0] == "channels" and entry.status != "absent"]
assert OURS


def kind_of(entry: Entry) -> str:
    return NAMES[entry.table][entry.name]


# The page and the list.


def test_every_name_is_on_the_page_once_and_nothing_else_is():
    listed = [(table, name) for table, names in NAMES.items() if table != "Defects" for name in names]

    assert sorted((entry.table, entry.name) for entry in ENTRIES) == sorted(listed)


def test_every_status_is_one_of_four_and_explained_where_it_has_to_be():
    assert {entry.status for entry in ENTRIES} <= STATUSES.keys()
    assert [entry for entry in ENTRIES if entry.status != "same" and not entry.note] == []


def defects(page: str) -> list[tuple[str, str]]:
    """The rows of a page's last table."""
    return re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page.rpartition("\n## ")[2], re.MULTILINE)[1:]


def test_every_defect_is_on_the_page():
    assert [defect for defect, _ in defects(PAGE)] == list(NAMES["Defects"])


def test_the_chinese_page_says_the_same_of_every_name_and_defect():
    def rows(page: str) -> list[tuple[str, str, bool]]:
        found = re.findall(r"^\| (`.+?) \| (\w+) \|(.*)\|$", page, re.MULTILINE)
        return [(names, status, bool(note.strip())) for names, status, note in found]

    assert rows(CHINESE) == [(names, STATUSES[status], noted) for names, status, noted in rows(PAGE)]
    assert len(defects(CHINESE)) == len(defects(PAGE)) == len(NAMES["Defects"])


@pytest.mark.slow
def test_every_public_name_of_the_stubs_is_listed(pytestconfig: pytest.Config):
    named = list(stubs.public_names(stubs.install(pytestconfig)))

    # They narrow its type; it is listed with the class that has it.
    named.remove(("channels.generic.http", "AsyncHttpConsumer.scope"))
    assert [(module, name) for module, name in named if name not in NAMES[module]] == []
    assert len(named) > 150


# What the page claims of `channels`.


def resolve(entry: Entry) -> Any:
    found: Any = importlib.import_module(entry.table)
    for name in entry.name.split("."):
        found = getattr(found, name)
    return found


def parameters(text: str) -> list[inspect.Parameter]:
    namespace: dict[str, Any] = {}
    exec(f"def function{text}: ...", namespace)
    return list(inspect.signature(namespace["function"]).parameters.values())


def own_parameters(entry: Entry, found: Any) -> list[inspect.Parameter]:
    """Those of a function, or of a method or constructor without its `self`."""
    own = list(inspect.signature(found).parameters.values())
    is_method = "." in entry.name and not inspect.ismethod(found)
    return own[1:] if is_method else own


def misfits(stated: list[inspect.Parameter], own: list[inspect.Parameter]) -> list[str]:
    """Why calls that fit the stated signature would not fit our own, which may have further optional parameters."""
    ours = {parameter.name: parameter for parameter in own}
    wrong = []
    for position, parameter in enumerate(stated):
        mine = ours.pop(parameter.name, None)
        if mine is None:
            wrong.append(f"{parameter} is missing")
        elif (mine.kind, mine.default) != (parameter.kind, parameter.default):
            wrong.append(f"{parameter} is {mine}")
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD and own[position].name != parameter.name:
            wrong.append(f"{parameter} is in another place")
    needed = [left for left in ours.values() if left.default is left.empty and left.kind not in (2, 4)]
    return wrong + [f"{parameter} is not optional" for parameter in needed]


CALLABLES = [entry for entry in OURS if re.match(r"(async )?\(|class \(", kind_of(entry))]
CLASSES = [entry for entry in OURS if kind_of(entry).startswith(("class", "exception"))]
VALUES = [entry for entry in OURS if kind_of(entry).startswith("value")]
INSTANCES = [entry for entry in OURS if kind_of(entry) == "instance"]


def identify(entry: Entry) -> str:
    return f"{entry.table}:{entry.name}"


@pytest.mark.parametrize("entry", CALLABLES, ids=identify)
def test_it_can_be_called_as_stated(entry: Entry):
    found, kind = resolve(entry), kind_of(entry)

    assert misfits(parameters(kind[kind.index("(") :]), own_parameters(entry, found)) == []
    if not inspect.isclass(found):
        # What `database_sync_to_async` decorates is, on a class, a partial call of it.
        function = found.func if isinstance(found, functools.partial) else found
        assert iscoroutinefunction(function) is kind.startswith("async ")


@pytest.mark.parametrize("entry", CLASSES, ids=identify)
def test_it_is_a_class(entry: Entry):
    found = resolve(entry)

    assert inspect.isclass(found)
    if base := re.fullmatch(r"exception \((\w+)\)", kind_of(entry)):
        assert base[1] in [parent.__name__ for parent in found.__mro__[1:]]


@pytest.mark.parametrize("entry", VALUES, ids=identify)
def test_it_has_the_value(entry: Entry):
    found = resolve(entry)

    _, equals, value = kind_of(entry).partition(" = ")
    assert not equals or repr(found) == value


# Attributes of instances are looked for on instances, in the middle of their work where that is what makes them.


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Ends at once."""


async def served() -> AsyncConsumer:
    consumers: list[AsyncConsumer] = []

    class Served(AsyncConsumer):
        async def websocket_connect(self, message: Any) -> None:
            consumers.append(self)
            await self.send({"type": "websocket.accept"})

        async def websocket_disconnect(self, message: Any) -> None:
            raise StopConsumer

    communicator = WebsocketCommunicator(Served.as_asgi(), "/")
    connected, _ = await communicator.connect(timeout=10)
    assert connected
    await communicator.disconnect(timeout=10)
    return consumers[0]


def handled(settings: Any) -> runworker.Command:
    class Idle(Worker):
        def run(self) -> None:
            """Listen to nothing."""

    settings.ASGI_APPLICATION = f"{__name__}.application"
    command = runworker.Command()
    command.worker_class = Idle
    call_command(command, "thumbnails", skip_checks=True)
    return command


MAKERS: dict[str, Callable[[], Any]] = {
    "AsyncConsumer.as_asgi": AsyncConsumer.as_asgi,
    "AsyncHttpConsumer": AsyncHttpConsumer,
    "ChannelLayerManager": ChannelLayerManager,
    "BaseChannelLayer": BaseChannelLayer,
    "InMemoryChannelLayer": InMemoryChannelLayer,
    "ProtocolTypeRouter": lambda: ProtocolTypeRouter({}),
    "ChannelNameRouter": lambda: ChannelNameRouter({}),
    "URLRouter": lambda: URLRouter([]),
    "BaseMiddleware": lambda: BaseMiddleware(application),
    "CookieMiddleware": lambda: CookieMiddleware(application),
    "SessionMiddleware": lambda: SessionMiddleware(application),
    "InstanceSessionWrapper": lambda: InstanceSessionWrapper({"cookies": {}}, application),
    "OriginValidator": lambda: OriginValidator(application, []),
    "ApplicationCommunicator": lambda: ApplicationCommunicator(application, {}),
    "HttpCommunicator": lambda: HttpCommunicator(application, "GET", "/"),
    "WebsocketCommunicator": lambda: WebsocketCommunicator(application, "/"),
    "Worker": lambda: Worker(application, ["thumbnails"], InMemoryChannelLayer()),
}


def attributes() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in INSTANCES:
        owner, _, name = entry.name.rpartition(".")
        found.setdefault(owner, []).append(name)
    return found


async def test_instances_have_their_attributes():
    made = {name: maker() for name, maker in MAKERS.items()} | {"AsyncConsumer": await served()}
    elsewhere = {"ChannelsLiveServerTestCase", "Command"}
    wanted = {owner: names for owner, names in attributes().items() if owner not in elsewhere}

    assert wanted.keys() == made.keys()
    pairs = [(owner, name) for owner, names in wanted.items() for name in names]
    assert [pair for pair in pairs if not hasattr(made[pair[0]], pair[1])] == []
    for communicator in (made["ApplicationCommunicator"], made["HttpCommunicator"], made["WebsocketCommunicator"]):
        await communicator.wait(timeout=10)


def test_command_has_its_attributes(settings: Any):
    command = handled(settings)

    assert [name for name in attributes()["Command"] if not hasattr(command, name)] == []


def test_live_server_has_its_properties():
    for name in attributes()["ChannelsLiveServerTestCase"]:
        assert isinstance(inspect.getattr_static(ChannelsLiveServerTestCase, name), property)


# Commands.


def flags(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in (action.option_strings or [action.dest])}


@pytest.mark.parametrize(("table", "name"), [("runserver", "runserver"), ("runworker", "runworker")])
def test_command_takes_the_flags_that_the_page_says(table: str, name: str):
    known = flags(load_command_class("channels", name).create_parser("manage.py", name))
    here = {entry.name for entry in ENTRIES if entry.table == table and entry.status != "absent"}
    absent = {entry.name for entry in ENTRIES if entry.table == table and entry.status == "absent"}

    assert here <= known
    assert not absent & known


# Daphne's names are in a distribution of their own, which is not installed here.

DAPHNE = ROOT / "compat" / "daphne"


@pytest.fixture
def daphne(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(DAPHNE))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "daphne"]:
        del sys.modules[name]


@pytest.mark.usefixtures("daphne")
def test_daphnes_command_takes_the_flags_that_the_page_says():
    known = flags(importlib.import_module("daphne.cli").CommandLineInterface().parser)
    rows = [entry for entry in ENTRIES if entry.table == "daphne, the command" and entry.name != "Daphne-Root-Path"]

    assert {entry.name for entry in rows if entry.status != "absent"} <= known
    assert not {entry.name for entry in rows if entry.status == "absent"} & known


DAPHNES = [
    entry
    for entry in ENTRIES
    if entry.table.startswith("daphne.") and entry.status != "absent" and kind_of(entry) not in ("instance", "value")
]


@pytest.mark.usefixtures("daphne")
@pytest.mark.parametrize("entry", DAPHNES, ids=identify)
def test_daphnes_name_is_as_stated(entry: Entry):
    found = resolve(entry)

    if "(" in kind_of(entry):
        assert misfits(parameters(kind_of(entry)[kind_of(entry).index("(") :]), own_parameters(entry, found)) == []
    elif " = " in kind_of(entry):
        assert repr(found) == kind_of(entry).partition(" = ")[2]
