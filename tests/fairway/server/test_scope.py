"""Scopes from request heads, and what a transport says about both ends."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from fairway.protocols.http1 import Http1Connection, RequestHead
from fairway.server.scope import addresses, decoded_path, http_scope, websocket_scope


def head_of(request: bytes) -> RequestHead:
    head = Http1Connection().receive_data(request + b"\r\nHost: a\r\n\r\n")[0]
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
    scope = http_scope(head_of(b"GET /x?y=1 HTTP/1.1"), "/app", None, None, None)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/app", "/app/x", b"/app/x")
    assert scope["query_string"] == b"y=1"


@pytest.mark.parametrize(("request_line", "version"), [(b"GET / HTTP/1.1", "1.1"), (b"GET / HTTP/1.0", "1.0")])
def test_the_version_of_http(request_line: bytes, version: str) -> None:
    assert http_scope(head_of(request_line), "", None, None, None)["http_version"] == version


def test_each_scope_has_dictionaries_of_its_own() -> None:
    head, state = head_of(b"GET / HTTP/1.1"), {"pool": object()}
    one, other = [http_scope(head, "", None, None, state) for _ in range(2)]
    for key in ("extensions", "state"):
        assert one[key] == other[key]
        assert one[key] is not other[key]
    assert one["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert one["asgi"] is other["asgi"]  # what the server says of itself
    assert one["state"]["pool"] is state["pool"]


def test_without_lifespan_there_is_no_state() -> None:
    assert "state" not in websocket_scope(head_of(b"GET / HTTP/1.1"), [], "", None, None, None)
    assert http_scope(head_of(b"GET / HTTP/1.1"), "", None, None, {})["state"] == {}


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
        (socket.AF_UNIX, "", "/run/socket", (None, ("/run/socket", None))),
        (socket.AF_INET, None, ("6.7.8.9", 10), (None, ("6.7.8.9", 10))),
    ],
)
def test_addresses_are_a_host_and_an_int(family: int, peer: Any, own: Any, expected: Any) -> None:
    with socket.socket(family) as endpoint:
        transport: Any = Transport(endpoint, peername=peer, sockname=own)
        assert addresses(transport) == expected
