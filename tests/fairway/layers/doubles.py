"""What the tests of the layers share: hubs with members, a clock, and connections without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fairway.delivery import Connection, Inbox, Member, Payload
from fairway.layers.hub import Hub
from fairway.protocols.websocket.frames import PLAIN


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def new_hub(capacity: int = 100, **options: Any) -> Hub:
    return Hub(lambda channel: capacity, **options)


def new_member(hub: Hub, name: str = "m", capacity: int = 100) -> Member:
    member = Member(name, Inbox(asyncio.get_running_loop()), capacity)
    hub.attach(member)
    return member


def waiting(member: Member) -> list[Any]:
    """Take all that waits in the member's inbox."""
    items = []
    while (item := member.inbox.take_nowait()) is not None:
        items.append(item)
    return items


class FakeConnection(Connection):
    """Keeps what it is to write; with a fanout it is written to together with others."""

    __slots__ = ("_fanout", "payloads")

    def __init__(self, inbox: Inbox, fanout: FakeFanout | None = None) -> None:
        self.inbox = inbox
        self.is_open = True
        self.encoder = PLAIN
        self.payloads: list[Payload] = []
        self._fanout = fanout

    @property
    def fanout(self) -> FakeFanout | None:
        return self._fanout

    def broadcast(self, payload: Payload) -> None:
        self.payloads.append(payload)


class FakeFanout:
    """Writes to all its connections in one call, and counts the calls."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.calls = 0

    def in_order(self, connections: Iterable[Connection]) -> list[Connection]:
        return sorted(connections, key=lambda one: id(one.encoder))

    def recipients_of(self, connections: Sequence[Connection]) -> FakeRecipients:
        assert all(one.is_open for one in connections)
        assert len(set(connections)) == len(connections)
        return FakeRecipients(connections)

    def broadcast(self, recipients: FakeRecipients, payload: Payload, without: Collection[int] = ()) -> list[int]:
        self.calls += 1
        others = []
        for index, one in enumerate(recipients):
            if index in without:
                continue
            if one.is_open and one.inbox.parked:
                one.broadcast(payload)
            else:
                others.append(index)
        return others


class FakeRecipients(tuple[Connection, ...]):
    def index_of(self, connection: Connection) -> int | None:
        return self.index(connection) if connection in self else None


def join(hub: Hub, name: str, fanout: FakeFanout, group: str = "g") -> tuple[Member, FakeConnection]:
    """A member of the group whose connection belongs to the fanout, and whose consumer waits."""
    inbox = Inbox(asyncio.get_running_loop())
    connection = FakeConnection(inbox, fanout)
    member = Member(name, inbox, connection=connection)
    hub.attach(member)
    hub.group_add(group, name)
    inbox.wait()
    return member, connection
