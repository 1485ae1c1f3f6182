"""What waits in inboxes and outboxes, looked at some connections at a time."""

from __future__ import annotations

from typing import Any

import pytest

from fairway.server.management import waiting
from fairway.server.management.waiting import Waiting


class StandIn:
    """A connection, as far as its unsent bytes count: it is its own outbox and transport."""

    def __init__(self, size: int, held: int | None = None) -> None:
        self.size = size
        self.blocked = held is not None
        self.held = held
        self.outbox = self.transport = self

    def get_write_buffer_size(self) -> int:
        assert self.held is not None, "asked for although the socket takes everything"
        return self.held


class Arriving:
    """A socket in its TLS handshake, which has no outbox."""


def test_unsent_bytes_are_those_of_outboxes_and_of_blocked_transports() -> None:
    found = Waiting(lambda: [StandIn(10), StandIn(0), StandIn(5, held=100), Arriving()]).look()
    assert found == {"messages": 0, "most_messages": 0, "bytes": 115, "most_bytes": 105}


def test_of_many_connections_some_are_looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOKED_AT", 2)
    open_ones: list[Any] = [StandIn(size) for size in (1, 2, 3)]
    looking = Waiting(lambda: open_ones)
    assert looking.look()["bytes"] == 0
    assert looking.look()["bytes"] == 6
    open_ones[:] = [StandIn(50)]
    assert looking.look() == {"messages": 0, "most_messages": 0, "bytes": 50, "most_bytes": 50}
    open_ones.clear()
    assert looking.look()["most_bytes"] == 0
