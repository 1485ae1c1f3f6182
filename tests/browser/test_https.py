"""The demo over https, with the certificate for localhost: a page, its chat over wss, and both over one connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Open
from tests.browser.driving import BROWSER_FLAGS, DemoServer, find_browser
from tests.browser.net_log import NetLog
from tests.browser.test_chat import enter, expect_said, say


@pytest.fixture
def https(browser: Any, tmp_path: Path) -> Iterator[DemoServer]:
    pytest.importorskip("trustme")
    with DemoServer(tmp_path / "db.sqlite3", "--dev-tls", XDG_DATA_HOME=str(tmp_path)) as server:
        yield server


def test_two_people_chat_over_wss(https: DemoServer, people: Open) -> None:
    assert https.url.startswith("https://")
    addresses: list[str] = []
    mira = people(https, "Mira", ignore_https_errors=True)
    mira.on("websocket", lambda socket: addresses.append(socket.url))
    enter(mira, "harbour")
    tom = enter(people(https, "Tom", ignore_https_errors=True), "harbour")

    say(mira, "is this line private?")
    expect_said(tom, "is this line private?")

    assert addresses
    assert all(address.startswith("wss://127.0.0.1:") for address in addresses)
    spoken = mira.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
    assert spoken == "h2"
    assert mira.evaluate("window.isSecureContext")
    expect(mira.locator("[data-banner]")).to_be_hidden()


def test_8441_the_chat_is_a_stream_of_the_connection_that_brought_its_page(
    https: DemoServer, browser: Any, tmp_path: Path
) -> None:
    """The browser says so itself, in its log of the network."""
    path = tmp_path / "net-log.json"
    flags = [*BROWSER_FLAGS, f"--log-net-log={path}", "--net-log-capture-mode=Everything"]
    logging = browser.browser_type.launch(executable_path=find_browser(), args=flags)
    try:
        page = logging.new_page(base_url=https.url, ignore_https_errors=True)
        enter(page, "harbour")
        say(page, "all in one line")
        expect_said(page, "all in one line")
    finally:
        logging.close()

    log = NetLog(path)
    host = f"127.0.0.1:{https.port}"
    heads = [event for event in log.of("HTTP2_SESSION_SEND_HEADERS") if event.fields[":authority"] == host]
    handshakes = [event for event in heads if ":protocol" in event.fields]
    assert {event.source for event in heads} == {handshakes[0].source}, "one connection for all"
    [handshake] = [event for event in handshakes if "/chat/" in event.fields[":path"]]
    assert {name: handshake.fields[name] for name in (":method", ":protocol", ":scheme", "sec-websocket-version")} == {
        ":method": "CONNECT",
        ":protocol": "websocket",
        ":scheme": "https",
        "sec-websocket-version": "13",
    }
    connection, stream = handshake.source, handshake.params["stream_id"]
    [asked] = [
        event for event in log.of("HTTP2_SESSION_SEND_HEADERS", connection, 1) if ":protocol" not in event.fields
    ]
    assert (asked.fields[":method"], asked.fields[":path"]) == ("GET", "/chat/in/harbour/")
    [answer] = log.of("HTTP2_SESSION_RECV_HEADERS", connection, stream)
    assert answer.fields[":status"] == "200"
    # What is said goes up and comes down again, inside the stream.
    for kind in ("HTTP2_SESSION_SEND_DATA", "HTTP2_SESSION_RECV_DATA"):
        assert any(event.params["size"] > 0 for event in log.of(kind, connection, stream)), kind
    assert not list(log.of("HTTP2_SESSION_RECV_RST_STREAM", connection, stream))
