"""djangochannelsrestframework: actions, observers of a model, a record and a signal, and a view over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.compat.packages.serving import MakeProject, Server, Socket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(make_layered: MakeProject) -> Iterator[Server]:
    project = make_layered("records")
    project.run("-m", "django", "migrate", "--run-syncdb", "--verbosity", "0")
    with project.served() as server:
        yield server


def notes(server: Server) -> AbstractContextManager[Socket]:
    return server.connect("/notes/")


def ask(socket: Socket, action: str, **arguments: Any) -> dict[str, Any]:
    """The answer to an action."""
    socket.send({"action": action, "request_id": action, **arguments})
    answer = socket.receive()
    assert (answer["action"], answer["request_id"]) == (action, action)
    return answer


def test_what_one_creates_the_other_sees(server: Server):
    with notes(server) as writer, notes(server) as reader:
        assert ask(reader, "watch_all")["response_status"] == 201

        created = ask(writer, "create", data={"text": "seen by all"})

        assert created["response_status"] == 201
        assert created["data"]["text"] == "seen by all"
        seen = reader.receive()
        assert (seen["action"], seen["request_id"], seen["data"]) == ("create", "watch_all", created["data"])
        assert created["data"] in ask(reader, "list")["data"]


def test_who_subscribes_to_a_record_sees_it_change(server: Server):
    with notes(server) as writer, notes(server) as reader:
        pk = ask(writer, "create", data={"text": "first"})["data"]["id"]
        assert ask(reader, "subscribe_instance", pk=pk)["response_status"] == 201

        ask(writer, "patch", pk=pk, data={"text": "second"})

        seen = reader.receive()
        assert (seen["action"], seen["request_id"]) == ("update", "subscribe_instance")
        assert seen["data"] == {"id": pk, "text": "second"}


def test_a_signal_reaches_who_listens(server: Server):
    with notes(server) as ringing, notes(server) as listening:
        ask(listening, "listen")
        ask(ringing, "ring", by="Ann")

        assert listening.receive() == {
            "action": "bell",
            "request_id": "listen",
            "response_status": 200,
            "data": {"by": "Ann"},
            "errors": [],
        }


def test_synchronous_actions_and_errors(server: Server):
    with notes(server) as socket:
        ask(socket, "create", data={"text": "the very longest of the notes"})
        assert ask(socket, "longest")["data"] == {"text": "the very longest of the notes"}
        assert ask(socket, "subscribe_instance", pk=0)["response_status"] == 404
        assert ask(socket, "unheard_of")["errors"] == ['Method "unheard_of" not allowed.']


def test_a_view_is_served_over_sockets_one_after_the_other(server: Server):
    """`view_as_consumer` makes one instance for all connections."""
    with notes(server) as socket:
        ask(socket, "create", data={"text": "countable"})
    for _ in range(2):
        with server.connect("/count/") as socket:
            answer = ask(socket, "retrieve", parameters={"word": "countable"})
            assert (answer["response_status"], answer["data"]) == (200, {"word": "countable", "notes": 1})
