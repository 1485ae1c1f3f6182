"""channels_redis, both layers, on a real Redis: chats between processes, idle sockets, tidiness, synchronous code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.compat.packages.serving import MakeProject, Project, Server, Socket, eventually
from tests.services.redis import RedisServer, redis_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LAYERS = ["core", "pubsub"]
IDLE = 6.5
"""Seconds; the reads of some versions of redis-py give up after five."""

SYNC = "sync-rooms"

Servers = tuple[Server, Server]


@pytest.fixture(scope="module")
def chats(make_project: MakeProject, redis: RedisServer) -> dict[str, Project]:
    return {layer: make_project("chat", LAYER=layer, REDIS_PORT=redis.port) for layer in LAYERS}


@pytest.fixture(scope="module")
def servers(chats: dict[str, Project]) -> Iterator[dict[str, Servers]]:
    """Two processes for each layer."""
    with ExitStack() as stack:
        yield {
            layer: (stack.enter_context(chat.served()), stack.enter_context(chat.served()))
            for layer, chat in chats.items()
        }


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def pair(servers: dict[str, Servers], layer: str) -> Servers:
    return servers[layer]


@contextmanager
def enter(server: Server, room: str, path: str = "rooms") -> Iterator[Socket]:
    """A socket that is in the room."""
    with server.connect(f"/{path}/{room}/") as socket:
        assert socket.receive().keys() == {"channel"}
        yield socket


def say(text: str) -> dict[str, str]:
    return {"text": text}


def traces(redis: RedisServer) -> list[str]:
    """What the layers have in Redis: keys, and channels that somebody is subscribed to."""
    with redis.client() as client:
        return sorted([*client.keys("asgi*"), *client.pubsub_channels("asgi*")])


def test_a_room_spans_the_processes(pair: Servers):
    with enter(pair[0], "hall") as ann, enter(pair[0], "hall") as ben, enter(pair[1], "hall") as eve:
        for speaker, text in ((ann, "from the first"), (eve, "from the other")):
            speaker.send(say(text))
            for listener in (ann, ben, eve):
                assert listener.receive() == say(text)


def test_synchronous_consumers_are_in_the_same_room(pair: Servers):
    one, other = pair
    with enter(one, "hall") as ann, enter(one, "hall", SYNC) as ben, enter(other, "hall", SYNC) as eve:
        for speaker, text in ((ann, "from a coroutine"), (ben, "from a thread"), (eve, "from another process")):
            speaker.send(say(text))
            for listener in (ann, ben, eve):
                assert listener.receive() == say(text)


def test_messages_keep_their_order(pair: Servers):
    said = [say(f"number {number}") for number in range(50)]
    with enter(pair[0], "order") as ann, enter(pair[1], "order") as eve:
        for message in said:
            ann.send(message)
            assert eve.receive() == message
        assert [ann.receive() for _ in said] == said


def test_a_room_keeps_to_itself(pair: Servers):
    with enter(pair[0], "left") as ann, enter(pair[1], "right") as eve:
        eve.send(say("to the right"))
        ann.send(say("to the left"))
        assert ann.receive() == say("to the left")
        assert eve.receive() == say("to the right")


def test_idle_sockets_live_on(servers: dict[str, Servers]):
    with ExitStack() as stack:
        sockets = {
            layer: [stack.enter_context(enter(server, "idle")) for server in pair] for layer, pair in servers.items()
        }
        assert sockets["core"][0].hears_nothing(IDLE)
        for ann, eve in sockets.values():
            ann.send(say("still there?"))
            assert ann.receive() == eve.receive() == say("still there?")


def test_nothing_is_left_behind(pair: Servers, redis: RedisServer):
    eventually(lambda: traces(redis), [])
    with enter(pair[0], "left") as ann, enter(pair[1], "left", SYNC) as eve:
        ann.send(say("here"))
        assert ann.receive() == eve.receive() == say("here")
        assert traces(redis) != []

    eventually(lambda: traces(redis), [])


def test_connections_are_used_again(pair: Servers, redis: RedisServer):
    def talk() -> None:
        with enter(pair[0], "again") as ann, enter(pair[1], "again", SYNC) as eve:
            ann.send(say("again"))
            assert ann.receive() == eve.receive() == say("again")

    talk()
    before = len(redis.connections())
    for _ in range(10):
        talk()

    assert len(redis.connections()) <= before + 4


def test_synchronous_code_leaks_no_connections(chats: dict[str, Project], layer: str, servers: dict[str, Servers]):
    with enter(servers[layer][0], "announcements") as ann:
        counts = json.loads(chats[layer].run("-m", "chat.announce", "announcements", "50"))
        assert [ann.receive() for _ in range(50)] == [say(f"number {number}") for number in range(50)]

    assert len(counts) == 50
    # Redis may not have forgotten the connection of the message before.
    assert max(counts) <= counts[0] + 2, counts


def test_no_socket_is_closed_while_redis_is_away(make_project: MakeProject, layer: str):
    with redis_server() as redis:
        chat = make_project("chat", LAYER=layer, REDIS_PORT=redis.port)
        # One of the layers does not fail in `receive`: it writes a traceback itself, and subscribes again by itself.
        with chat.served(tracebacks=layer == "pubsub") as server, ExitStack() as stack:
            room = [stack.enter_context(server.connect(f"/{path}/hall/")) for path in ("rooms", SYNC) for _ in range(3)]
            channels = [socket.receive()["channel"] for socket in room]
            redis.kill()
            assert all(socket.hears_nothing(0.3) for socket in room)
            redis.restart()
            # Who is in which room was in Redis, and is gone with it: everybody is spoken to by name.
            with enter(server, "hall") as newcomer:
                for number in range(2):
                    for channel, socket in zip(channels, room, strict=True):
                        newcomer.send({"to": channel, **say(f"hello {number}")})
                        assert socket.receive() == say(f"hello {number}")
        said = [line for line in server.process.text.splitlines() if "The channel layer" in line]
        assert len(said) == (2 if layer == "core" else 0), server.process.text
