"""Where the broker's socket is, and who may be there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fairway.layers.local import place
from fairway.layers.local.place import Misplaced, Place, default_place, given_place
from fairway.layers.local.project import place_of, project_folder


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(place, "BASE", str(tmp_path))
    return tmp_path


def test_it_depends_on_project_and_prefix_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = default_place("/srv/shop", "fairway")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setenv("TMPDIR", "/elsewhere")

    assert default_place("/srv/shop", "fairway") == first
    assert (
        len({default_place(*key).path for key in (("/srv/shop", "a"), ("/srv/shop", "ab"), ("/srv/shopa", "b"))}) == 3
    )
    assert first.path.startswith(f"/tmp/fairway-{os.getuid()}/shop-")


def test_its_folder_is_made_for_this_user_alone(base: Path) -> None:
    ours = default_place("/srv/shop", "fairway")

    ours.check()
    ours.prepare()
    ours.prepare()

    assert os.stat(os.path.dirname(ours.path)).st_mode & 0o777 == 0o700


def test_a_link_in_its_place_is_refused(base: Path) -> None:
    ours = default_place("/srv/shop", "fairway")
    (base / "elsewhere").mkdir(0o700)
    os.symlink(base / "elsewhere", os.path.dirname(ours.path))

    for look in (ours.prepare, ours.check):
        with pytest.raises(Misplaced, match="is not a folder of ours, but a link or a file"):
            look()


def test_a_folder_that_others_may_change_is_refused(base: Path) -> None:
    ours = default_place("/srv/shop", "fairway")
    ours.prepare()
    os.chmod(os.path.dirname(ours.path), 0o770)

    with pytest.raises(Misplaced, match="is open to others: chmod 700 it"):
        ours.check()


def test_a_folder_of_somebody_else_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = default_place("/srv/shop", "fairway")
    ours.prepare()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)

    with pytest.raises(Misplaced, match=f"belongs to user {owner}, not to {owner + 1}"):
        ours.check()


def test_a_unit_with_a_folder_of_its_own_is_told_so(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 8:1 /tmp/systemd-private-ab-shop.service-x/tmp {base} rw - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(place, "_MOUNTS", str(mounts))

    with pytest.raises(Misplaced, match=r"this unit has a .* of its own \(PrivateTmp\)"):
        default_place("/srv/shop", "fairway").prepare()


@pytest.mark.parametrize(
    ("path", "group", "said"),
    [
        ("/" + "x" * 108, None, "socket has 109 bytes, and a Unix socket's path at most"),
        ("fairway.sock", None, "give a path that begins with /"),
        ("/run/fairway.sock", "no-such-group", "there is no group 'no-such-group' on this machine"),
        (None, "users", "group lets other users in, who look elsewhere: give a path in socket, too"),
    ],
)
def test_settings_that_make_no_sense_are_refused(path: str | None, group: str | None, said: str) -> None:
    with pytest.raises(Misplaced, match=said):
        place_of("fairway", path, group)


def test_a_platform_without_unix_sockets_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")

    for make in (lambda: default_place("/srv/shop", "fairway"), lambda: given_place("/run/fairway.sock")):
        with pytest.raises(Misplaced, match="the local layer needs Unix sockets, which Python lacks here"):
            make()


def test_the_project_is_that_of_the_settings() -> None:
    assert os.path.isabs(project_folder())
    assert place_of("fairway") == default_place(project_folder(), "fairway")
    assert place_of("fairway", "/run/fairway.sock", os.getgid()) == Place("/run/fairway.sock", False, os.getgid())


class ConnectionOf(socket.socket):
    """A stand-in for a connection from a user whom a test cannot be."""

    def __init__(self, user: int, group: int) -> None:
        super().__init__(socket.AF_UNIX)
        self.owner = (user, group)


@pytest.fixture
def of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_peer", lambda connection: connection.owner)


def test_this_user_is_let_in() -> None:
    one, other = socket.socketpair()
    with one, other:
        given_place("/run/fairway.sock").check_peer(one)


def test_other_users_are_not(of_others: None) -> None:
    with (
        ConnectionOf(os.getuid() + 4711, os.getgid() + 4711) as connection,
        pytest.raises(Misplaced, match=f"is user {os.getuid() + 4711}, whom this process, of user {os.getuid()}"),
    ):
        given_place("/run/fairway.sock").check_peer(connection)


def test_members_of_the_group_are(of_others: None) -> None:
    group = os.getgid() + 4711
    shared = Place("/run/fairway.sock", is_ours=False, group=group)

    with ConnectionOf(os.getuid() + 4711, group) as connection:
        shared.check_peer(connection)
    with ConnectionOf(os.getuid() + 4711, group + 1) as connection, pytest.raises(Misplaced, match="does not know"):
        shared.check_peer(connection)
