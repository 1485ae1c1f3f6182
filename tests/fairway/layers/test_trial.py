"""`fairway.layers.trial`: a layer of each kind that works, and what may be wrong with one, said in a sentence.

Redis, the broker and TLS are real; a Redis that is too old is a socket that answers as one does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.contracts.foreign import QueueLayer
from tests.fairway.layers.redis.rights import documented
from tests.services.local import broker_process
from tests.services.redis import RedisServer, free_port, redis_server

from channels.layers import BaseChannelLayer, InMemoryChannelLayer
from fairway.layers.forwarding import ForwardingChannelLayer
from fairway.layers.local import LocalChannelLayer, place
from fairway.layers.local.place import Place
from fairway.layers.redis import RedisChannelLayer
from fairway.layers.trial import Outcome, tried

DEADLINE = 30.0


def works(outcome: Outcome) -> bool:
    assert (outcome.problem, outcome.advice, outcome.lacks) == ("", "", ())
    return 0 < outcome.seconds < DEADLINE


# What works ---------------------------------------------------------------------------------------------------------


def test_the_layer_in_memory_works() -> None:
    assert works(tried(InMemoryChannelLayer, {}))


def test_a_layer_of_somebody_else_works() -> None:
    assert works(tried(QueueLayer, {}))


def test_a_layer_without_groups_works_and_lacks_them() -> None:
    class Groupless(QueueLayer):
        extensions = ["flush"]

    assert tried(Groupless, {}) == Outcome(lacks=("groups",))


@pytest.mark.slow
def test_the_layer_over_redis_works_and_leaves_nothing() -> None:
    with redis_server() as redis:
        assert works(tried(RedisChannelLayer, {"hosts": [redis.url], "prefix": "mysite"}))
        with redis.client() as client:
            assert client.keys("*queue*") == client.pubsub_channels() == []


@pytest.mark.slow
def test_the_layer_over_a_broker_works_and_the_broker_stays(tmp_path: Path) -> None:
    where = Place(str(tmp_path / "broker.sock"), is_ours=False)
    broker = broker_process(where)
    try:
        assert works(tried(LocalChannelLayer, {"socket": where.path}))
        assert sorted(os.listdir(tmp_path)) == ["broker.sock", "broker.sock.lock"]
        assert broker.poll() is None
    finally:
        broker.terminate()
        broker.wait(DEADLINE)


@pytest.mark.slow
def test_where_no_broker_listens_one_is_started_beside_and_ended(tmp_path: Path) -> None:
    assert works(tried(LocalChannelLayer, {"socket": str(tmp_path / "broker.sock")}, patience=DEADLINE))
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_the_layer_for_changing_over_works(redis: RedisServer) -> None:
    assert works(tried(ForwardingChannelLayer, {"old": QueueLayer(), "new": RedisChannelLayer([redis.url])}))


async def test_it_works_inside_of_an_event_loop_too() -> None:
    assert works(tried(InMemoryChannelLayer, {}))


# What is wrong with a Redis -----------------------------------------------------------------------------------------


def over_redis(host: Any, patience: float = 1.0, **options: Any) -> Outcome:
    return tried(RedisChannelLayer, {"hosts": [host], **options}, patience)


LONG = 10_000.0
"""Seconds that a trial may take which ends at once."""


def test_nothing_listens(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    outcome = over_redis(("127.0.0.1", port), LONG)
    assert outcome.problem.startswith(f"Redis at 127.0.0.1:{port} is away: ")
    assert "Connect call failed" in outcome.problem
    assert outcome.advice == "nothing listens there: start the service, or correct the address"
    assert caplog.records == []
    assert not logging.getLogger("fairway.layers").disabled


def test_there_is_no_such_socket() -> None:
    outcome = over_redis("unix:///nowhere/redis.sock", LONG)
    assert outcome.problem == "Redis at /nowhere/redis.sock is away: [Errno 2] No such file or directory"
    assert outcome.advice == "there is no such file: start the service, or correct the path"


@pytest.mark.slow
def test_one_of_several_hosts_is_away(redis: RedisServer) -> None:
    port = free_port()
    outcome = tried(RedisChannelLayer, {"hosts": [redis.url, ("127.0.0.1", port)]}, LONG)
    assert outcome.problem.startswith(f"Redis at 127.0.0.1:{port} is away: ")


@pytest.mark.slow
def test_the_new_one_of_two_is_away() -> None:
    new = RedisChannelLayer([("127.0.0.1", free_port())])
    outcome = tried(ForwardingChannelLayer, {"old": QueueLayer(), "new": new}, LONG)
    assert outcome.problem.startswith("Redis at 127.0.0.1:")


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    """A server of this test alone, whose users have passwords."""
    with redis_server() as redis:
        with redis.client() as client:
            client.acl_setuser("mysite", enabled=True, passwords=["+right"])
            client.execute_command("ACL", "SETUSER", "mysite", *documented("mysite").messages)
        yield redis


def of_user(redis: RedisServer, password: str = "right") -> str:
    return f"redis://mysite:{password}@{redis.host}:{redis.port}"


@pytest.mark.slow
def test_the_least_rights_are_enough(guarded: RedisServer) -> None:
    assert works(over_redis(of_user(guarded), prefix="mysite", patience=DEADLINE))


@pytest.mark.slow
def test_the_password_is_wrong(guarded: RedisServer) -> None:
    outcome = over_redis(of_user(guarded, "wrong"))
    assert outcome.problem.startswith("Redis refuses: WRONGPASS")
    assert outcome.advice == "check user and password in hosts (redis-cli -u URL ping)"


@pytest.mark.slow
def test_there_is_no_password(guarded: RedisServer) -> None:
    with guarded.client() as client:
        client.execute_command("ACL", "SETUSER", "default", ">secret")
        outcome = over_redis(guarded.url)
    assert outcome.problem.startswith("Redis refuses: NOAUTH")
    assert outcome.advice == "Redis asks for a password: put it into hosts"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "patience"),
    [("subscribe", 1.0), ("publish", DEADLINE), ("evalsha", 1.0), ("zrange", 1.0)],
)
def test_the_user_may_not_use_a_command(guarded: RedisServer, command: str, patience: float) -> None:
    with guarded.client() as client:
        client.execute_command("ACL", "SETUSER", "mysite", f"-{command}")
    outcome = over_redis(of_user(guarded), patience, prefix="mysite")
    assert "NOPERM" in outcome.problem
    assert f"'{command}'" in outcome.problem
    assert "give the user that command, key or channel (ACL SETUSER)" in outcome.advice


@pytest.mark.slow
def test_the_user_has_another_prefix(guarded: RedisServer) -> None:
    outcome = over_redis(of_user(guarded), prefix="shop")
    assert "no permissions to access one of the channels" in outcome.problem
    assert "give the user that command, key or channel (ACL SETUSER)" in outcome.advice


@contextlib.contextmanager
def answering(serve: Any) -> Iterator[int]:
    """A port; each connection to it is handed to the function, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)
    thread.join(DEADLINE)


def test_the_redis_is_too_old() -> None:
    def serve(connection: socket.socket) -> None:
        while connection.recv(4096):
            connection.sendall(b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n")

    with answering(serve) as port:
        outcome = over_redis(("127.0.0.1", port))
    assert outcome.problem.startswith("Redis refuses: ERR unknown command")
    assert outcome.advice == "Redis 6.2 or later is needed"


def test_nothing_answers() -> None:
    def serve(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    with answering(serve) as port:
        outcome = over_redis(f"rediss://127.0.0.1:{port}", 0.5)
    assert outcome.problem == f"Redis at 127.0.0.1:{port} is away: it has not been reached yet"
    assert outcome.advice == "nothing answers there: look at the address, the port, TLS or not, and firewalls between"


@pytest.fixture
def with_tls() -> Iterator[int]:
    """A port at which TLS is spoken, by a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.recv(4096)

    with answering(serve) as port:
        yield port


def test_the_certificate_is_not_trusted(with_tls: int) -> None:
    outcome = over_redis(f"rediss://127.0.0.1:{with_tls}", LONG)
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.problem
    assert outcome.advice == "give ssl_ca_certs the file of who has signed the certificate, or correct the name"


@pytest.mark.slow
def test_tls_is_wanted_and_not_spoken(with_tls: int) -> None:
    outcome = over_redis(f"redis://127.0.0.1:{with_tls}")
    assert outcome.problem.startswith(f"Redis at 127.0.0.1:{with_tls} is away: ")
    assert outcome.advice == "if the service speaks TLS only, the address has to say so (rediss:// for Redis)"


def test_tls_is_spoken_and_not_wanted() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"-ERR Protocol error\r\n")

    with answering(serve) as port:
        outcome = over_redis(f"rediss://127.0.0.1:{port}")
    assert "SSL" in outcome.problem
    assert outcome.advice.startswith("what listens there may not speak TLS")


def test_the_settings_are_nonsense() -> None:
    outcome = over_redis("redis://there", prefx="mysite")
    assert "prefx" in outcome.problem
    assert outcome.advice == "correct the settings of the layer, or start what it needs (CHANNEL_LAYERS, CONFIG)"
    outcome = over_redis({"prot": 6379})
    assert outcome.problem == "hosts: the option 'prot' is not known"
    assert outcome.advice == "did you mean 'port'?"


# What is wrong with the local layer ---------------------------------------------------------------------------------


def test_nobody_may_start_a_broker(tmp_path: Path) -> None:
    where = str(tmp_path / "broker.sock")
    outcome = tried(LocalChannelLayer, {"socket": where, "start_broker": False}, LONG)
    assert outcome.problem.startswith(f"The broker at {where} is away: no broker listens at {where}: it is started by")
    assert outcome.advice == "there is no such file: start the service, or correct the path"


def test_the_broker_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    outcome = tried(LocalChannelLayer, {"socket": str(tmp_path / "broker.sock")})
    assert outcome.problem == "the broker cannot be started: exit code 1"


def test_the_folder_is_not_there() -> None:
    outcome = tried(LocalChannelLayer, {"socket": "/nowhere/broker.sock"})
    assert outcome.problem.startswith("/nowhere/trial-")
    assert outcome.problem.endswith("cannot be opened: No such file or directory")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_the_folder_belongs_to_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as base:  # whose path is short enough for a socket
        monkeypatch.setattr(place, "BASE", base)
        folder = Path(base) / f"fairway-{os.getuid()}"
        folder.mkdir(0o700)
        os.chown(folder, 12345, -1)
        outcome = tried(LocalChannelLayer, {"prefix": "shop"})
    assert f"{folder} belongs to user 12345, not to 0: remove it, or give a path in socket" in outcome.problem


# What is wrong with layers of others --------------------------------------------------------------------------------


class Failing(QueueLayer):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._error = error

    async def group_add(self, group: str, channel: str) -> None:
        try:
            raise self._error
        except OSError as error:
            raise LookupError("cannot reach\n  the service") from error


class Silent(QueueLayer):
    async def group_send(self, group: str, message: dict[str, Any]) -> None: ...


def test_a_layer_of_somebody_else_raises() -> None:
    outcome = tried(Failing, {"error": ConnectionRefusedError("nobody is there")})
    assert outcome.problem == "LookupError: cannot reach the service"
    assert outcome.advice == "nothing listens there: start the service, or correct the address"
    assert tried(Failing, {"error": socket.gaierror()}).advice == "no machine has this name: correct it"
    outcome = tried(BaseChannelLayer, {})
    assert outcome.problem == "NotImplementedError: BaseChannelLayer has no new_channel()"


def test_a_layer_of_somebody_else_loses_messages() -> None:
    outcome = tried(Silent, {}, 0.2)
    assert outcome.problem == "a message to a group has not arrived within 0.2 s"
