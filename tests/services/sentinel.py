"""Redis under a Sentinel, for tests: real processes on free ports, which end with the tests' process.

with watched() as pair:                 # a master, a server that copies it, and the Sentinel that names the master
    settings.CHANNEL_LAYERS = {... "hosts": [pair.hosts]}
    pair.stop_copying()                 # what comes from now on, the other server will not have
    pair.fail_over()                    # the other server is the master
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import redis as redis_client

from tests.services.redis import DEADLINE, WATCH, RedisServer, find_server, free_port, redis_server

DOWN_AFTER_MS = 500
"""Silence after which a Sentinel takes a server for dead. It takes a replica whose link is down for ten times as long,
and no longer, for fit to be the master.
"""


class Sentinel:
    """A Sentinel that watches one master under a name, and decides alone."""

    def __init__(self, master: RedisServer, folder: Path, name: str, password: str, binary: str) -> None:
        self.port = free_port()
        self.name = name
        self._password = password
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor {name} {master.host} {master.port} 1",
            f"sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {name} 4000",
        ]
        if password:
            lines.append(f"requirepass {password}")
        configuration = folder / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n")
        command = ["/bin/sh", "-c", WATCH, "sh", binary, str(configuration), "--sentinel"]
        self._process = Popen(command, stdin=PIPE, stdout=DEVNULL)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def ask(self, *command: str) -> Any:
        password = self._password or None
        with redis_client.Redis(
            port=self.port, password=password, decode_responses=True, socket_timeout=DEADLINE
        ) as client:
            return client.execute_command(*command)

    def names(self) -> int | None:
        """The port of the master, as it says; None if it says nothing yet."""
        with suppress(redis_client.ConnectionError):
            found = self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
            return None if found is None else int(found[1])
        return None

    def knows_a_replica(self) -> bool:
        """Whether it could make another server the master."""
        with suppress(redis_client.ConnectionError):
            return any("slave" in str(one) for one in self.ask("SENTINEL", "REPLICAS", self.name))
        return False

    def stop(self) -> None:
        self._process.communicate(b"\n", DEADLINE)


@contextmanager
def sentinel(
    master: RedisServer, name: str = "main", password: str = "", binary: str | None = None
) -> Iterator[Sentinel]:
    """A Sentinel that names this server, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="fairway-sentinel-") as directory:
        found = Sentinel(master, Path(directory), name, password, binary or find_server())
        try:
            wait_until(lambda: found.names() == master.port, "the Sentinel watches nothing")
            yield found
        finally:
            found.stop()


class Watched:
    """Two servers, of which one is the master and the other copies it, and the Sentinel that says which."""

    def __init__(self, servers: tuple[RedisServer, RedisServer], watching: Sentinel) -> None:
        self.sentinel = watching
        self._servers = {server.port: server for server in servers}

    @property
    def hosts(self) -> dict[str, Any]:
        """An entry of the layer's `hosts`."""
        return {"sentinels": [self.sentinel.address], "master_name": self.sentinel.name}

    @property
    def master(self) -> RedisServer:
        port = self.sentinel.names()
        assert port is not None, "the Sentinel names a master"
        return self._servers[port]

    @property
    def replica(self) -> RedisServer:
        (other,) = (server for port, server in self._servers.items() if port != self.sentinel.names())
        return other

    def cut(self) -> None:
        """Cut the connections of layers to the master, and not those of the Sentinel, which would take it for dead."""
        with self.master.client() as client:
            for one in client.client_list():
                if one["name"] == "fairway":
                    client.execute_command("CLIENT", "KILL", "ID", one["id"])

    def wait_until_copied(self) -> None:
        """Wait until the replica has all that the master has."""
        with self.master.client() as master, self.replica.client() as replica:
            offset = master.info("replication")["master_repl_offset"]

            def has_all() -> bool:
                found = replica.info("replication")
                return found.get("master_link_status") == "up" and found["slave_repl_offset"] >= offset

            wait_until(has_all, "the replica does not copy the master")

    def stop_copying(self) -> None:
        """The replica is cut off from the master, and cannot log in again: it misses what comes from now on."""
        with self.master.client() as master, self.replica.client() as replica:
            replica.config_set("masteruser", "nobody")
            replica.config_set("masterauth", "wrong")
            master.execute_command("CLIENT", "KILL", "TYPE", "replica")
            wait_until(lambda: not master.info("replication")["connected_slaves"], "the replica is still there")

    def fail_over(self) -> RedisServer:
        """Let the Sentinel make the replica the master. Returns the old one, which still takes it that it is."""
        old, new = self.master, self.replica

        def begin() -> bool:
            with suppress(redis_client.ResponseError):  # it has still to see to the last one
                self.sentinel.ask("SENTINEL", "FAILOVER", self.sentinel.name)
                return True
            return False

        wait_until(begin, "the Sentinel does not begin a failover")
        wait_until(lambda: self.sentinel.names() == new.port, "the Sentinel does not end the failover")
        with new.client() as client:
            client.config_set("masteruser", "")
            client.config_set("masterauth", "")
        return old


@contextmanager
def watched(binary: str | None = None) -> Iterator[Watched]:
    """A master, its replica and their Sentinel, for the length of the block."""
    with ExitStack() as stack:
        master, replica = (stack.enter_context(redis_server(binary)) for _ in range(2))
        with replica.client() as client:
            client.execute_command("REPLICAOF", master.host, str(master.port))
        for server in (master, replica):
            with server.client() as client:
                client.config_set("repl-diskless-sync-delay", "0")
        watching = stack.enter_context(sentinel(master, binary=binary))
        pair = Watched((master, replica), watching)
        pair.wait_until_copied()
        wait_until(watching.knows_a_replica, "the Sentinel has not found the replica")
        yield pair


def wait_until(condition: Callable[[], object], complaint: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, complaint
        time.sleep(0.02)
