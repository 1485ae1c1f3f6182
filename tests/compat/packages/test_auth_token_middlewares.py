"""channels-auth-token-middlewares: private messages between users who are known by tokens of several kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from websockets.exceptions import InvalidStatus

from tests.compat.packages.serving import MakeProject, Project, Server, Socket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

People = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def project(make_layered: MakeProject) -> Project:
    project = make_layered("tokens")
    project.run("-m", "django", "migrate", "--verbosity", "0")
    return project


@pytest.fixture(scope="module")
def people(project: Project) -> People:
    return json.loads(project.run("-m", "tokens.people"))


@pytest.fixture(scope="module")
def server(project: Project, people: People) -> Iterator[Server]:
    with project.served() as server:
        yield server


def with_header(server: Server, path: str, value: str) -> AbstractContextManager[Socket]:
    return server.connect(path, additional_headers={"Authorization": value})


def in_query(server: Server, path: str, token: str) -> AbstractContextManager[Socket]:
    return server.connect(f"{path}?token={token}")


def talk(ann: Socket, ben: Socket) -> None:
    ann.send({"to": "ben", "text": "psst"})
    assert ben.receive() == {"by": "ann", "text": "psst"}
    ben.send({"to": "ann", "text": "what?"})
    assert ann.receive() == {"by": "ben", "text": "what?"}


@pytest.mark.parametrize("path", ["/drf/", "/behind-sessions/"])
def test_tokens_of_rest_framework(server: Server, people: People, path: str):
    ann, ben = people["ann"]["token"], people["ben"]["token"]
    with with_header(server, path, f"Token {ann}") as first, in_query(server, path, ben) as second:
        talk(first, second)


def test_json_web_tokens(server: Server, people: People):
    ann, ben = people["ann"]["jwt"], people["ben"]["jwt"]
    with with_header(server, "/jwt/", f"Bearer {ann}") as first, in_query(server, "/jwt/", ben) as second:
        talk(first, second)


def test_a_kind_of_token_of_our_own(server: Server, people: People):
    def connect(name: str) -> AbstractContextManager[Socket]:
        return server.connect("/cookie/", additional_headers={"Cookie": f"theme=dark; user_id={people[name]['id']}"})

    with connect("ann") as first, connect("ben") as second:
        talk(first, second)


@pytest.mark.parametrize("path", ["/drf/", "/behind-sessions/", "/jwt/", "/cookie/", "/drf/?token=" + 40 * "0"])
def test_who_has_no_token_is_rejected(server: Server, path: str):
    with pytest.raises(InvalidStatus) as rejected, server.connect(path):
        pass

    assert rejected.value.response.status_code == 403
