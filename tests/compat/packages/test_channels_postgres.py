"""channels_postgres on a real PostgreSQL: a chat between processes, and what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.compat.packages.serving import MakeProject, Project, Server, Socket, eventually
from tests.services.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.create_database("layer")
    yield name
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def chat(make_project: MakeProject, postgres: PostgresServer, database: str) -> Project:
    where = {f"POSTGRES_{name}": value for name, value in postgres.django(database).items() if name != "ENGINE"}
    project = make_project("chat", LAYER="postgres", **where)
    project.run("-m", "django", "migrate", "channels_postgres", "--database", "channels_postgres", "--verbosity", "0")
    return project


@pytest.fixture(scope="module")
def servers(chat: Project) -> Iterator[tuple[Server, Server]]:
    with chat.served() as one, chat.served() as other:
        wake_up(one)
        wake_up(other)
        yield one, other


def wake_up(server: Server) -> None:
    """Let the layer begin to listen, which it does with the first socket of a process.

    Until then it loses messages, and a second socket would make it deliver twice; with Channels it is the same.
    """
    with enter(server, "bedroom") as socket:
        for _ in range(100):
            socket.send({"text": "awake?"})
            if not socket.hears_nothing(0.2):
                return
    pytest.fail("the layer does not listen")


@contextmanager
def enter(server: Server, room: str) -> Iterator[Socket]:
    with server.connect(f"/rooms/{room}/") as socket:
        assert socket.receive().keys() == {"channel"}
        yield socket


def test_a_room_spans_the_processes(servers: tuple[Server, Server], postgres: PostgresServer):
    def channels() -> int:
        """How many channels the layer has taken for itself; it drops messages to others."""
        return postgres.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0][0]

    before = channels()
    with enter(servers[0], "hall") as ann, enter(servers[0], "hall") as ben, enter(servers[1], "hall") as eve:
        eventually(channels, before + 3)
        for speaker, text in ((ann, "from the first"), (eve, "from the other")):
            speaker.send({"text": text})
            for listener in (ann, ben, eve):
                assert listener.receive() == {"text": text}


def test_members_who_leave_are_forgotten(servers: tuple[Server, Server], postgres: PostgresServer, database: str):
    def members() -> int:
        return postgres.execute("SELECT count(*) FROM channels_postgres_groupchannel", database=database)[0][0]

    with enter(servers[0], "yard"), enter(servers[1], "yard"):
        eventually(members, 2)
    eventually(members, 0)
