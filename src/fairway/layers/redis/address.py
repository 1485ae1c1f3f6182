"""Where a Redis is, and how to reach it: the entries of `hosts`, in every form that channels_redis accepts.

redis-py parses the URLs. Of its options, those about the place, the login and TLS have their usual meaning. Those that
tune pools and sockets are accepted and ignored, because a link has neither.
"""

from __future__ import annotations

import asyncio
import difflib
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import redis.connection

from fairway.layers.backplane import BackplaneStatistics, Unavailable
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.redis.link import Link, Owner, ReplyError, greet, judged

USER_TIMEOUT_MS = 10_000
"""Time after which the kernel gives up on data that the other side does not acknowledge."""

_PLACE = {"host", "port", "path", "db", "username", "password", "client_name", "credential_provider"}
_TLS = {
    "ssl",
    "ssl_ca_certs",
    "ssl_ca_data",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
    "ssl_min_version",
    "ssl_password",
}
_SENTINEL = {"sentinels", "master_name", "sentinel_kwargs"}
_OTHERS = {"address", "unix_socket_path"}
_WITHOUT_MEANING = {
    "connection_class",
    "decode_responses",
    "encoding",
    "encoding_errors",
    "health_check_interval",
    "lib_name",
    "lib_version",
    "max_connections",
    "min_other_sentinels",
    "protocol",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "single_connection_client",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_keepalive_options",
    "socket_read_size",
    "socket_timeout",
    "socket_type",
    "timeout",
}
_KNOWN = _PLACE | _TLS | _SENTINEL | _OTHERS | _WITHOUT_MEANING
_CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Address(Protocol):
    """The address of one shard."""

    @property
    def db(self) -> int: ...

    async def dial(self, owner: Owner) -> Link:
        """Make a new link that is ready for commands. Raises `Unavailable`, `Refused` or an OSError."""


@dataclass(frozen=True)
class Server:
    """One server at a fixed place: a host and port, or the path of a Unix socket."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    credential_provider: Any = field(default=None, repr=False)
    client_name: str = "fairway"
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    async def dial(self, owner: Owner) -> Link:
        link = await self.connect(owner)
        try:
            username, password = self.username, self.password
            if self.credential_provider is not None:
                username, password = credentials(self.credential_provider)
            await greet(link, username, password, self.db, self.client_name)
        except BaseException as error:
            link.abort(ConnectionError(f"the greeting failed: {error}"))
            raise
        return link

    async def connect(self, owner: Owner) -> Link:
        """Make a link over which nothing has been sent yet."""
        loop = asyncio.get_running_loop()
        if self.path is not None:
            _, link = await loop.create_unix_connection(lambda: Link(owner), self.path)
            return link
        _, link = await loop.create_connection(lambda: Link(owner), self.host, self.port, ssl=self.tls)
        connected = link.transport.get_extra_info("socket")
        if connected is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        return link


@dataclass(frozen=True)
class Master:
    """The master that Sentinels name. `server` has everything except its place. `sentinels` are asked in this order."""

    name: str
    sentinels: Sequence[Server]
    server: Server

    @property
    def db(self) -> int:
        return self.server.db

    def __str__(self) -> str:
        return f"master {self.name} of {', '.join(map(str, self.sentinels))}"

    async def dial(self, owner: Owner) -> Link:
        host, port = await self._locate()
        link = await self.at(host, port).dial(owner)
        try:
            role = await link.call("ROLE")
        except ReplyError as error:
            link.abort(ConnectionError("its role is not known"))
            raise judged(error) from None
        if role[0] != b"master":
            link.abort(ConnectionError("it is not the master"))
            raise Unavailable(f"{host}:{port}, which the Sentinels name, is not a master (any more)")
        return link

    def at(self, host: str, port: int) -> Server:
        """The server at the place that Sentinels have named."""
        values = {name: getattr(self.server, name) for name in Server.__dataclass_fields__}
        return Server(**{**values, "host": host, "port": port})

    async def _locate(self) -> tuple[str, int]:
        problems = []
        for sentinel in self.sentinels:
            try:
                async with asyncio.timeout(1.0):
                    link = await sentinel.dial(_Nobody())
                    try:
                        found = await link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
                    finally:
                        link.abort(ConnectionError("it has been asked"))
            except (OSError, TimeoutError, ReplyError) as error:
                problems.append(f"{sentinel}: {error or type(error).__name__}")
                continue
            if found is not None:
                return found[0].decode(), int(found[1])
            problems.append(f"{sentinel}: knows no master of that name")
        raise Unavailable(f"no Sentinel names the master {self.name} ({'; '.join(problems)})")


class _Nobody:
    """The owner of a link that is used for one question."""

    longest_reply = 1024 * 1024

    def __init__(self) -> None:
        self.statistics = BackplaneStatistics()

    def pushed(self, name: bytes, data: bytes) -> None: ...

    def failed(self, error: ReplyError) -> None: ...

    def lost(self, link: Link, error: Exception) -> None: ...


def credentials(provider: Any) -> tuple[str | None, str | None]:
    """User and password from a redis-py credential provider."""
    found = provider.getcredentials()
    return (found[0], found[1]) if len(found) == 2 else (None, found[0])


# Settings ---------------------------------------------------------------------------------------------------------


def addresses(hosts: Any) -> list[Server | Master]:
    """Parse the setting `hosts`: each entry is a shard. Raises `InvalidChannelLayerError`."""
    if not hosts:
        return [Server()]
    entries = hosts if isinstance(hosts, list) or _is_list_of_hosts(hosts) else [hosts]
    return [_address(entry) for entry in entries]


def _is_list_of_hosts(hosts: Any) -> bool:
    """Whether a tuple is a list of hosts. It may also be a single one, of name and port."""
    return isinstance(hosts, tuple) and not (len(hosts) == 2 and isinstance(hosts[1], int))


def _address(entry: Any) -> Server | Master:
    if isinstance(entry, bytes):
        entry = entry.decode()
    if isinstance(entry, str):
        return _server(_from_url(entry))
    if isinstance(entry, tuple | list):
        if len(entry) != 2:
            raise InvalidChannelLayerError(f"hosts: {entry!r} is not (host, port)")
        return _server({"host": entry[0], "port": entry[1]})
    if not isinstance(entry, Mapping):
        raise InvalidChannelLayerError(f"hosts: {entry!r} is neither a URL, nor (host, port), nor a dictionary")
    options = dict(entry)
    if "address" in options:
        options = {**_from_url(options.pop("address")), **options}
    if "master_name" in options or "sentinels" in options:
        return _master(options)
    return _server(options)


def _master(options: dict[str, Any]) -> Master:
    name, sentinels = options.pop("master_name", None), options.pop("sentinels", None)
    if not name or not sentinels:
        raise InvalidChannelLayerError("hosts: Sentinels need both master_name and sentinels, a list of (host, port)")
    login = options.pop("sentinel_kwargs", None) or {}
    asked = [_server({"host": host, "port": port, **login}) for host, port in sentinels]
    return Master(name, asked, _server(options))


def _from_url(url: str) -> dict[str, Any]:
    try:
        options: dict[str, Any] = dict(redis.connection.parse_url(url))
    except ValueError as error:
        # The URL may hold a password, so the error must not quote it.
        scheme = urlsplit(url).scheme if "://" in url else url
        raise InvalidChannelLayerError(f"hosts: a URL of scheme {scheme!r} cannot be read: {error}") from None
    if issubclass(options.get("connection_class", object), redis.connection.SSLConnection):
        options["ssl"] = True
    return options


def _server(options: dict[str, Any]) -> Server:
    for name in options.keys() - _KNOWN:
        near = difflib.get_close_matches(name, _KNOWN - _WITHOUT_MEANING, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidChannelLayerError(f"hosts: the option {name!r} is not known{hint}")
    given = {name: options[name] for name in _PLACE & options.keys() if options[name] is not None}
    if "unix_socket_path" in options:
        given["path"] = options["unix_socket_path"]
    for name in ("port", "db"):
        if name in given:
            try:
                given[name] = int(given[name])
            except (TypeError, ValueError):
                raise InvalidChannelLayerError(f"hosts: {name} is {given[name]!r}, which is not a number") from None
    return Server(**given, tls=_tls(options) if _is_true(options.get("ssl")) else None)


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path"), cadata=options.get("ssl_ca_data")
        )
        required = options.get("ssl_cert_reqs", "required")
        mode = _CERT_REQS[required] if isinstance(required, str) else ssl.VerifyMode(required or ssl.CERT_NONE)
        checks = _is_true(options.get("ssl_check_hostname", True))
        context.check_hostname = checks and mode is not ssl.CERT_NONE
        context.verify_mode = mode
        if options.get("ssl_certfile") or options.get("ssl_keyfile"):
            context.load_cert_chain(
                options["ssl_certfile"], options.get("ssl_keyfile"), password=options.get("ssl_password")
            )
        if options.get("ssl_min_version") is not None:
            context.minimum_version = ssl.TLSVersion(options["ssl_min_version"])
        if options.get("ssl_ciphers"):
            context.set_ciphers(options["ssl_ciphers"])
    except (OSError, KeyError, ValueError) as error:
        raise InvalidChannelLayerError(f"hosts: the options of TLS make no sense: {error!r}") from None
    return context


def _is_true(value: Any) -> bool:
    """Whether an option is switched on. Options may come from a URL, where everything is text."""
    return str(value).lower() in ("1", "true", "yes", "on")
