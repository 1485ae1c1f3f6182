"""The management socket itself: who is slow, too many or wrong gets nothing that others would miss."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairway.server.config import BindError
from fairway.server.management.address import Address
from fairway.server.management.endpoint import CLIENT_SECONDS, MOST_CLIENTS, Endpoint, listen
from fairway.server.management.pages import Page

LOOPBACK = Address(host="127.0.0.1", port=0)
REQUEST = b"GET /x HTTP/1.1\r\n\r\n"
LARGE = "x" * 3_000_000


def broken() -> Page:
    raise RuntimeError("it cannot be made")


@pytest.fixture
def address() -> Iterator[Address]:
    listening = listen(LOOPBACK)
    address = Address(host="127.0.0.1", port=listening.getsockname()[1])
    pages = {"/x": lambda: Page(200, "here\n"), "/large": lambda: Page(200, LARGE), "/broken": broken}
    endpoint = Endpoint(listening, pages)
    endpoint.start()
    yield address
    endpoint.close()
    with pytest.raises(ConnectionRefusedError):
        address.connect(1)


def answered(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def asked(address: Address, request: bytes = REQUEST) -> bytes:
    with address.connect(10) as client:
        client.sendall(request)
        return answered(client)


def test_each_connection_has_one_answer(address: Address) -> None:
    for _ in range(3):
        assert asked(address).endswith(b"\r\n\r\nhere\n")
    assert asked(address, b"GET /large HTTP/1.1\r\n\r\n").endswith(LARGE.encode())


@pytest.mark.slow
def test_who_is_slow_is_cut_off_and_who_is_too_many_waits(address: Address) -> None:
    began = time.monotonic()
    slow = [address.connect(10) for _ in range(MOST_CLIENTS)]
    for each in slow:
        each.sendall(REQUEST[:9])
    assert asked(address).endswith(b"here\n")  # when the slow ones have gone
    assert time.monotonic() - began >= CLIENT_SECONDS - 0.1
    for each in slow:
        with each:
            assert each.recv(100) == b""


@pytest.mark.slow
def test_who_takes_nothing_is_cut_off(address: Address) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect((address.host, address.port))
        client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        began = time.monotonic()
        while time.monotonic() - began < CLIENT_SECONDS:
            assert asked(address).endswith(b"here\n")  # the others do not notice
        assert asked(address).endswith(b"here\n")
        with contextlib.suppress(ConnectionResetError):
            assert len(answered(client)) < len(LARGE)


def test_a_page_that_cannot_be_made_ends_nothing(address: Address, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert asked(address, b"GET /broken HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 500 ")
    assert asked(address).endswith(b"here\n")
    assert [one.getMessage() for one in caplog.records] == ["a page of the management socket cannot be made"]


def test_who_leaves_in_the_middle_is_forgotten(address: Address) -> None:
    for _ in range(3 * MOST_CLIENTS):
        address.connect(10).close()
    assert asked(address).endswith(b"here\n")


def test_a_unix_socket_is_for_its_owner(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "socket"))
    endpoint = Endpoint(listen(address), {"/x": lambda: Page(200, "here\n")})
    endpoint.start()
    try:
        assert stat.S_IMODE(os.stat(address.path).st_mode) == 0o600
        assert asked(address).endswith(b"here\n")
        with pytest.raises(BindError, match="another server answers there"):
            listen(address)
    finally:
        endpoint.close()
    address.unlink()
    address.unlink()


def test_a_port_that_is_taken_is_one_sentence(address: Address) -> None:
    with pytest.raises(BindError, match=r"port \d+ is already in use: choose another one with --management"):
        listen(address)
