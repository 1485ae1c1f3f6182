"""Sending without an event loop, over a real Redis and a real local broker: what readers with an event loop get."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.services.local import broker_process, running_broker
from tests.services.redis import RedisServer, redis_server

from fairway.delivery import Payload
from fairway.layers import blocking
from fairway.layers.backplane import Refused, Unavailable
from fairway.layers.blocking import MOST_IDLE, Pool, Sender, Unsent, send_all
from fairway.layers.errors import ChannelFull
from fairway.layers.layer import BackplaneLayer
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.place import Place, given_place
from fairway.layers.redis import RedisChannelLayer

DEADLINE = 20.0

NewLayer = Callable[..., BackplaneLayer]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = given_place(str(tmp_path_factory.mktemp("local") / "broker.sock"))
    with running_broker(made):
        yield made


@pytest.fixture
def made() -> Iterator[list[BackplaneLayer]]:
    """Layers that are closed at the end."""
    layers: list[BackplaneLayer] = []
    yield layers
    for layer in layers:
        sender_of(layer).close()


@pytest.fixture(params=["redis", "local"])
def new_layer(request: pytest.FixtureRequest, place: Place, redis: RedisServer, made: list[BackplaneLayer]) -> NewLayer:
    """Makes layers that share a service, each as if it were in a process of its own."""
    prefix = os.urandom(8).hex()

    def make(**options: Any) -> BackplaneLayer:
        if request.param == "local":
            made.append(LocalChannelLayer(socket=place.path, prefix=prefix, **options))
        else:
            made.append(RedisChannelLayer(hosts=[redis.url], prefix=prefix, **options))
        return made[-1]

    return make


def soon() -> float:
    return time.monotonic() + DEADLINE


def sender_of(layer: BackplaneLayer) -> Sender:
    sender = layer.node.sender
    assert sender is not None
    return sender


async def got(layer: BackplaneLayer, channel: str) -> Any:
    async with asyncio.timeout(DEADLINE):
        return await layer.receive(channel)


async def test_groups_channels_and_queues_are_reached(new_layer: NewLayer) -> None:
    reading, sender = new_layer(), sender_of(new_layer())
    channel = await reading.new_channel()
    await reading.group_add("news", channel)
    await asyncio.to_thread(sender.group_send, "news", {"type": "to.group"}, soon())
    assert await got(reading, channel) == {"type": "to.group"}
    await asyncio.to_thread(sender.send, channel, {"type": "to.channel"}, soon())
    assert await got(reading, channel) == {"type": "to.channel"}
    await asyncio.to_thread(sender.send, "work", {"type": "to.queue"}, soon())
    assert await got(reading, "work") == {"type": "to.queue"}
    await asyncio.to_thread(sender.broadcast, "news", Payload("hello"), ["nobody"], soon())
    assert (await got(reading, channel))["text"] == "hello"
    await reading.close()


async def test_queues_that_follow_a_group_are_reached(new_layer: NewLayer) -> None:
    reading, sender = new_layer(), sender_of(new_layer())
    await reading.group_add("news", "work")
    await reading.group_add("other", "rest")
    await asyncio.to_thread(sender.group_send, "news", {"type": "first"}, soon())
    assert await got(reading, "work") == {"type": "first"}
    await asyncio.to_thread(sender.broadcast, "news", Payload("hello"), ["work"], soon())
    await asyncio.to_thread(sender.group_send, "other", {"type": "second"}, soon())
    assert await got(reading, "rest") == {"type": "second"}
    await asyncio.to_thread(sender.group_send, "news", {"type": "third"}, soon())
    assert await got(reading, "work") == {"type": "third"}, "it was left out of the broadcast"
    await reading.close()


async def test_encrypted_messages_are_read(new_layer: NewLayer) -> None:
    keys = {"symmetric_encryption_keys": ["a key"]}
    reading, sender = new_layer(**keys), sender_of(new_layer(**keys))
    channel = await reading.new_channel()
    await reading.group_add("news", channel)
    await asyncio.to_thread(sender.group_send, "news", {"type": "secret"}, soon())
    assert await got(reading, channel) == {"type": "secret"}
    await reading.close()


def test_a_full_queue_is_said(new_layer: NewLayer) -> None:
    sender = sender_of(new_layer(capacity=2))
    for _ in range(2):
        sender.send("work", {"type": "x"}, soon())
    with pytest.raises(ChannelFull, match="work"):
        sender.send("work", {"type": "x"}, soon())


async def test_a_channel_of_this_process_is_reached(new_layer: NewLayer) -> None:
    layer = new_layer(capacity=1)
    channel = await layer.new_channel()
    await asyncio.to_thread(sender_of(layer).send, channel, {"type": "x"}, soon())
    with pytest.raises(ChannelFull):
        await asyncio.to_thread(sender_of(layer).send, channel, {"type": "x"}, soon())
    assert await got(layer, channel) == {"type": "x"}
    await layer.close()


async def test_many_threads_send_and_each_in_its_order(new_layer: NewLayer) -> None:
    reading, sender = new_layer(capacity=1000), sender_of(new_layer())
    channel = await reading.new_channel()
    await reading.group_add("news", channel)

    def send_some(thread: int) -> None:
        for number in range(40):
            sender.group_send("news", {"type": "x", "from": thread, "number": number}, soon())

    with ThreadPoolExecutor(8) as threads:
        await asyncio.gather(*(asyncio.get_running_loop().run_in_executor(threads, send_some, one) for one in range(8)))
    messages = [await got(reading, channel) for _ in range(320)]
    for thread in range(8):
        assert [one["number"] for one in messages if one["from"] == thread] == list(range(40))
    await reading.close()


def test_no_thread_and_no_event_loop_is_made(new_layer: NewLayer) -> None:
    before = threading.enumerate()
    sender_of(new_layer()).group_send("news", {"type": "x"}, soon())
    assert threading.enumerate() == before


async def test_a_forked_child_has_connections_of_its_own(new_layer: NewLayer) -> None:
    reading, sender = new_layer(), sender_of(new_layer())
    channel = await reading.new_channel()
    await reading.group_add("news", channel)
    await asyncio.to_thread(sender.group_send, "news", {"type": "parent"}, soon())
    pid = os.fork()
    if not pid:
        status = 1
        try:
            for number in range(3):
                sender.group_send("news", {"type": "child", "number": number}, soon())
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]) == 0
    await asyncio.to_thread(sender.group_send, "news", {"type": "parent again"}, soon())
    types = [(await got(reading, channel))["type"] for _ in range(5)]
    assert types == ["parent", "child", "child", "child", "parent again"]
    await reading.close()


async def test_threads_of_a_forked_child_share_no_connection_with_the_parent(new_layer: NewLayer) -> None:
    reading, sender = new_layer(capacity=1000), sender_of(new_layer())
    channel = await reading.new_channel()
    await reading.group_add("news", channel)
    for _ in range(3):
        sender.group_send("news", {"type": "parent"}, soon())
    pid = os.fork()
    if not pid:
        status = 1
        try:
            both = threading.Barrier(8)

            def send_some(thread: int) -> None:
                both.wait(DEADLINE)
                for number in range(10):
                    sender.group_send("news", {"type": "child", "from": thread, "number": number}, soon())

            with ThreadPoolExecutor(8) as threads:
                list(threads.map(send_some, range(8)))
            status = 0
        finally:
            os._exit(status)
    ended = asyncio.ensure_future(asyncio.to_thread(os.waitpid, pid, 0))
    while not ended.done():
        await asyncio.to_thread(sender.group_send, "news", {"type": "parent"}, soon())
    assert os.waitstatus_to_exitcode((await ended)[1]) == 0
    await asyncio.to_thread(sender.group_send, "news", {"type": "last"}, soon())
    messages = []
    while (message := await got(reading, channel))["type"] != "last":
        messages.append(message)
    for thread in range(8):
        assert [one["number"] for one in messages if one.get("from") == thread] == list(range(10))
    await reading.close()


def published(redis: RedisServer) -> int:
    """How many messages were published, once nobody but who asks is connected."""
    end = soon()
    while redis.connections():
        assert time.monotonic() < end, "a connection stays"
        time.sleep(0.02)
    with redis.client() as client:
        return int(client.info("commandstats").get("cmdstat_publish", {}).get("calls", 0))


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server whose connections may be counted and cut."""
    with redis_server() as server:
        yield server


@pytest.mark.slow
def test_connections_that_the_service_ends_while_they_are_idle_are_replaced(own_redis: RedisServer) -> None:
    sender = sender_of(RedisChannelLayer(hosts=[own_redis.url]))
    with own_redis.client() as client:
        client.config_set("timeout", 1)
    for number in range(1, 3):
        sender.group_send("news", {"type": "x"}, soon())
        assert published(own_redis) == number, "and Redis has ended the connection"
    sender.group_send("news", {"type": "x"}, soon())
    with own_redis.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    sender.group_send("news", {"type": "x"}, soon())
    sender.close()
    assert published(own_redis) == 4


def test_what_may_have_been_sent_is_not_sent_again(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = sender_of(RedisChannelLayer(hosts=[own_redis.url]))
    sender.group_send("news", {"type": "x"}, soon())
    with own_redis.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    # As if Redis had ended it just after the look at it: what is written now is taken by the kernel.
    monkeypatch.setattr(blocking, "_is_stale", lambda _: False)
    with pytest.raises(Unavailable, match=r"Redis has closed the connection|reset"):
        sender.group_send("news", {"type": "x"}, soon())
    assert published(own_redis) == 1
    sender.group_send("news", {"type": "x"}, soon())
    sender.close()
    assert published(own_redis) == 2


async def test_what_was_certainly_not_sent_is_sent_once_more(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = given_place(str(tmp_path / "broker.sock"))
    process = broker_process(place)
    sender = sender_of(LocalChannelLayer(socket=place.path))
    sender.group_send("news", {"type": "to nobody"}, soon())
    process.terminate()
    process.wait(DEADLINE)
    process = broker_process(place)
    reading = LocalChannelLayer(socket=place.path)
    channel = await reading.new_channel()
    await reading.group_add("news", channel)
    monkeypatch.setattr(blocking, "_is_stale", lambda _: False)
    for number in range(2):
        await asyncio.to_thread(sender.group_send, "news", {"type": "x", "number": number}, soon())
    assert [(await got(reading, channel))["number"] for _ in range(2)] == [0, 1]
    await reading.close()
    sender.close()
    process.terminate()
    process.wait(DEADLINE)


def test_one_message_is_one_publish(redis: RedisServer, made: list[BackplaneLayer]) -> None:
    made.append(RedisChannelLayer(hosts=[redis.url]))
    sender = sender_of(made[0])
    sender.group_send("news", {"type": "x"}, soon())
    with redis.client() as client:
        client.config_resetstat()
        for _ in range(10):
            sender.group_send("news", {"type": "x"}, soon())
        calls = {name: one["calls"] for name, one in client.info("commandstats").items()}
    assert calls["cmdstat_publish"] == 10
    assert set(calls) <= {
        "cmdstat_publish",
        "cmdstat_zrange",
        "cmdstat_config",
        "cmdstat_config|resetstat",
        "cmdstat_info",
        "cmdstat_client|setinfo",
    }


def test_a_service_that_is_not_there_is_said(tmp_path: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match=rf"^Redis at 127.0.0.1:{port} is away: "):
        sender_of(RedisChannelLayer(hosts=[("127.0.0.1", port)])).group_send("news", {"type": "x"}, soon())
    with pytest.raises(Unavailable, match=r"^no broker listens at "):
        sender_of(LocalChannelLayer(socket=tmp_path / "none.sock")).group_send("news", {"type": "x"}, soon())


def test_a_service_that_does_not_answer_is_given_up(tmp_path: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        layer = RedisChannelLayer(hosts=[silent.getsockname()])
        with pytest.raises(TimeoutError, match="has not answered in time"):
            sender_of(layer).group_send("news", {"type": "x"}, time.monotonic() + 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        layer = LocalChannelLayer(socket=tmp_path / "silent.sock")
        with pytest.raises(TimeoutError, match="has not answered in time"):
            sender_of(layer).group_send("news", {"type": "x"}, time.monotonic() + 0.2)


def test_a_wrong_password_is_said(redis: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[{"host": redis.host, "port": redis.port, "username": "nobody", "password": "x"}])
    with pytest.raises(Refused, match="WRONGPASS"):
        sender_of(layer).group_send("news", {"type": "x"}, soon())


class _Ends:
    def __init__(self) -> None:
        self.socket, self.other = socket.socketpair()


def test_a_pool_keeps_a_few_and_closes_what_has_failed() -> None:
    made: list[_Ends] = []

    def dial(deadline: float) -> _Ends:
        made.append(_Ends())
        return made[-1]

    pool = Pool(dial)
    assert pool.use(lambda one: one, soon()) is pool.use(lambda one: one, soon())
    with pytest.raises(ZeroDivisionError):
        pool.use(lambda one: 1 / 0, soon())
    assert made[0].socket.fileno() == -1

    def nested(depth: int) -> None:
        if depth:
            pool.use(lambda one: nested(depth - 1), soon())

    nested(MOST_IDLE + 3)
    assert len([one for one in made if one.socket.fileno() != -1]) == MOST_IDLE
    for one in made:
        one.socket.close()
        one.other.close()


@pytest.fixture
def pool() -> Iterator[tuple[Pool[_Ends], list[_Ends]]]:
    made: list[_Ends] = []

    def dial(deadline: float) -> _Ends:
        made.append(_Ends())
        return made[-1]

    yield Pool(dial), made
    for one in made:
        one.socket.close()
        one.other.close()


def test_a_connection_is_kept_for_some_time_only(
    pool: tuple[Pool[_Ends], list[_Ends]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, made = pool
    one.use(id, soon())
    one.use(id, soon())
    assert len(made) == 1
    monkeypatch.setattr(blocking, "LONGEST_IDLE", 0.0)
    one.use(id, soon())
    assert len(made) == 2
    assert made[0].socket.fileno() == -1


def test_what_was_not_sent_is_tried_once_more_and_only_over_a_new_connection(
    pool: tuple[Pool[_Ends], list[_Ends]],
) -> None:
    one, made = pool
    one.use(id, soon())
    used: list[_Ends] = []

    def fail(ends: _Ends) -> None:
        used.append(ends)
        raise Unsent("it has ended")

    with pytest.raises(Unsent, match="it has ended"):
        one.use(fail, soon())
    assert used == made[:2]
    with pytest.raises(Unsent):
        one.use(fail, soon())
    assert used == made[:3], "a new connection is tried once"


def test_an_end_that_was_told_is_no_message_sent() -> None:
    ends = _Ends()
    ends.other.close()
    with pytest.raises(Unsent, match="Broken pipe"):
        send_all(ends.socket, b"x")
    ends.socket.close()


def test_what_was_sent_in_part_and_then_took_too_long_may_not_be_sent_again() -> None:
    ends = _Ends()
    ends.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        send_all(ends.socket, bytes(10_000_000))
    ends.socket.close()
    ends.other.close()


def test_only_so_many_connections_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "MOST_AT_ONCE", 2)
    made: list[_Ends] = []

    def dial(deadline: float) -> _Ends:
        made.append(_Ends())
        return made[-1]

    pool = Pool(dial)
    with pytest.raises(TimeoutError):
        pool.use(lambda _: pool.use(lambda _: pool.use(id, time.monotonic() + 0.05), soon()), soon())
    assert len(made) == 2
    pool.use(id, soon())
    for one in made:
        one.socket.close()
        one.other.close()
    pool.close()


def test_what_is_sent_and_what_fails_is_counted(redis: RedisServer, made: list[BackplaneLayer]) -> None:
    made.append(RedisChannelLayer(hosts=[redis.url]))
    sender_of(made[0]).group_send("news", {"type": "x"}, soon())
    sender_of(made[0]).send("specific.other!x", {"type": "x"}, soon())
    assert made[0].node.statistics.published == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = RedisChannelLayer(hosts=[("127.0.0.1", port)])
    with pytest.raises(Unavailable):
        sender_of(away).group_send("news", {"type": "x"}, soon())
    assert (away.node.statistics.published, away.node.statistics.unavailable) == (0, 1)
