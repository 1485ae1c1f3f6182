"""Scopes from request heads, and what a transport says about both ends."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from fairway.asgi.scope import Entrance, decoded_path, entrance_of, http_scope, origin, websocket_scope
from fairway.protocols.http1 import Http1Protocol, RequestHead

NOWHERE = Entrance(None)


def head_of(request: bytes) -> RequestHead:
    head = Http1Protocol().receive_data(request + b"\r\nHost: a\r\n\r\n")[0]
    assert isinstance(head, RequestHead)
    return head


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", "/"),
        (b"/a%20b", "/a b"),
        (b"/%C3%A4", "/ä"),
        (b"/%2F", "//"),
        (b"/%25", "/%"),
        (b"/%ff", "/\N{REPLACEMENT CHARACTER}"),
        (b"/100%", "/100%"),
    ],
)
def test_the_path_is_decoded_and_never_refused(raw: bytes, path: str) -> None:
    assert decoded_path(raw) == path


def test_the_root_path_belongs_to_the_path() -> None:
    scope = http_scope(head_of(b"GET /x?y=1 HTTP/1.1"), "/app", None, NOWHERE, None)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/app", "/app/x", b"/app/x")
    assert scope["query_string"] == b"y=1"


@pytest.mark.parametrize(
    ("root_path", "target", "path", "raw_path"),
    [
        ("/app", b"/app/x", "/app/x", b"/app/x"),
        ("/app", b"/app/", "/app/", b"/app/"),
        ("/app", b"/app", "/app", b"/app"),
        ("/app", b"/", "/app/", b"/app/"),
        ("/app", b"/app/app/x", "/app/app/x", b"/app/app/x"),
        ("/app", b"/apple/x", "/app/apple/x", b"/app/apple/x"),
        ("/app", b"/%61pp/x%2Fy", "/app/x/y", b"/%61pp/x%2Fy"),
        ("/app", b"/App/x", "/app/App/x", b"/app/App/x"),
        ("/app", b"//app/x", "/app//app/x", b"/app//app/x"),
        ("/a/b", b"/a/b/x", "/a/b/x", b"/a/b/x"),
        ("/a/b", b"/a/x", "/a/b/a/x", b"/a/b/a/x"),
        ("/caf\u00e9 1", b"/caf%c3%a9%201/x", "/caf\u00e9 1/x", b"/caf%c3%a9%201/x"),
        ("/caf\u00e9 1", b"/x", "/caf\u00e9 1/x", b"/caf%C3%A9%201/x"),
        ("", b"/x", "/x", b"/x"),
    ],
)
def test_asgi_path_the_root_path_is_there_once_whether_or_not_it_was_stripped(
    root_path: str, target: bytes, path: str, raw_path: bytes
) -> None:
    head = head_of(b"GET " + target + b" HTTP/1.1")
    for scope in (
        http_scope(head, root_path, None, NOWHERE, None),
        websocket_scope(head, [], root_path, None, NOWHERE, None),
    ):
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == (root_path, path, raw_path)


@pytest.mark.parametrize(("request_line", "version"), [(b"GET / HTTP/1.1", "1.1"), (b"GET / HTTP/1.0", "1.0")])
def test_the_version_of_http(request_line: bytes, version: str) -> None:
    assert http_scope(head_of(request_line), "", None, NOWHERE, None)["http_version"] == version


def test_each_scope_has_dictionaries_of_its_own() -> None:
    head, state = head_of(b"GET / HTTP/1.1"), {"pool": object()}
    one, other = [http_scope(head, "", None, NOWHERE, state) for _ in range(2)]
    for key in ("extensions", "state"):
        assert one[key] == other[key]
        assert one[key] is not other[key]
    assert one["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert one["asgi"] is other["asgi"]  # what the server says of itself
    assert one["state"]["pool"] is state["pool"]


def test_without_lifespan_there_is_no_state() -> None:
    assert "state" not in websocket_scope(head_of(b"GET / HTTP/1.1"), [], "", None, NOWHERE, None)
    assert http_scope(head_of(b"GET / HTTP/1.1"), "", None, NOWHERE, {})["state"] == {}


class Transport:
    def __init__(self, endpoint: Any, **extra: Any) -> None:
        self._extra = {"socket": endpoint, **extra}

    def get_extra_info(self, name: str) -> Any:
        return self._extra.get(name)


@pytest.mark.parametrize(
    ("family", "peer", "own", "expected"),
    [
        (socket.AF_INET, ("1.2.3.4", 5), ("6.7.8.9", 10), (("1.2.3.4", 5), ("6.7.8.9", 10))),
        (socket.AF_INET6, ("::1", 5, 0, 0), ("::2", 6, 0, 0), (("::1", 5), ("::2", 6))),
        (socket.AF_UNIX, "", "/run/socket", (None, None)),
        (socket.AF_UNIX, b"\0abstract", b"\0own", (None, None)),
        (socket.AF_INET, None, ("6.7.8.9", 10), (None, ("6.7.8.9", 10))),
    ],
)
def test_addresses_are_a_host_and_an_int(family: int, peer: Any, own: Any, expected: Any) -> None:
    with socket.socket(family) as endpoint:
        transport: Any = Transport(endpoint, peername=peer, sockname=own)
        client, entrance = origin(transport)
    assert (client, entrance.server) == expected
    assert entrance.tls is None


def test_connections_in_clear_text_to_one_address_share_what_is_known_of_it() -> None:
    one, other = [Transport(None, peername=("1.2.3.4", port), sockname=("6.7.8.9", 10)) for port in (5, 6)]

    assert origin(one)[1] is origin(other)[1]  # type: ignore[arg-type]


class Listening:
    def __init__(self, name: Any) -> None:
        self._name = name

    def getsockname(self) -> Any:
        return self._name


@pytest.mark.parametrize("name", [("127.0.0.1", 80), ("::1", 80, 0, 0)])
def test_the_entrance_of_a_socket_is_known_if_it_listens_on_one_address(name: Any) -> None:
    listening: Any = Listening(name)
    entrance = entrance_of(listening)
    assert entrance is not None
    assert (entrance.server, entrance.tls) == (name[:2], None)
    accepted: Any = Transport(None, peername=("1.2.3.4", 5), sockname=name)
    assert origin(accepted)[1] is entrance


@pytest.mark.parametrize("name", [("0.0.0.0", 80), ("::", 80, 0, 0), "/run/socket", b"\0abstract"])
def test_it_is_not_known_if_there_are_many_or_none(name: Any) -> None:
    listening: Any = Listening(name)
    assert entrance_of(listening) is None


def test_asgi_tls_the_extension_is_there_over_tls_and_nowhere_else() -> None:
    details = {"server_cert": None, "tls_version": 0x0304, "cipher_suite": 0x1301}
    transport: Any = Transport(None, peername=("1.2.3.4", 5), sockname=("6.7.8.9", 10), tls=details)
    client, entrance = origin(transport)
    head = head_of(b"GET / HTTP/1.1")

    over_tls = http_scope(head, "", client, entrance, None), websocket_scope(head, [], "", client, entrance, None)
    in_clear = http_scope(head, "", client, NOWHERE, None), websocket_scope(head, [], "", client, NOWHERE, None)

    assert [(scope["scheme"], scope["extensions"]["tls"]) for scope in over_tls] == [
        ("https", details),
        ("wss", details),
    ]
    assert [(scope["scheme"], "tls" in scope["extensions"]) for scope in in_clear] == [("http", False), ("ws", False)]
    assert over_tls[0]["server"] == ("6.7.8.9", 10)
