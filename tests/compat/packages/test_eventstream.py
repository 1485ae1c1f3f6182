"""django-eventstream: Server-Sent Events from Django's own views, within a process and, by Redis, between two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.compat.packages.serving import DEADLINE, MakeProject, Server
from tests.services.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Events = Iterator[tuple[str, object]]


@contextmanager
def listening(server: Server) -> Iterator[Events]:
    """The events of a stream that is open."""
    with httpx.stream("GET", server.url("/events/"), timeout=DEADLINE) as response:
        assert response.headers["content-type"] == "text/event-stream"
        events = read(response)
        assert next(events) == ("stream-open", None)
        yield events


def read(response: httpx.Response) -> Events:
    event: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(":")
            event[name] = value.strip()
        elif "event" in event:
            yield event["event"], json.loads(event["data"] or "null")
            event = {}


def say(server: Server, text: str) -> None:
    assert httpx.get(server.url(f"/say/{text}/"), timeout=DEADLINE).text == "said"


def test_two_streams_of_a_process(make_project: MakeProject):
    with make_project("events").served() as server, listening(server) as ann, listening(server) as ben:
        say(server, "hello")
        assert next(ann) == next(ben) == ("message", {"text": "hello"})


def test_a_stream_for_each_of_two_processes(make_project: MakeProject, redis: RedisServer):
    project = make_project("events", REDIS_PORT=redis.port)
    with project.served() as one, project.served() as other, listening(one) as ann, listening(other) as ben:
        for server in (one, other):
            say(server, "hello")
            assert next(ann) == next(ben) == ("message", {"text": "hello"})
