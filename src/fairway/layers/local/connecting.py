"""How a process reaches the broker, and starts one if it may."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from fairway.layers.backplane import Refused, Unavailable
from fairway.layers.local.link import Link
from fairway.layers.local.place import Misplaced, Place

NO_BROKER = (
    "no broker listens at {}: it is started by the first server or worker of the project (fairway, runserver, "
    "runworker), or by python -m fairway.layers.local"
)


async def connect(link: Link, place: Place, start_broker: Callable[[], Awaitable[None]] | None) -> None:
    """Connect the link. Raises `Refused` if somebody else is there, `Unavailable` if nobody is."""
    try:
        place.check()
        connection = await _reach(place, start_broker)
        try:
            place.check_peer(connection)
        except BaseException:
            connection.close()
            raise
    except Misplaced as error:
        raise Refused(str(error)) from None
    await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=connection)


async def _reach(place: Place, start_broker: Callable[[], Awaitable[None]] | None) -> socket.socket:
    try:
        return _connected(place)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        if start_broker is None:
            raise Unavailable(NO_BROKER.format(place.path)) from error
    await start_broker()
    try:
        return _connected(place)
    except (FileNotFoundError, ConnectionRefusedError):
        raise Unavailable(f"the broker at {place.path} is being started") from None


def _connected(place: Place) -> socket.socket:
    """A connection, which a Unix socket has at once or not at all."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        connection.connect(place.path)
    except OSError as error:
        connection.close()
        if isinstance(error, PermissionError):
            raise Refused(f"{place.path} is not for this user: give both a group (CHANNEL_LAYERS, CONFIG)") from None
        if isinstance(error, BlockingIOError):
            raise Unavailable(f"the broker at {place.path} accepts no connections: it hangs, or has too many") from None
        raise
    return connection
