"""The broker's listening socket, which has to stay where processes look for it.

Whoever may write to the folder can remove the socket's file, and so does what cleans `/tmp`. Processes that are
connected do not notice, but no other would find the broker. So the broker looks at the file every second. If the file
has gone, it makes another one. If somebody else's is in its place, the broker has to end: with its lock file removed as
well, another one could start, and two would divide the processes between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable

from fairway.layers.local.place import Misplaced, Place

_BACKLOG = 1024


def listen(place: Place) -> socket.socket:
    """Make a listening socket at the place. An old one there is removed: only the holder of the lock may call this.

    Raises `Misplaced` if there is a file that is no socket: it is somebody's, and the path is a mistake.
    """
    path, group = place.path, place.group
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if not (stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)):
            raise Misplaced(f"{path} is a file that is no socket: it stays; give another path in socket, or remove it")
        os.unlink(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177 if group is None else 0o117)
    try:
        listening.bind(path)
        if group is not None:
            os.chown(path, -1, group)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(before)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


class Listening:
    """Accepts connections at a place, from `begin` to `end`. `make_peer` makes what is told of each."""

    def __init__(self, place: Place, make_peer: Callable[[], asyncio.Protocol]) -> None:
        self._place = place
        self._make_peer = make_peer
        self._server: asyncio.Server | None = None
        self._file: tuple[int, ...] | None = None

    async def begin(self, listening: socket.socket) -> None:
        """Accept what connects to this socket, which `listen` has made."""
        self._file = _file_at(self._place.path)
        self._server = await asyncio.get_running_loop().create_unix_server(self._make_peer, sock=listening)

    async def stands(self) -> bool:
        """Whether processes find this socket, if need be with a new file. False if another one is there."""
        found = _file_at(self._place.path)
        if found is not None and found == self._file:
            return True
        self.close()
        if found is not None:
            return False
        try:
            await self.begin(listen(self._place))
        except (OSError, Misplaced):  # the whole folder has gone, for example, or a file has come
            return False
        return True

    def close(self) -> None:
        """Accept no more connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def end(self) -> None:
        """`close`, and remove the file unless it is somebody else's."""
        self.close()
        if self._file is not None and _file_at(self._place.path) == self._file:
            with contextlib.suppress(OSError):
                os.unlink(self._place.path)


def _file_at(path: str) -> tuple[int, ...] | None:
    """What tells a file from all others; None if there is none. The number of a removed file may be given again."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
