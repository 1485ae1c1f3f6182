"""`Config`: what it refuses, and the sockets that it opens."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairway.server.config import BindError, Config
from fairway.server.limits import ConfigurationError


@contextmanager
def bound(config: Config) -> Iterator[list[socket.socket]]:
    sockets = config.bind()
    try:
        yield sockets
    finally:
        for listening in sockets:
            listening.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="the machine has no IPv6")


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_has_a_range(port: int):
    with pytest.raises(ConfigurationError, match=f"^port must be between 0 and 65535, not {port}$"):
        Config(port=port)


@pytest.mark.parametrize("root_path", ["app", "app/", "http://a/app"])
def test_root_path_starts_with_a_slash(root_path: str):
    with pytest.raises(ConfigurationError, match=r'^root_path must start with a slash, as in "/app", not '):
        Config(root_path=root_path)


@pytest.mark.parametrize(("root_path", "kept"), [("/app/", "/app"), ("/app//", "/app"), ("/", ""), ("", "")])
def test_root_path_is_kept_without_a_slash_at_its_end(root_path: str, kept: str):
    assert Config(root_path=root_path).root_path == kept


def test_unix_socket_and_descriptor_exclude_each_other():
    with pytest.raises(ConfigurationError, match=r"^give either a Unix socket or a file descriptor, not both$"):
        Config(uds="/tmp/a", fd=3)


def test_lifespan_has_three_modes():
    with pytest.raises(ConfigurationError, match=r"^lifespan must be \"auto\", \"on\" or \"off\", not 'perhaps'$"):
        Config(lifespan="perhaps")  # type: ignore[arg-type]


def test_port_zero_takes_a_free_one_and_listens_without_blocking():
    with bound(Config(port=0)) as [listening]:
        port = listening.getsockname()[1]

        assert port > 0
        assert not listening.getblocking()
        with socket.create_connection(("127.0.0.1", port)):
            assert listening.accept()[0].close() is None


def test_every_address_of_a_host_has_the_same_port():
    with bound(Config(host="localhost", port=0)) as sockets:
        assert len({listening.getsockname()[1] for listening in sockets}) == 1
        families = [listening.family for listening in sockets]
        assert len(families) == len(set(families))
        assert socket.AF_INET in families


@needs_ipv6
def test_ipv6_does_not_take_the_ipv4_port():
    with bound(Config(host="::", port=0)) as [six]:
        port = six.getsockname()[1]
        with bound(Config(host="0.0.0.0", port=port)) as [four]:
            assert four.getsockname() == ("0.0.0.0", port)


def test_port_in_use_names_the_port_and_what_to_do():
    with bound(Config(port=0)) as [listening]:
        port = listening.getsockname()[1]
        with pytest.raises(BindError) as caught:
            Config(port=port).bind()

    assert caught.value.errno == errno.EADDRINUSE
    assert str(caught.value) == (
        f"port {port} is already in use: stop the program that has it, or choose another one with --port"
    )


def test_port_can_be_taken_again_at_once():
    with bound(Config(port=0)) as [listening]:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted = listening.accept()[0]
            accepted.close()  # the server closes first: its end waits in TIME_WAIT
            assert client.recv(1) == b""

    with bound(Config(port=port)) as [again]:
        assert again.getsockname()[1] == port


def test_an_ipv6_address_may_be_written_as_in_a_url():
    (listening,) = Config(host="[::1]", port=0).bind()
    with listening:
        assert listening.getsockname()[0] == "::1"


def test_foreign_address_is_named():
    with pytest.raises(
        BindError, match=r"^cannot listen on 192\.0\.2\.1: the address does not belong to this machine$"
    ):
        Config(host="192.0.2.1", port=0).bind()


def test_unknown_host_is_named():
    with pytest.raises(BindError, match=r"^cannot listen on host 'no such host': it has no address here; use 127\.0"):
        Config(host="no such host", port=0).bind()


def test_unix_socket_is_open_to_other_users_and_removed_on_request(tmp_path: Path):
    path = tmp_path / "server.sock"
    config = Config(uds=str(path))

    with bound(config) as [listening]:
        assert listening.family == socket.AF_UNIX
        assert path.stat().st_mode & 0o777 == 0o666
        config.unlink_unix_socket()
        config.unlink_unix_socket()

    assert not path.exists()


def test_stale_unix_socket_is_replaced(tmp_path: Path):
    config = Config(uds=str(tmp_path / "server.sock"))
    with bound(config):
        pass  # closed without being unlinked, as by a killed process

    with bound(config) as [listening], socket.socket(socket.AF_UNIX) as client:
        client.connect(config.uds)
        listening.accept()[0].close()


def test_unix_socket_that_answers_is_left_alone(tmp_path: Path):
    config = Config(uds=str(tmp_path / "server.sock"))
    with bound(config) as [listening]:
        with pytest.raises(BindError, match=r"another server answers there; stop it first$") as caught:
            config.bind()
        listening.accept()[0].close()  # the question itself

        assert caught.value.errno == errno.EADDRINUSE
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(config.uds)


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path):
    path = tmp_path / "precious.txt"
    path.write_text("data")

    with pytest.raises(BindError, match=r"a file that is not a socket has that name$"):
        Config(uds=str(path)).bind()
    assert path.read_text() == "data"


def test_unix_socket_in_a_missing_folder_is_named(tmp_path: Path):
    path = tmp_path / "missing" / "server.sock"

    with pytest.raises(BindError, match=f"^cannot listen on the Unix socket {path}: no such file or directory$"):
        Config(uds=str(path)).bind()


@pytest.mark.parametrize("listens", [True, False])
def test_descriptor_is_taken_over(listens: bool):
    parent = socket.socket()
    parent.bind(("127.0.0.1", 0))
    if listens:
        parent.listen()

    with bound(Config(fd=parent.detach())) as [inherited], socket.create_connection(inherited.getsockname()):
        assert not inherited.getblocking()
        inherited.accept()[0].close()


def test_descriptor_that_is_no_socket_is_named(tmp_path: Path):
    with (tmp_path / "file").open("w") as file:
        number = file.fileno()
        with pytest.raises(BindError, match=f"^file descriptor {number} is not an open socket that was handed over$"):
            Config(fd=number).bind()


def test_datagram_descriptor_is_refused_and_left_open():
    with socket.socket(type=socket.SOCK_DGRAM) as datagram:
        with pytest.raises(BindError, match=r"is a socket, but not a stream socket$"):
            Config(fd=datagram.fileno()).bind()
        os.fstat(datagram.fileno())


def test_connected_descriptor_is_refused_and_left_open():
    left, right = socket.socketpair()
    with left, right:
        with pytest.raises(BindError, match=f"^file descriptor {left.fileno()} is a socket that cannot listen$"):
            Config(fd=left.fileno()).bind()
        os.fstat(left.fileno())
