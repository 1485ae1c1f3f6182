"""Every bound and deadline of the server, each with a safe default.

`Limits` is a frozen record that the server's parts read. Nothing here enforces anything. A Django project sets values
in one dictionary, `FAIRWAY = {...}`, whose keys are the field names in upper case. `Limits.from_settings` turns it into
a record, and reports a mistake in one sentence. For any application there are also environment variables
(`FAIRWAY_MAX_MESSAGE_BYTES`), which override settings, and flags (`--max-message-bytes`), which override both.
`Limits.overridden` takes the text of either.

Sizes are in bytes, times in seconds (`float("inf")` switches a deadline off); everything else is a count. The options
of TLS are read in the same way, so they are in the same record; `fairway.server.tls.options` describes them.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from itertools import pairwise
from textwrap import dedent
from typing import Any

from fairway.server.management.address import problem_of
from fairway.server.tls.options import CHOICES as OF_TLS
from fairway.server.tls.options import TlsOptions

SETTING = "FAIRWAY"

CHOICES = {**OF_TLS, "log_format": ("text", "json")}
"""The values of those that are one of a few."""

VARIABLE_PREFIX = "FAIRWAY_"


class ConfigurationError(ValueError):
    """A setting or an option is wrong. The text is one sentence that says which one, and what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(TlsOptions):
    """The bounds of one server. Raises `ConfigurationError` for an impossible value."""

    max_request_line_bytes: int = 8192
    """Longest request line; beyond it the request is answered 414 (RFC 9112, 3)."""

    max_header_bytes: int = 65536
    """Longest request head, request line included; beyond it 431 (RFC 6585, 5)."""

    max_header_count: int = 100
    """Most header lines in one request; beyond it 431."""

    max_cookies: int = 200
    """Most cookies in one request or handshake (browsers keep up to 180 for a site); beyond it 431."""

    max_subprotocols: int = 50
    """Most subprotocols that one WebSocket handshake offers; beyond it 400."""

    max_message_bytes: int = 1024 * 1024
    """Longest WebSocket message, after decompression; beyond it the connection is closed with 1009."""

    max_frame_bytes: int = 1024 * 1024
    """Longest payload of one WebSocket frame; beyond it 1009, before the payload is read."""

    max_fragments: int = 1024
    """Most frames in one WebSocket message, so that empty ones cannot go on for ever; beyond it 1008."""

    inbox_messages: int = 64
    """Messages of one client that wait for the application; beyond it the socket is not read."""

    inbox_bytes: int = 1024 * 1024
    """Bytes of memory of one client's messages that wait for the application; beyond it the socket is not read."""

    max_messages_per_second: int = 0
    """WebSocket messages of one client in a second, on average; beyond it the client is read more slowly. 0: any."""

    max_bytes_per_second: int = 0
    """The same in bytes of what a WebSocket's client sends, as it comes. 0: any."""

    rate_burst: float = 5.0
    """For how many seconds' worth of messages or bytes a client may save what it did not send, and send it at once."""

    rate_patience: float = 60.0
    """How long a client may go on trying to send more than its rate allows; then 1008."""

    outbox_bytes: int = 1024 * 1024
    """Bytes that wait for one slow client, behind the message that it is being sent; with more than this waiting, the
    slow-consumer policy acts at the next message (by default: close, 1013)."""

    outbox_high_water: int = 65536
    """Bytes that wait for one client before `await send()` waits for it; not above `outbox_bytes`."""

    body_buffer_bytes: int = 65536
    """Bytes of a request's body read ahead of the application; beyond it the socket is not read."""

    request_head_timeout: float = 10.0
    """From the first byte of a request (or the opening of the connection) to the end of its head; then 408."""

    connect_timeout: float = 20.0
    """The application's time to accept or close after `websocket.connect`; then the handshake is answered 500."""

    disconnect_timeout: float = 10.0
    """The application's time to end after a disconnect event; then its task is cancelled, with a warning. Also how long
    a client that has ended its side of an HTTP connection may wait for the next byte of its answer."""

    close_timeout: float = 5.0
    """The peer's time to answer a Close frame; then the connection is dropped (RFC 6455, 7.1.1)."""

    min_body_rate: int = 240
    """Bytes a second at which the body of a request has to arrive, on average over `keep_alive_timeout`; then 408. The
    same holds for a WebSocket message that has begun; then 1008. 0: a byte now and then is enough."""

    keep_alive_timeout: float = 75.0
    """How long an HTTP connection may be idle between two requests; longer than a usual load balancer's 60."""

    ping_interval: float = 25.0
    """How long a WebSocket may be silent before it is sent a ping."""

    ping_timeout: float = 20.0
    """The peer's time to answer a ping; then the connection counts as lost (1006)."""

    write_stall_timeout: float = 30.0
    """How long a client may take no byte at all while bytes wait for it; then it is dropped."""

    shutdown_timeout: float = 10.0
    """How long a stopping server waits for requests and sockets to finish; then they are cut."""

    drain_seconds: float = 10.0
    """Seconds over which a worker that is being replaced closes its WebSockets (1012), one after the other."""

    lifespan_timeout: float = 60.0
    """The application's time for each of lifespan start-up and shutdown; a start-up that takes longer has failed."""

    max_connections: int = 0
    """Open connections at once; beyond it 503 with Retry-After. 0: as many as there are
    descriptors, less an eighth (at least 64, at most a quarter) for the application's own files."""

    max_connections_per_address: int = 0
    """Open connections of one address at once, or of one IPv6 network (/64); beyond it 429 with Retry-After. 0: no
    bound. Trusted proxies have none; a WebSocket that one of them passes on counts for the client that it names."""

    max_client_memory: int = 0
    """Bytes that wait for all clients of a process, or because of them: beyond it new connections are answered 503, and
    the clients for which most waits are dropped. 0: no bound but those of each client."""

    tls_handshakes_per_pass: int = 4
    """Steps of TLS handshakes, about a millisecond each, before all other connections get their turn."""

    certificate_check_interval: float = 60.0
    """How often to look for a renewed certificate or key; inf: only after a SIGHUP."""

    proxy_protocol: bool = False
    """Whether trusted proxies introduce each client by the PROXY protocol, version 1 or 2, before everything else."""

    stall_warning: float = 5.0
    """How long the application may block the event loop before the log says where; 0 switches this off."""

    health_path: str = ""
    """A path that the server answers by itself, without the application: 200, or 503 while it stops. Empty: none."""

    log_format: str = "text"
    """How the log is written: text, for people, or json, an object on each line, for programs."""

    management: str = ""
    """Where the server is looked at (/health, /ready, /metrics, /status; `fairway status`): unix:/path, for its owner
    only, or 127.0.0.1:port; public:address:port for others, too."""

    worker_kill_after: float = 0.0
    """How long a worker's event loop may not turn before the worker is killed and replaced; 0: it never is."""

    http2: bool = True
    """Whether to speak HTTP/2: over TLS with clients that ask for it, in clear with clients that begin with it."""

    http2_websocket: bool = True
    """Whether to accept WebSockets over HTTP/2 (RFC 8441), where each is a stream of its client's connection. Otherwise
    browsers open an HTTP/1.1 connection for each."""

    http2_max_streams: int = 100
    """Most requests of one HTTP/2 connection at once; further ones are refused, and may be sent again. They are also
    refused while twice as many applications run for it, including those whose requests have ended."""

    http2_stream_window: int = 65535
    """Bytes of one HTTP/2 request's body that may arrive ahead of the application; doubled, up to 1 MiB, for an
    application that takes them at once."""

    http2_max_stream_window: int = 1024 * 1024
    """How far that window is doubled; not at all if it is the larger one."""

    http2_connection_window: int = 1024 * 1024
    """Bytes on their way in on one HTTP/2 connection; at least 65535."""

    http2_held_bytes: int = 4 * 1024 * 1024
    """Bytes of bodies that one HTTP/2 connection holds for its applications; above it no more are asked for."""

    http2_outbox_bytes: int = 1024 * 1024
    """Bytes that wait for all requests of one HTTP/2 connection together; above it every `await send()` waits whose
    request cannot be sent anything at the moment, even the one of a response's start."""

    http2_stream_outbox_bytes: int = 0
    """Bytes that wait for one HTTP/2 request before its `await send()` waits. 0: as many as `outbox_high_water`, and
    not more than `http2_outbox_bytes`."""

    http2_discarded_bytes: int = 4 * 1024 * 1024
    """Bytes of an HTTP/2 request's body that may come behind the end of its response, and are dropped: some clients
    read no answer before they have sent everything. Beyond it the stream is reset."""

    http2_table_bytes: int = 4096
    """Bytes of the table of fields that an HTTP/2 client may refer to (HPACK), for each connection."""

    http2_continuations: int = 8
    """Most frames of one HTTP/2 request's head besides the first; beyond it the connection is closed."""

    http2_patience: int = 200
    """Tokens for what costs the server more than the client. A stream that the client makes us reset takes 5, SETTINGS
    3, a reset of its own, a PING or an empty frame 1. An answered request gives back 6, a second 20. Without tokens the
    connection is closed (ENHANCE_YOUR_CALM)."""

    settings_timeout: float = 10.0
    """An HTTP/2 client's time to acknowledge our settings; then the connection is closed (SETTINGS_TIMEOUT)."""

    deflate: bool = True
    """Whether to agree to permessage-deflate (RFC 7692) when a client offers it."""

    deflate_min_bytes: int = 1024
    """Shorter messages are sent uncompressed, because compressing them costs more than it saves; so are messages above
    1 MiB."""

    deflate_level: int = 1
    """zlib's level, 1 (fast) to 9 (small)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if str(field.type) == "str" and isinstance(value, os.PathLike):
                object.__setattr__(self, field.name, os.fspath(value))
            problem = _problem(field.name, str(field.type), getattr(self, field.name))
            if problem is not None:
                raise ConfigurationError(f"{field.name} {problem}")
        if self.outbox_high_water > self.outbox_bytes:
            raise ConfigurationError(
                f"outbox_high_water ({self.outbox_high_water}) must not be above outbox_bytes ({self.outbox_bytes})"
            )

    @classmethod
    def from_settings(cls, mapping: Mapping[str, Any]) -> Limits:
        """Read a `FAIRWAY` setting. Keys that it does not have keep their defaults.

        Raises `ConfigurationError` for an unknown key (and names the nearest one), a wrong type or an impossible value.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigurationError(f"{SETTING} must be a dictionary, not {mapping!r}")
        known = {field.name.upper(): field for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in mapping.items():
            if key not in known:
                raise ConfigurationError(_unknown(key, list(known)))
            problem = _problem(known[key].name, str(known[key].type), value)
            if problem is not None:
                raise ConfigurationError(f'{SETTING}["{key}"] {problem}')
            values[known[key].name] = value
        try:
            return cls(**values)
        except ConfigurationError as error:
            raise ConfigurationError(f"{SETTING}: {error}") from None

    def overridden(self, texts: Mapping[str, str], called: Callable[[str], str]) -> Limits:
        """These limits with the values in `texts`, by field name, instead of their own.

        Raises `ConfigurationError` for an impossible value; `called` returns the name of a field for the text.
        """
        values: dict[str, Any] = {}
        for field in fields(self):
            if field.name in texts:
                value = _parsed(str(field.type), texts[field.name])
                problem = _problem(field.name, str(field.type), value)
                if problem is not None:
                    raise ConfigurationError(f"{called(field.name)} {problem}")
                values[field.name] = value
        return replace(self, **values)

    def with_environment(self, environment: Mapping[str, str]) -> Limits:
        """These limits with the values that environment variables set. Raises `ConfigurationError`."""
        names = {field.name: variable_name(field.name) for field in fields(self)}
        texts = {name: environment[variable] for name, variable in names.items() if variable in environment}
        return self.overridden(texts, variable_name)


def variable_name(field: str) -> str:
    """The environment variable of a limit."""
    return VARIABLE_PREFIX + field.upper()


def flag_name(field: str) -> str:
    """The command-line flag of a limit."""
    return "--" + field.replace("_", "-")


def misspelt_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable whose name is nearly one of ours. Any other may belong to somebody else."""
    known = [variable_name(field.name) for field in fields(Limits)]
    return [
        f"the environment variable {name} has no effect; did you mean {near[0]}?"
        for name in sorted(environment)
        if name.startswith(VARIABLE_PREFIX) and name not in known
        if (near := get_close_matches(name, known, n=1, cutoff=0.85))
    ]


def descriptions() -> dict[str, str]:
    """Each field's docstring, by field name. Empty if there is no source to read."""
    return {**_described(TlsOptions), **_described(Limits)}


def _described(record: type) -> dict[str, str]:
    try:
        [definition] = ast.parse(dedent(inspect.getsource(record))).body
    except (OSError, SyntaxError):
        return {}
    assert isinstance(definition, ast.ClassDef)
    return {
        before.target.id: after.value.value
        for before, after in pairwise(definition.body)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
    }


_WORDS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)
_KINDS: dict[str, Callable[[str], object]] = {
    "int": int,
    "float": float,
    "bool": lambda text: _WORDS[text.lower()],
    "str": str,
}


def _parsed(kind: str, text: str) -> object:
    """The value that a text stands for. If there is none, the text itself, so that `_problem` can name it."""
    try:
        return _KINDS[kind](text.strip())
    except (ValueError, KeyError):
        return text


# Fields whose range is not "at least 1", or that have an upper end.
_LEAST = {
    "max_connections": 0,
    "max_connections_per_address": 0,
    "min_body_rate": 0,
    "max_client_memory": 0,
    "max_messages_per_second": 0,
    "max_bytes_per_second": 0,
    "deflate_min_bytes": 0,
    "stall_warning": 0,
    "worker_kill_after": 0,
    "http2_connection_window": 65535,
    "http2_table_bytes": 0,
    "http2_stream_outbox_bytes": 0,
}
_MOST = {
    "deflate_level": 9,
    "http2_stream_window": 2**31 - 1,
    "http2_max_stream_window": 2**31 - 1,
    "http2_connection_window": 2**31 - 1,
    "http2_discarded_bytes": 2**31 - 1,
    "http2_table_bytes": 2**32 - 1,
}


def _problem(name: str, kind: str, value: object) -> str | None:
    if kind == "str":
        return _problem_of_text(name, value)
    if kind == "bool":
        return None if isinstance(value, bool) else f"must be True or False, not {value!r}"
    if kind == "float":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"must be a number of seconds, not {value!r}"
        if name in _LEAST:
            return None if value >= _LEAST[name] else f"must be at least {_LEAST[name]} seconds, not {value!r}"
        return None if value > 0 and not math.isnan(value) else f"must be more than 0 seconds, not {value!r}"
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be a whole number, not {value!r}"
    least, most = _LEAST.get(name, 1), _MOST.get(name)
    if value < least:
        return f"must be at least {least}, not {value!r}"
    if most is not None and value > most:
        return f"must be at most {most}, not {value!r}"
    return None


def _problem_of_text(name: str, value: object) -> str | None:
    if name in CHOICES:
        return None if value in CHOICES[name] else f"must be one of {', '.join(CHOICES[name])}, not {value!r}"
    if name == "health_path" and isinstance(value, str) and value and not value.startswith("/"):
        return f'must begin with a slash, as in "/healthz", not {value!r}'
    if name == "management" and isinstance(value, str) and value:
        return problem_of(value)
    return None if isinstance(value, str | os.PathLike) else f"must be a text, not {value!r}"


def _unknown(key: object, known: list[str]) -> str:
    near = get_close_matches(key.upper(), known, n=1) if isinstance(key, str) else []
    hint = f'; did you mean "{near[0]}"?' if near else f"; it knows {', '.join(known)}"
    return f"{SETTING} has no setting {key!r}{hint}"
