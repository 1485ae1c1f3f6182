"""Microseconds from a message to its receivers inside the process: payload, inbox, group to 1,000 members, also of
another event loop in another thread.

Run ``python bench/micro/delivery.py``. The members' connections are fake. Where they have no socket a broadcast ends in
a real `Outbox`, whose transport keeps nothing: that is all that Python does for a member but the system call. Where
they have one it is written to, and the same writes alone stand beside it.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Awaitable, Callable

from measuring import microseconds, report

from fairway.asgi.websocket import WebSocketExchange
from fairway.delivery import Inbox, Member, Payload
from fairway.layers.hub import Hub
from fairway.protocols.websocket.frames import PLAIN
from fairway.server.output.batch import Batch
from fairway.server.output.outbox import Outbox

MEMBERS = 1000
TEXT = "x" * 120
EVENT = {"type": "chat.message", "text": TEXT, "author": "somebody", "id": 12345}
NESTED = {"type": "chat.message", "message": {"text": TEXT, "author": "somebody", "tags": ["a", "b"]}}


class NullTransport(asyncio.Transport):
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: object) -> None:
        pass


class FakeConnection(WebSocketExchange):
    """As much of a connection as a broadcast touches."""

    __slots__ = ()

    def __init__(self, loop: asyncio.AbstractEventLoop, batch: Batch, endpoint: socket.socket | None) -> None:
        self.inbox = Inbox(loop)
        self.is_open = True
        self.encoder = PLAIN
        self.outbox = Outbox(NullTransport(), batch, 65536, 1 << 20, endpoint)


def group_of(
    loop: asyncio.AbstractEventLoop, parked: bool, endpoints: list[socket.socket] | None = None
) -> tuple[Hub, list[FakeConnection], Batch]:
    hub, batch = Hub(lambda channel: 100), Batch(loop)
    connections = []
    for number in range(MEMBERS):
        connection = FakeConnection(loop, batch, endpoints[number] if endpoints else None)
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
        while batch.fanout.is_busy:
            batch.flush()

    report("group_broadcast by outboxes, to the transports", microseconds(broadcast, MEMBERS))


def to_another_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Messages for members that live in another loop, from the call until they are in all inboxes and taken."""
    print(f"group of {MEMBERS} in another loop, in another thread, per member")
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()

    async def connect() -> tuple[Hub, list[FakeConnection]]:
        hub, connections, _ = group_of(other, parked=False)
        return hub, connections

    hub, connections = asyncio.run_coroutine_threadsafe(connect(), other).result()
    taken = threading.Event()

    def take() -> None:
        for connection in connections:
            assert connection.inbox.take_nowait() is not None
        taken.set()

    def until_taken(send: Callable[[], Awaitable[None] | None]) -> None:
        loop.run_until_complete(delivered(send))
        other.call_soon_threadsafe(take)
        taken.wait()
        taken.clear()

    report("group_send of a flat event", microseconds(lambda: until_taken(lambda: hub.group_send("g", EVENT)), MEMBERS))
    payload = Payload(TEXT)
    report("group_broadcast", microseconds(lambda: until_taken(lambda: hub.group_broadcast("g", payload)), MEMBERS))
    other.call_soon_threadsafe(other.stop)
    thread.join()
    other.close()


def by_a_sweep(loop: asyncio.AbstractEventLoop) -> None:
    pairs = [socket.socketpair() for _ in range(MEMBERS)]
    endpoints, peers = [one for one, _ in pairs], [other for _, other in pairs]
    for endpoint in endpoints:
        endpoint.setblocking(False)
    hub, _, batch = group_of(loop, parked=True, endpoints=endpoints)
    frame = PLAIN.encode_text(TEXT)

    def broadcast() -> None:
        loop.run_until_complete(delivered(lambda: hub.group_broadcast("g", Payload(TEXT))))
        while batch.fanout.is_busy:
            batch.flush()

    def sends() -> None:
        for endpoint in endpoints:
            endpoint.send(frame)

    best = {broadcast: float("inf"), sends: float("inf")}
    for _ in range(20):
        for call in best:
            began = time.perf_counter()
            call()
            best[call] = min(best[call], time.perf_counter() - began)
            for peer in peers:
                assert len(peer.recv(65536)) == len(frame)
    note = f"the writes alone: {best[sends] / MEMBERS * 1e6:.3f}"
    report("group_broadcast by a sweep, to Unix sockets", best[broadcast] / MEMBERS * 1e6, note)
    for pair in pairs:
        for one in pair:
            one.close()


async def delivered(send: Callable[[], Awaitable[None] | None]) -> None:
    under_way = send()
    if under_way is not None:
        await under_way


def main() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    one_at_a_time(loop)
    to_a_group(loop)
    to_another_loop(loop)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    by_a_sweep(loop)
    loop.close()


if __name__ == "__main__":
    main()
