"""Redis over a blocking socket, for `fairway.layers.blocking`."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, TypeVar

import hiredis

from fairway.layers.background import finished
from fairway.layers.backplane import Keep, Page, Present, QueueFull, Refused, Unavailable
from fairway.layers.blocking import Pool, remaining, send_all
from fairway.layers.interests import subject_of
from fairway.layers.redis.address import Address, Master, Server, credentials
from fairway.layers.redis.appending import message
from fairway.layers.redis.followers import parts
from fairway.layers.redis.functions import APPEND, READ, Functions
from fairway.layers.redis.link import Reply, ReplyError, greet, judged
from fairway.layers.redis.names import Names
from fairway.layers.redis.presence import count, present
from fairway.layers.redis.scripts import FOLLOWING, PUSH, run
from fairway.layers.redis.streams import appended, page_of, read_arguments
from fairway.layers.tracks import Since

LONGEST_REPLY = 16 * 1024 * 1024
"""Bytes of one reply at which a connection is given up. The longest is the list of all queues that follow groups."""

_NOTHING: Final = object()
T = TypeVar("T")


class BlockingLink:
    """A connection that carries one command at a time. `call` is a coroutine function, like that of a `Link`, but it
    never waits for an event loop. So code that talks to Redis is written once for both (see `finished`).
    """

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self.socket = connected
        self.deadline = deadline
        self._reader = hiredis.Reader(protocolError=ConnectionError, replyError=ReplyError, notEnoughData=_NOTHING)

    async def call(self, *command: bytes | str | int | float) -> Reply:
        """The answer to a command; an error that Redis answers with is raised."""
        (reply,) = self.answers(command)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def run(self, script: str, key: bytes, arguments: Sequence[bytes | int]) -> Reply:
        """The answer of a script over one key."""
        return await run(self, script, key, arguments)

    def answers(self, *commands: Sequence[bytes | str | int | float]) -> list[Reply]:
        """Send commands together, with a message last, and return the replies, errors included."""
        self.socket.settimeout(remaining(self.deadline))
        send_all(self.socket, b"".join(hiredis.pack_command(tuple(command)) for command in commands))
        return [self._answer() for _ in commands]

    def _answer(self) -> Reply:
        unread = 0
        while (reply := self._reader.gets()) is _NOTHING:
            self.socket.settimeout(remaining(self.deadline))
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("Redis has closed the connection")
            unread += len(data)
            if unread > LONGEST_REPLY:
                raise ConnectionError(f"a reply takes more than {LONGEST_REPLY:,} bytes")
            self._reader.feed(data)
        return reply

    def abort(self, error: Exception) -> None:
        self.socket.close()


class BlockingRedis:
    """The sending side of `RedisBackplane`, with the same names."""

    def __init__(self, addresses: Sequence[Address], prefix: str, trust_failover: bool = False) -> None:
        self._addresses = addresses
        self._names = Names([str(address) for address in addresses], prefix)
        self._functions = Functions(trust_failover, self._names.reign)
        self._pools = [Pool(partial(_dial, address)) for address in addresses]

    def publish(self, subject: str, data: bytes, deadline: float) -> None:
        index = self._names.index_of(subject)
        name = self._names.subject(self._addresses[index].db, subject)
        self._ask(index, lambda link: finished(link.call(b"PUBLISH", name, data)), deadline)

    def publish_to_group(self, group: str, data: bytes, deadline: float) -> Sequence[str]:
        subject = subject_of(group)
        index, key = self._names.index_of(subject), self._names.followers
        name = self._names.subject(self._addresses[index].db, subject)
        followers_index = self._names.index_of(self._names.FOLLOWERS)
        publish, look = (b"PUBLISH", name, data), (b"ZRANGE", key, 0, 0)
        if index != followers_index:
            (following,) = self._ask(followers_index, lambda link: _all(link.answers(look)), deadline)
            self._ask(index, lambda link: _all(link.answers(publish)), deadline)
        else:
            following, _ = self._ask(index, lambda link: _all(link.answers(look, publish)), deadline)
        if not following:
            return ()
        rows = self._ask(followers_index, lambda link: finished(run(link, FOLLOWING, key, [])), deadline)
        return [queue for following, queue in map(parts, rows[::2]) if following == group]

    def append_to_group(self, group: str, data: bytes, keep: Keep, key: str, deadline: float) -> Sequence[str]:
        subject = subject_of(group)
        index = self._names.index_of(subject)
        kept = message(self._names, self._addresses[index].db, subject, data, keep, key)
        keys = [self._names.changes, *kept.keys]
        followers_index = self._names.index_of(self._names.FOLLOWERS)
        call = self._functions.call
        (answer,) = self._ask(index, lambda link: _all(finished(call(link, APPEND, keys, *kept.arguments))), deadline)
        if not appended(answer).is_new:
            return []
        rows = self._ask(
            followers_index, lambda link: finished(run(link, FOLLOWING, self._names.followers, [])), deadline
        )
        return [queue for following, queue in map(parts, rows[::2]) if following == group]

    def read(self, subject: str, after: Since, limit: int, deadline: float) -> Page[bytes]:
        keys, arguments = read_arguments(self._names, subject, after, limit)
        index = self._names.index_of(subject)
        return page_of(
            self._ask(index, lambda link: finished(self._functions.call(link, READ, keys, *arguments)), deadline)
        )

    def push(self, queue: str, data: bytes, capacity: int, expiry: float, deadline: float) -> None:
        index = self._names.index_of(queue)
        wake_up = self._names.wake_up(self._addresses[index].db, queue)
        arguments: list[bytes | int] = [wake_up, data, capacity, max(1, int(expiry * 1000))]
        key = self._names.queue(queue)
        if not self._ask(index, lambda link: finished(run(link, PUSH, key, arguments)), deadline):
            raise QueueFull(f"the queue {queue} holds {capacity} messages")

    def present(self, subject: str, deadline: float) -> Sequence[Present]:
        index = self._names.index_of(subject)
        found: Sequence[Present] = self._ask(
            index, lambda link: finished(present(link, self._names, subject)), deadline
        )
        return found

    def count(self, subject: str, deadline: float) -> int:
        index = self._names.index_of(subject)
        found: int = self._ask(index, lambda link: finished(count(link, self._names, subject)), deadline)
        return found

    def close(self) -> None:
        for pool in self._pools:
            pool.close()

    def _ask(self, index: int, function: Any, deadline: float) -> Any:
        def ask(link: BlockingLink) -> Any:
            link.deadline = deadline
            return function(link)

        address = self._addresses[index]
        try:
            return self._pools[index].use(ask, deadline)
        except ReplyError as error:
            raise judged(error) from None
        except TimeoutError:
            raise TimeoutError(f"Redis at {address} has not answered in time") from None
        except (Unavailable, Refused):
            raise
        except OSError as error:
            raise Unavailable(f"Redis at {address} is away: {error or type(error).__name__}") from None


def _all(answers: list[Reply]) -> list[Reply]:
    for answer in answers:
        if isinstance(answer, ReplyError):
            raise answer
    return answers


def _dial(address: Address, deadline: float) -> BlockingLink:
    if isinstance(address, Master):
        server = address.at(*_locate(address, deadline))
    elif isinstance(address, Server):
        server = address
    else:
        raise TypeError(f"{address!r} cannot be dialled without an event loop")
    link = BlockingLink(_connect(server, deadline), deadline)
    try:
        username, password = server.username, server.password
        if server.credential_provider is not None:
            username, password = credentials(server.credential_provider)
        finished(greet(link, username, password, server.db, server.client_name))
        if isinstance(address, Master) and finished(link.call("ROLE"))[0] != b"master":
            raise Unavailable(f"{server}, which the Sentinels name, is not a master (any more)")
    except BaseException:
        link.socket.close()
        raise
    return link


def _connect(server: Server, deadline: float) -> socket.socket:
    if server.path is not None:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(remaining(deadline))
        try:
            connected.connect(server.path)
        except BaseException:
            connected.close()
            raise
        return connected
    connected = socket.create_connection((server.host, server.port), remaining(deadline))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if server.tls is None:
        return connected
    try:
        return server.tls.wrap_socket(connected, server_hostname=server.host)
    except BaseException:
        connected.close()
        raise


def _locate(master: Master, deadline: float) -> tuple[str, int]:
    problems = []
    for sentinel in master.sentinels:
        try:
            link = _dial(sentinel, min(deadline, deadline - remaining(deadline) + 1.0))
        except (OSError, ssl.SSLError, ReplyError) as error:
            problems.append(f"{sentinel}: {error or type(error).__name__}")
            continue
        with contextlib.closing(link.socket):
            try:
                found = finished(link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master.name))
            except (OSError, ReplyError) as error:
                problems.append(f"{sentinel}: {error or type(error).__name__}")
                continue
        if found is not None:
            return found[0].decode(), int(found[1])
        problems.append(f"{sentinel}: knows no master of that name")
    raise Unavailable(f"no Sentinel names the master {master.name} ({'; '.join(problems)})")
