"""Where the broker's socket is, and who may connect to it.

All processes of a project must find the same place, however they are started. So it depends on the project's folder,
the user and the prefix, and on nothing in the environment, not even TMPDIR or XDG_RUNTIME_DIR. It is

    /tmp/fairway-<uid>/<project>-<hash of project and prefix>.sock

in a folder that belongs to this user alone. The settings `socket` and `group` move it elsewhere, for several users or
containers. Beside the socket are two lock files: a broker holds `.lock` while it lives, and whoever starts a broker
holds `.starting` meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import struct
import sys
from dataclasses import dataclass

from fairway.layers.errors import InvalidChannelLayerError

BASE = "/tmp"
"""A sticky folder on every system, and the same one for every process, unless a unit has a private one."""

_MOUNTS = "/proc/self/mountinfo"
_LONGEST = 103 if sys.platform == "darwin" else 107
_ADVICE = "give a path in socket (CHANNEL_LAYERS, CONFIG)"


class Misplaced(InvalidChannelLayerError):
    """The broker's socket cannot be where it should be, or somebody else is there."""


@dataclass(frozen=True)
class Place:
    """The path of a socket. `is_ours`: we make its folder. `group`: the id of a group whose members may also use it."""

    path: str
    is_ours: bool
    group: int | None = None

    @property
    def lock(self) -> str:
        """The file that a broker locks until its process ends."""
        return f"{self.path}.lock"

    @property
    def starting(self) -> str:
        """The file that a process locks while it starts a broker."""
        return f"{self.path}.starting"

    def prepare(self) -> None:
        """Make our folder, unless it exists. Raises `Misplaced` if it cannot be trusted."""
        folder = os.path.dirname(self.path)
        if self.is_ours:
            _check_that_it_is_shared()
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                pass
            except OSError as error:
                raise Misplaced(f"the folder {folder} cannot be made: {error.strerror}; {_ADVICE}") from None
        self.check()

    def check(self) -> None:
        """Raise `Misplaced` if anybody else can change the folder. Does nothing if there is no folder."""
        if not self.is_ours:
            return
        folder = os.path.dirname(self.path)
        try:
            found = os.lstat(folder)
        except OSError:
            return
        if not stat.S_ISDIR(found.st_mode):
            raise Misplaced(f"{folder} is not a folder of ours, but a link or a file: remove it, or {_ADVICE}")
        if found.st_uid != os.getuid():
            raise Misplaced(f"{folder} belongs to user {found.st_uid}, not to {os.getuid()}: remove it, or {_ADVICE}")
        if found.st_mode & 0o077:
            raise Misplaced(f"{folder} is open to others: chmod 700 it, when you know why, or {_ADVICE}")

    def check_peer(self, connection: socket.socket) -> None:
        """Raise `Misplaced` if the user at the other end may not be there."""
        user, group = _peer(connection)
        if user not in (os.getuid(), 0) and not (self.group is not None and _is_member(user, group, self.group)):
            raise Misplaced(
                f"at the other end of {self.path} is user {user}, whom this process, of user {os.getuid()}, does not "
                "know: give both a group in CHANNEL_LAYERS, CONFIG, or run both as one user"
            )


def default_place(project: str, prefix: str) -> Place:
    """The place for a project (its folder) and a prefix. Raises `Misplaced` if there are no Unix sockets."""
    _check_platform()
    key = hashlib.blake2b(f"{project}\0{prefix}".encode(), digest_size=8).hexdigest()
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", os.path.basename(project))[:32] or "project"
    return Place(f"{_folder()}/{name}-{key}.sock", is_ours=True)


def given_place(path: str, group: str | int | None = None) -> Place:
    """The place that settings give. Raises `Misplaced` if the path is too long, or there is no such group."""
    _check_platform()
    if not os.path.isabs(path):
        raise Misplaced(f"socket is {path!r}: give a path that begins with /, so that every process finds it")
    if len(os.fsencode(path)) > _LONGEST:
        raise Misplaced(f"socket has {len(os.fsencode(path))} bytes, and a Unix socket's path at most {_LONGEST}")
    is_ours = group is None and os.path.dirname(path) == _folder()
    return Place(path, is_ours, None if group is None else _group(group))


def _folder() -> str:
    return f"{BASE}/fairway-{os.getuid()}"


def _check_platform() -> None:
    if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
        raise Misplaced("the local layer needs Unix sockets, which Python lacks here: use the layer over Redis")


def _check_that_it_is_shared() -> None:
    """Raise `Misplaced` under systemd's PrivateTmp, where no process outside the unit would find the socket."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="replace") as mounts:
            rows = [line.split() for line in mounts]
    except OSError:
        return
    if any(len(row) > 4 and row[4] == BASE and "/systemd-private-" in row[3] for row in rows):
        raise Misplaced(f"this unit has a {BASE} of its own (PrivateTmp), where no other process finds it: {_ADVICE}")


def _group(name: str | int) -> int:
    if isinstance(name, int):
        return name
    import grp  # not on Windows

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Misplaced(f"there is no group {name!r} on this machine (CHANNEL_LAYERS, CONFIG)") from None


def _is_member(user: int, primary: int, group: int) -> bool:
    if primary == group:
        return True
    import grp
    import pwd

    try:
        return pwd.getpwuid(user).pw_name in grp.getgrgid(group).gr_mem or pwd.getpwuid(user).pw_gid == group
    except KeyError:  # not in the lists of this machine
        return False


def _peer(connection: socket.socket) -> tuple[int, int]:
    """User and group of the process at the other end."""
    if hasattr(socket, "SO_PEERCRED"):
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, user, group = struct.unpack("3i", raw)
        return user, group
    # LOCAL_PEERCRED of macOS and the BSDs: struct xucred, with its version, the user, how many groups, and these.
    raw = connection.getsockopt(0, 0x001, 76)
    user, count = struct.unpack_from("=4xIh2x", raw)
    return user, struct.unpack_from("=I", raw, 12)[0] if count else -1
