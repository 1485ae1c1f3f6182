"""The layer for synchronous code: what `async_to_sync` and `fairway.layers.sync` deliver, keep and leave behind.

Members are consumers on real sockets, served in a thread of their own, so that the tests are the synchronous code.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import multiprocessing
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.models import Session
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections, transaction
from django.test import TestCase
from django.urls import path
from django.utils import timezone
from tests.services.local import broker_process
from tests.services.postgres import database_alias
from tests.services.site import served
from websockets.sync.client import ClientConnection, connect

from channels.db import database_sync_to_async
from channels.exceptions import ChannelFull, InvalidChannelLayerError
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, channel_layers, get_channel_layer
from channels.routing import URLRouter
from fairway.layers import sync
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.place import given_place
from fairway.layers.redis import RedisChannelLayer
from fairway.layers.sync import group_broadcast, group_broadcast_json, group_send, group_send_on_commit, send

DEADLINE = 30.0
THREADS = 8
POSTGRES = "orders"


# A site with members ------------------------------------------------------------------------------------------------


class Listener(AsyncWebsocketConsumer):
    groups = ["news"]

    async def news_item(self, message: dict[str, Any]) -> None:
        await self.send(message["text"])


class Reporter(WebsocketConsumer):
    """Synchronous: its handler runs in a worker thread of the server."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        way, count = json.loads(text_data or "")
        for number in range(count):
            SENDERS[way]("news", item("reporter", number))
        self.send("done")


class Editor(AsyncWebsocketConsumer):
    """Asynchronous, and tries the synchronous functions all the same: directly, and in a thread."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            group_send("news", item("editor", 0))
        except SynchronousOnlyOperation as error:
            await self.send(str(error))
        await database_sync_to_async(group_send)("news", item("editor", 1))


def item(sender: object, number: int) -> dict[str, Any]:
    return {"type": "news.item", "text": f"{sender} {number}"}


def send_by_async_to_sync(group: str, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    assert layer is not None
    async_to_sync(layer.group_send)(group, message)


SENDERS = {"async_to_sync": send_by_async_to_sync, "fairway.layers.sync": group_send}
in_both_ways = pytest.mark.parametrize("way", SENDERS)


class Reader:
    """A client that reads."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def read(self, count: int = 1) -> list[str | bytes]:
        return [self.socket.recv(timeout=DEADLINE) for _ in range(count)]


class Site:
    def __init__(self, address: str, stack: ExitStack) -> None:
        self._address = address
        self._stack = stack

    def open(self, page: str) -> Reader:
        return Reader(self._stack.enter_context(connect(f"ws://{self._address}/{page}/", proxy=None)))


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> InMemoryChannelLayer:
    layer = InMemoryChannelLayer(capacity=2000)
    monkeypatch.setitem(channel_layers.backends, "default", layer)
    return layer


@pytest.fixture
def site(layer: InMemoryChannelLayer) -> Iterator[Site]:
    """Serves the consumers above, on a real socket, in another thread."""
    pages = {"listen": Listener, "report": Reporter, "edit": Editor}
    application = URLRouter([path(f"{name}/", consumer.as_asgi()) for name, consumer in pages.items()])
    with served(application) as address, ExitStack() as stack:
        yield Site(address, stack)


@pytest.fixture
def listener(site: Site, layer: InMemoryChannelLayer) -> Reader:
    reader = site.open("listen")
    wait_until(lambda: len(layer.groups.get("news", ())) == 1)
    return reader


@pytest.fixture(autouse=True)
def no_background_loop() -> Iterator[None]:
    """Each test begins and ends without it."""
    sync._background.stop()
    yield
    sync._background.stop()


def wait_until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def in_threads(work: Callable[[int], object], count: int = THREADS) -> None:
    """Do the work in so many threads at once; what it raises there is raised here."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def left_behind() -> dict[str, int]:
    """How much there is of everything that a call could forget."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]  # `isinstance` would ask proxies of what is gone
    return {
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "loops": sum(issubclass(kind, asyncio.AbstractEventLoop) for kind in kinds),
        "tasks": sum(issubclass(kind, asyncio.Task) for kind in kinds),
    }


def assert_no_more(after: dict[str, int], before: dict[str, int]) -> None:
    """Nothing has grown; what other tests left may have gone meanwhile."""
    assert {name: count for name, count in after.items() if count > before[name]} == {}


def sizes(layer: InMemoryChannelLayer) -> dict[str, int]:
    return dict(layer.hub.statistics())


def assert_in_order(texts: list[str], senders: int, count: int) -> None:
    """Every sender's messages came, each once, in the order in which it sent them."""
    for sender in range(senders):
        own = [text for text in texts if text.startswith(f"{sender} ")]
        assert own == [f"{sender} {number}" for number in range(count)]


# Whoever sends, from wherever ---------------------------------------------------------------------------------------


@pytest.mark.slow
@in_both_ways
def test_a_thousand_calls_from_eight_threads_arrive_in_order_and_leave_nothing(site, layer, listener, way):
    another = site.open("listen")
    wait_until(lambda: sizes(layer)["memberships"] == 2)
    SENDERS[way]("news", item("first", 0))
    assert listener.read() == another.read() == ["first 0"]
    before, hub_before = left_behind(), sizes(layer)
    each = 1000 // THREADS

    def work(sender: int) -> None:
        for number in range(each):
            SENDERS[way]("news", item(sender, number))

    in_threads(work)

    for reader in (listener, another):
        assert_in_order(reader.read(THREADS * each), THREADS, each)
    assert_no_more(left_behind(), before)
    assert sizes(layer) == hub_before


@pytest.mark.slow
@in_both_ways
def test_calls_from_the_main_thread_and_from_a_synchronous_consumer_leave_nothing(site, layer, listener, way):
    reporter = site.open("report")

    def call(count: int) -> None:
        for number in range(count):
            SENDERS[way]("news", item(0, number))
        assert_in_order(listener.read(count), 1, count)
        reporter.socket.send(json.dumps([way, count]))
        assert reporter.read() == ["done"]
        assert listener.read(count) == [f"reporter {number}" for number in range(count)]

    call(1)
    before, hub_before = left_behind(), sizes(layer)
    call(100)
    assert_no_more(left_behind(), before)
    assert sizes(layer) == hub_before


@in_both_ways
def test_a_channel_without_a_reader_is_bounded_and_keeps_what_it_was_sent(layer, way):
    layer.hub.group_add("news", "archive")
    layer.capacity = 10
    for number in range(20):
        SENDERS[way]("news", item(0, number))
    assert [message["text"] for message in layer.channels["archive"].messages()] == [f"0 {n}" for n in range(10)]
    assert layer.hub.dropped == 10


def test_send_reaches_one_channel_and_says_when_it_is_full(layer):
    layer.capacity = 1
    send("inbox", item(0, 0))
    with pytest.raises(ChannelFull, match="inbox"):
        send("inbox", item(0, 1))
    assert async_to_sync(layer.receive)("inbox") == item(0, 0)


def test_broadcasts_reach_sockets_without_a_handler(site, layer, listener):
    another = site.open("listen")
    wait_until(lambda: sizes(layer)["memberships"] == 2)
    _first, second = layer.groups["news"]
    group_broadcast("news", "for all")
    group_broadcast("news", bytes_data=b"for one", exclude=second)
    group_broadcast_json("news", {"for": "one"}, exclude=[second])
    group_broadcast("news", "the end")
    assert listener.read(4) == ["for all", b"for one", '{"for": "one"}', "the end"]
    assert another.read(2) == ["for all", "the end"]


# One loop, one connection -------------------------------------------------------------------------------------------


class Switchboard(socketserver.ThreadingTCPServer):
    """A service as a network layer has one: takes lines, and counts the connections on which they come."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.connections = 0
        super().__init__(("127.0.0.1", 0), Operator)

    def until(self, count: int) -> list[Any]:
        wait_until(lambda: len(self.lines) >= count)
        return self.lines


class Operator(socketserver.StreamRequestHandler):
    server: Switchboard

    def handle(self) -> None:
        self.server.connections += 1
        for line in self.rfile:
            self.server.lines.append(json.loads(line))


class WireLayer(BaseChannelLayer):
    """A layer for a service: it has one connection in each event loop that uses it."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self.address = address
        self.stuck = asyncio.Event()  # set when a call that never ends was cancelled
        self._writers: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if group == "nowhere":
            await self._hang()
        writer = await self._writer()
        writer.write(json.dumps([group, message]).encode() + b"\n")
        await writer.drain()

    async def _hang(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.stuck.set()

    async def _writer(self) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        if loop not in self._writers:
            self._writers[loop] = asyncio.create_task(asyncio.open_connection(*self.address))
        return (await self._writers[loop])[1]

    async def close(self) -> None:
        writer = await self._writer()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def switchboard() -> Iterator[Switchboard]:
    with Switchboard() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def wire(switchboard: Switchboard, monkeypatch: pytest.MonkeyPatch) -> Iterator[WireLayer]:
    layer = WireLayer(switchboard.server_address)
    monkeypatch.setitem(channel_layers.backends, "default", layer)
    yield layer
    sync._background.run(layer.close, timeout=DEADLINE)


def test_all_threads_share_one_connection_to_the_service(wire, switchboard):
    def work(sender: int) -> None:
        for number in range(25):
            group_send("news", item(sender, number))

    in_threads(work)
    texts = [message["text"] for _, message in switchboard.until(THREADS * 25)]
    assert_in_order(texts, THREADS, 25)
    assert switchboard.connections == 1


def test_a_broadcast_over_such_a_layer_is_an_event(wire, switchboard):
    group_broadcast("news", "for all")
    group_broadcast_json("news", ["for", "all"], exclude="me")
    assert switchboard.until(2) == [
        ["news", {"type": "fairway.broadcast", "text": "for all"}],
        ["news", {"type": "fairway.broadcast", "text": '["for", "all"]', "exclude": ["me"]}],
    ]


def test_nothing_is_started_before_the_first_call_and_one_thread_after_it(wire, switchboard):
    before = set(threading.enumerate())
    for number in range(3):
        group_send("news", item(0, number))
    switchboard.until(3)
    started = set(threading.enumerate()) - before
    (thread,) = [thread for thread in started if thread.name == "fairway-layers"]
    assert thread.daemon
    # One for the loop, and one in which the service serves its only connection.
    assert len(started) == 2


def test_a_loop_that_was_stopped_is_replaced(wire, switchboard):
    group_send("news", item(0, 0))
    sync._background.run(wire.close, timeout=DEADLINE)
    sync._background.stop()
    assert "fairway-layers" not in {thread.name for thread in threading.enumerate()}
    group_send("news", item(0, 1))
    switchboard.until(2)


def test_a_loop_that_died_is_replaced(wire, switchboard):
    async def stop_the_loop() -> None:
        asyncio.get_running_loop().stop()

    sync._background.run(stop_the_loop, timeout=DEADLINE)
    sync._background._thread.join(DEADLINE)
    sync._background.stop()
    group_send("news", item(0, 0))
    switchboard.until(1)


@contextmanager
def child(work: Callable[[], None]) -> Iterator[None]:
    """A forked child that does the work, while the block runs; it must succeed."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    try:
        yield
        process.join(DEADLINE)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


# What newer Pythons warn of is what is under test.
forking = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@forking
def test_a_forked_child_has_a_loop_and_a_connection_of_its_own(wire, switchboard):
    group_send("news", item("parent", 0))

    with child(lambda: [group_send("news", item("child", number)) for number in range(3)]):
        switchboard.until(4)
    for number in range(1, 4):
        group_send("news", item("parent", number))

    texts = [message["text"] for _, message in switchboard.until(7)]
    assert sorted(texts) == sorted([f"{who} {n}" for who in ("parent", "child") for n in range(4 - (who == "child"))])
    assert switchboard.connections == 2


@forking
def test_a_child_forked_while_another_thread_starts_the_loop_does_not_wait_for_that_thread(wire, switchboard):
    with sync._background._lock, child(lambda: group_send("news", item("child", 0))):
        switchboard.until(1)


FORKING = """
import ctypes, os
from django.conf import settings
from channels.layers import BaseChannelLayer

class Layer(BaseChannelLayer):
    async def send(self, channel, message):
        os.write(1, f"{message['text']}\\n".encode())

settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": "__main__.Layer"}})
from fairway.layers.sync import send
send("inbox", {"type": "job", "text": "parent"})
pid = ctypes.PyDLL(None).fork()
send("inbox", {"type": "job", "text": "parent again" if pid else "child"})
if pid:
    assert os.waitpid(pid, 0)[1] == 0
else:
    os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_that_was_forked_without_pythons_hooks_starts_a_loop_too():
    """As a worker of uWSGI is. It has a process of its own, where no other thread can hold the interpreter's lock."""
    command = [sys.executable, "-c", FORKING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (sorted(done.stdout.splitlines()), done.stderr) == (["child", "parent", "parent again"], "")
    assert done.returncode == 0


PROGRAM = """
import asyncio
from django.conf import settings
from channels.layers import InMemoryChannelLayer

class Layer(InMemoryChannelLayer):
    async def send(self, channel, message):
        self.reader = asyncio.create_task(self.read())

    async def read(self):
        try:
            await asyncio.Event().wait()
        finally:
            print("closed")

settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": "__main__.Layer"}})
from fairway.layers.sync import send
send("inbox", {"type": "job"})
"""


def test_what_a_layer_keeps_open_is_ended_with_the_process():
    command = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.stderr, done.stdout, done.returncode) == ("", "closed\n", 0)


# Mistakes -----------------------------------------------------------------------------------------------------------


def test_a_layer_that_does_not_answer_is_given_up_and_cancelled(wire):
    with pytest.raises(TimeoutError, match=r"WireLayer\.group_send did not finish within 0\.5 s: is the channel"):
        group_send("nowhere", item(0, 0), timeout=0.5)
    wait_until(wire.stuck.is_set)
    group_send("news", item(0, 1))


class Interrupted(Exception):
    """What a task queue raises in a task whose time is up."""


def test_a_caller_that_is_interrupted_takes_its_message_back(wire, monkeypatch):
    monkeypatch.setattr("concurrent.futures.wait", interrupted)
    with pytest.raises(Interrupted):
        group_send("nowhere", item(0, 0))
    monkeypatch.undo()
    wait_until(wire.stuck.is_set)


def interrupted(*args: Any) -> None:
    raise Interrupted


def test_an_error_of_the_layer_is_raised_where_it_was_called(wire, switchboard):
    wire.address = ("127.0.0.1", 1)
    with pytest.raises(ConnectionRefusedError):
        group_send("news", item(0, 0))
    wire.address = switchboard.server_address
    wire._writers.clear()


FUNCTIONS = {
    "send": lambda: send("inbox", item(0, 0)),
    "group_send": lambda: group_send("news", item(0, 0)),
    "group_broadcast": lambda: group_broadcast("news", "text"),
    "group_broadcast_json": lambda: group_broadcast_json("news", {}),
    "group_send_on_commit": lambda: group_send_on_commit("news", item(0, 0)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
async def test_in_an_event_loop_the_error_says_what_to_write_instead(layer, name):
    method = name.removesuffix("_on_commit")
    with pytest.raises(SynchronousOnlyOperation, match=rf"write `await get_channel_layer\(\)\.{method}\(\.\.\.\)`"):
        FUNCTIONS[name]()
    assert layer.channels == {}


def test_an_asynchronous_consumer_calls_them_in_a_thread(site, listener):
    editor = site.open("edit")
    editor.socket.send("go")
    assert "database_sync_to_async" in editor.read()[0]
    assert listener.read() == ["editor 1"]


@pytest.mark.django_db
@pytest.mark.parametrize("function", [group_send, group_send_on_commit])
@pytest.mark.parametrize(
    ("group", "message", "error", "words"),
    [
        ("no spaces please", {"type": "a"}, TypeError, "Group name is not valid"),
        (None, {"type": "a"}, TypeError, "Group name is not valid"),
        ("news", "text", TypeError, "a message is a dict with a 'type', not 'text'"),
        ("news", {"text": "a"}, ValueError, "the message has no 'type': add the name of its handler"),
        ("news", {"type": None}, ValueError, "the message has no 'type'"),
    ],
)
def test_mistakes_show_where_they_are_made(layer, function, group, message, error, words):
    with transaction.atomic() if function is group_send_on_commit else ExitStack(), pytest.raises(error, match=words):
        function(group, message)


def test_a_channel_name_is_checked(layer):
    with pytest.raises(TypeError, match="Channel name is not valid"):
        send("no spaces please", {"type": "a"})


@pytest.mark.parametrize("function", [group_send, send, group_send_on_commit, group_broadcast])
def test_a_layer_that_is_not_configured_is_named(function):
    with pytest.raises(
        InvalidChannelLayerError, match="CHANNEL_LAYERS has no 'pigeons': add it, or name another layer"
    ):
        function("news", {"type": "a"}, layer="pigeons")


def test_a_broadcast_is_text_or_bytes(layer):
    layer.hub.group_add("news", "archive")
    with pytest.raises(ValueError, match="either text or bytes"):
        group_broadcast("news")


# Transactions -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param("default", marks=pytest.mark.django_db(transaction=True)), POSTGRES])
def alias(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with transactions: SQLite, and PostgreSQL."""
    if request.param == "default":
        yield request.param
        return
    blocker = request.getfixturevalue("django_db_blocker")
    with database_alias(request.getfixturevalue("postgres"), POSTGRES), blocker.unblock():
        with connections[POSTGRES].schema_editor() as editor:
            editor.create_model(Session)
        yield request.param


def place_order(alias: str, name: str) -> None:
    """Write a row, and announce it."""
    Session.objects.using(alias).create(session_key=name, session_data="", expire_date=timezone.now())
    group_send_on_commit("news", {"type": "news.item", "text": name}, using=alias)


def orders(alias: str) -> set[str]:
    return set(Session.objects.using(alias).values_list("session_key", flat=True))


class Cancelled(Exception):
    pass


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    with suppress(Cancelled), transaction.atomic(alias):
        yield
        raise Cancelled


@pytest.fixture
def archive(layer: InMemoryChannelLayer) -> Callable[[], list[str]]:
    """What a member of the group has been sent."""
    layer.hub.group_add("news", "archive")

    def texts() -> list[str]:
        return [message["text"] for message in layer.hub.queue("archive").messages()]

    return texts


@pytest.mark.slow
def test_a_message_leaves_with_the_commit(alias, archive):
    with transaction.atomic(alias):
        place_order(alias, "one")
        place_order(alias, "two")
        assert archive() == []
    assert archive() == ["one", "two"]
    assert orders(alias) == {"one", "two"}


def test_a_message_leaves_at_once_without_a_transaction(alias, archive):
    place_order(alias, "one")
    assert archive() == ["one"]


def test_a_rollback_takes_the_message_with_it(alias, archive):
    with rolled_back(alias):
        place_order(alias, "one")
    assert archive() == []
    assert orders(alias) == set()


def test_a_savepoint_takes_only_its_own_messages_with_it(alias, archive):
    with transaction.atomic(alias):
        place_order(alias, "before")
        with rolled_back(alias):
            place_order(alias, "lost")
            with transaction.atomic(alias):
                place_order(alias, "lost as well")
        with transaction.atomic(alias):
            place_order(alias, "kept")
        assert archive() == []
        place_order(alias, "after")
    assert archive() == ["before", "kept", "after"]
    assert orders(alias) == {"before", "kept", "after"}


def test_the_outer_rollback_takes_messages_of_inner_blocks_with_it(alias, archive):
    with rolled_back(alias), transaction.atomic(alias):
        place_order(alias, "one")
    assert archive() == []


def test_a_member_that_looks_finds_the_row(alias, site, listener):
    """The message is not ahead of its row, for somebody with another connection."""

    def buy(number: int) -> None:
        try:
            with transaction.atomic(alias):
                place_order(alias, f"order {number}")
        finally:
            connections[alias].close()

    for number in range(3):
        in_threads(lambda _, number=number: buy(number), count=1)
        (text,) = listener.read()
        assert text in orders(alias)


def test_threads_have_transactions_of_their_own(alias, archive):
    both, committed = threading.Barrier(2), threading.Event()

    def work(number: int) -> None:
        try:
            if number == 0:
                with transaction.atomic(alias):
                    group_send_on_commit("news", item("commits", 0), using=alias)
                    both.wait(DEADLINE)
                committed.set()
            else:
                with rolled_back(alias):
                    group_send_on_commit("news", item("does not", 0), using=alias)
                    both.wait(DEADLINE)
                    assert committed.wait(DEADLINE)
        finally:
            connections[alias].close()

    in_threads(work, count=2)
    assert archive() == ["commits 0"]


def test_the_transaction_of_another_database_does_not_matter(archive, postgres, django_db_blocker):
    with database_alias(postgres, "one"), database_alias(postgres, "other"), django_db_blocker.unblock():
        with transaction.atomic("one"):
            group_send_on_commit("news", item("with one", 0), using="one")
            group_send_on_commit("news", item("with the other", 0), using="other")
            assert archive() == ["with the other 0"]
        assert archive() == ["with the other 0", "with one 0"]


@pytest.mark.django_db(transaction=True)
def test_what_is_sent_is_what_the_message_was_when_the_call_was_made(archive, layer):
    message = {"type": "news.item", "text": "then", "lines": [{"count": 1}]}
    with transaction.atomic():
        group_send_on_commit("news", message)
        message["text"] = "now"
        message["lines"][0]["count"] = 2
    (sent,) = layer.hub.queue("archive").messages()
    assert sent == {"type": "news.item", "text": "then", "lines": [{"count": 1}]}


@pytest.mark.django_db(transaction=True)
def test_an_error_of_the_layer_is_raised_after_the_commit(layer, wire):
    def work() -> None:
        with transaction.atomic():
            Session.objects.create(session_key="kept", session_data="", expire_date=timezone.now())
            group_send_on_commit("nowhere", item(0, 0), timeout=0.05)

    with pytest.raises(TimeoutError, match="did not finish within"):
        work()
    assert orders("default") == {"kept"}


@pytest.mark.django_db(transaction=True)
def test_a_robust_message_that_fails_is_logged_and_the_rest_goes_on(wire, switchboard, caplog):
    with caplog.at_level(logging.ERROR, logger="django.db"), transaction.atomic():
        group_send_on_commit("nowhere", item(0, 0), timeout=0.05, robust=True)
        group_send_on_commit("news", item(0, 1), robust=True)
    assert [message["text"] for _, message in switchboard.until(1)] == ["0 1"]
    (record,) = caplog.records
    assert "group_send_on_commit" in record.getMessage()
    assert "did not finish within 0.05 s" in record.getMessage()


class TestsOfAnApplication(TestCase):
    """What such tests look like: their transaction is never committed, so nothing leaves unless they ask for it."""

    def setUp(self) -> None:
        self.layer = InMemoryChannelLayer()
        self.layer.hub.group_add("news", "archive")
        channel_layers.set("default", self.layer)
        self.addCleanup(channel_layers.backends.clear)

    def sent(self) -> list[str]:
        return [message["text"] for message in self.layer.hub.queue("archive").messages()]

    def test_captured_messages_can_be_sent(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            place_order("default", "one")
            assert self.sent() == []
        assert len(callbacks) == 1
        assert self.sent() == ["one"]

    def test_or_looked_at(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            place_order("default", "one")
        assert self.sent() == []
        callbacks[0]()
        assert self.sent() == ["one"]

    def test_or_left_alone(self) -> None:
        place_order("default", "one")
        assert connection.in_atomic_block
        assert self.sent() == []


# Presence -----------------------------------------------------------------------------------------------------------


def test_code_without_an_event_loop_sees_who_is_present(layer: InMemoryChannelLayer) -> None:
    asyncio.run(layer.presence.track("room", "one", {"name": "Mira"}, key="1"))
    asyncio.run(layer.presence.track("room", "two", {"name": "Mira"}, key="1"))

    assert sync.presence("room") == {"1": [{"name": "Mira"}]}
    assert sync.presence_count("room") == 2
    assert sync.presence("nobody") == {}


@pytest.mark.parametrize("service", ["redis", "local"])
def test_it_sees_over_a_blocking_socket_who_is_present(
    service: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prefix = os.urandom(4).hex()
    with ExitStack() as stack:
        if service == "redis":
            url = request.getfixturevalue("redis").url
            make = partial(RedisChannelLayer, [url], prefix=prefix)
        else:
            place = given_place(str(tmp_path / "broker.sock"))
            stack.callback(ended, broker_process(place))
            make = partial(LocalChannelLayer, socket=place.path, prefix=prefix)
        reader = make(symmetric_encryption_keys=["a key"])
        stack.callback(reader.retire)
        monkeypatch.setitem(channel_layers.backends, "default", reader)

        async def attend() -> None:
            server = make(symmetric_encryption_keys=["a key"])
            await server.presence.track("room", "one", {"name": "Mira"}, key="1")
            await server.presence.track("room", "two", "Tom", key="2")
            assert await asyncio.to_thread(sync.presence, "room") == {"1": [{"name": "Mira"}], "2": ["Tom"]}
            assert await asyncio.to_thread(sync.presence_count, "room") == 2
            assert await asyncio.to_thread(sync.presence_count, "nobody") == 0
            await server.close()

        asyncio.run(attend())
        assert reader.node.home.session is None, "no event loop was needed"


def ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(DEADLINE)


def test_presence_raises_inside_an_event_loop_and_for_other_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        sync.presence("room")

    with pytest.raises(SynchronousOnlyOperation, match=r"await get_channel_layer\(\)\.presence\.members\("):
        asyncio.run(ask())
    monkeypatch.setitem(channel_layers.backends, "default", BaseChannelLayer())
    with pytest.raises(InvalidChannelLayerError, match="BaseChannelLayer has no presence"):
        sync.presence_count("room")
