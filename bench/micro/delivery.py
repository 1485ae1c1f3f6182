"""Microseconds from a message to its receivers inside the process: payload, inbox, group to 1,000 members.

Run ``python bench/micro/delivery.py``. The members' connections are fake: a broadcast ends in a real `Outbox`, whose
transport keeps nothing, so what is measured is all that Python does for a member but the system call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from measuring import microseconds, report

from fairway.delivery import Inbox, Member, Payload
from fairway.layers.hub import Hub
from fairway.protocols.websocket.frames import PLAIN
from fairway.server.batch import Batch
from fairway.server.outbox import Outbox
from fairway.server.sending import SendingHalf

MEMBERS = 1000
TEXT = "x" * 120
EVENT = {"type": "chat.message", "text": TEXT, "author": "somebody", "id": 12345}
NESTED = {"type": "chat.message", "message": {"text": TEXT, "author": "somebody", "tags": ["a", "b"]}}


class NullTransport(asyncio.Transport):
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: object) -> None:
        pass


class FakeConnection(SendingHalf):
    """As much of a driver as a broadcast touches."""

    __slots__ = ()

    def __init__(self, loop: asyncio.AbstractEventLoop, batch: Batch) -> None:
        self.inbox = Inbox(loop)
        self.is_open = True
        self.encoder = PLAIN
        self.outbox = Outbox(NullTransport(), batch, loop, 65536)


def group_of(loop: asyncio.AbstractEventLoop, parked: bool) -> tuple[Hub, list[FakeConnection], Batch]:
    hub, batch = Hub(lambda channel: 100), Batch(loop)
    connections = []
    for number in range(MEMBERS):
        connection = FakeConnection(loop, batch)
        member = Member(f"specific.!{number}", connection.inbox, 100, connection)
        hub.attach(member)
        hub.group_add("g", member.name)
        if parked:
            connection.inbox.wait()
        connections.append(connection)
    return hub, connections, batch


def one_at_a_time(loop: asyncio.AbstractEventLoop) -> None:
    print("one")
    payload = Payload(TEXT)
    payload.form(PLAIN)
    report("Payload() and its first form", microseconds(lambda: Payload(TEXT).form(PLAIN)))
    report("Payload.form, made before", microseconds(lambda: payload.form(PLAIN)))
    inbox = Inbox(loop)

    def client() -> None:
        inbox.put_client(TEXT)
        inbox.take_nowait()

    def layer() -> None:
        inbox.put_layer(EVENT, 100)
        inbox.take_nowait()

    def waiter() -> None:
        inbox.wait()
        inbox.put_client(TEXT)

    report("Inbox, client lane, put and take", microseconds(client))
    report("Inbox, layer lane, put and take", microseconds(layer))
    report("Inbox, wait and put", microseconds(waiter))


def to_a_group(loop: asyncio.AbstractEventLoop) -> None:
    print(f"group of {MEMBERS}, per member")
    hub, connections, _ = group_of(loop, parked=False)

    def send(event: dict[str, object]) -> None:
        # In a running loop: for a caller outside it the hub leaves each delivery to `call_soon_threadsafe`.
        loop.run_until_complete(delivered(lambda: hub.group_send("g", event)))
        for connection in connections:
            assert connection.inbox.take_nowait() is not None

    def take_only() -> None:
        for connection in connections:
            assert connection.inbox.take_nowait() is None

    note = f"asking: {microseconds(take_only, MEMBERS):.3f}"
    report("group_send of a flat event, and taking it", microseconds(lambda: send(EVENT), MEMBERS), note)
    report("group_send of a nested event, and taking it", microseconds(lambda: send(NESTED), MEMBERS))
    hub, connections, batch = group_of(loop, parked=True)

    def broadcast() -> None:
        loop.run_until_complete(delivered(lambda: hub.group_broadcast("g", Payload(TEXT))))
        while batch.crowd:
            batch.flush()

    report("group_broadcast to parked consumers, to the transport", microseconds(broadcast, MEMBERS))


async def delivered(send: Callable[[], Awaitable[None] | None]) -> None:
    under_way = send()
    if under_way is not None:
        await under_way


def main() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    one_at_a_time(loop)
    to_a_group(loop)
    loop.close()


if __name__ == "__main__":
    main()
