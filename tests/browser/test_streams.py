"""Pages over two processes: whatever is lost on the way, nothing is lost or doubled on the screen."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import LOST, Open
from tests.browser.driving import ROOT, DemoServer
from tests.fairway.loops import LoopThread
from tests.services.local import broker_id, end_broker

from fairway.layers.local.place import given_place
from fairway.testing.fault_proxy import FaultProxy

pytestmark = pytest.mark.timeout(240)

OUTAGE = 5000
"""Milliseconds."""

"""Milliseconds for somebody who has died to be missed, and for somebody to be back, on a busy machine."""


class TalkServer(DemoServer):
    """A process that serves the page."""

    application = "tests.browser.streams_site:application"
    folder = ROOT

    def __init__(self, layer: dict[str, Any]) -> None:
        super().__init__(Path(), STREAMS_LAYER=json.dumps(layer), DJANGO_SETTINGS_MODULE="")

    def __enter__(self) -> Self:
        self.start()
        return self


class Service:
    """What is between the processes."""

    def __init__(self, layer: dict[str, Any], signals: Callable[[signal.Signals], object]) -> None:
        self.layer = layer
        self.signals = signals


@pytest.fixture(params=["local", "redis"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    options: dict[str, Any] = {"history": {"*": {"size": 200}}, "answer_timeout": 2, "outage_wait": 0.5}
    if request.param == "redis":
        redis = request.getfixturevalue("redis")
        options |= {"hosts": [redis.url], "prefix": str(tmp_path)}
        yield Service({"BACKEND": "fairway.layers.redis.RedisChannelLayer", "CONFIG": options}, redis.signal)
        return
    place = given_place(str(tmp_path / "broker.sock"))
    options["socket"] = place.path
    broker: list[int] = []

    def send(number: signal.Signals) -> None:
        broker[:] = broker or [broker_id(place)]
        os.kill(broker[0], number)

    yield Service({"BACKEND": "fairway.layers.local.LocalChannelLayer", "CONFIG": options}, send)
    end_broker(place)


@pytest.fixture
def servers(service: Service, browser: Any) -> Iterator[list[TalkServer]]:
    """Two processes."""
    with ExitStack() as stack:
        yield [stack.enter_context(TalkServer(service.layer)) for _ in range(2)]


class Line:
    """The network between a browser and a process, which can fail."""

    def __init__(self, target: TalkServer, loop: LoopThread) -> None:
        self._loop = loop
        self._proxy = FaultProxy("127.0.0.1", target.port)
        loop.call(self._proxy.__aenter__())
        self.url = f"http://127.0.0.1:{self._proxy.port}"
        self.output = target.output

    def fail(self) -> None:
        self._loop.call(self._set(refusing=True))

    def mend(self) -> None:
        self._loop.call(self._set(refusing=False))

    def close(self) -> None:
        self._loop.call(self._proxy.__aexit__(None, None, None))

    async def _set(self, refusing: bool) -> None:
        self._proxy.refusing = refusing
        if refusing:
            self._proxy.cut()


@pytest.fixture
def line(servers: list[TalkServer]) -> Iterator[Line]:
    """To the first process."""
    with LoopThread(asyncio.new_event_loop) as loop:
        line = Line(servers[0], loop)
        yield line
        line.close()


def enter(page: Any, name: str) -> Any:
    page.goto(f"/?name={name}")
    expect_state(page, "connected")
    return page


def say(page: Any, text: str) -> None:
    page.get_by_label("Say").fill(text)
    page.get_by_label("Say").press("Enter")


def expect_state(page: Any, state: str) -> None:
    expect(page.locator(".state")).to_have_text(state)


def expect_said(page: Any, *texts: str) -> None:
    expect(page.locator(".said li")).to_have_text(list(texts))


def expect_here(page: Any, *names: str) -> None:
    expect(page.locator(".here li")).to_have_text(list(names))


def expect_events(page: Any, *events: str) -> None:
    expect(page.locator(".events li")).to_have_text(list(events))


def test_nothing_is_lost_or_doubled_on_the_screen(
    service: Service, servers: list[TalkServer], line: Line, people: Open, tmp_path: Path
) -> None:
    here, there = servers
    mira = enter(people(here, base_url=line.url, expected=LOST), "mira")
    ada = enter(people(here), "ada")
    tom = enter(people(there, expected=LOST), "tom")
    second = enter(tom.context.new_page(), "tom")
    everybody = [mira, ada, tom, second]
    said = []

    def talk(page: Any, name: str, text: str) -> None:
        say(page, text)
        said.append(f"{name}: {text}")

    talk(mira, "mira", "hello")
    expect_said(tom, *said)
    talk(tom, "tom", "hello you")
    for page in everybody:
        expect_said(page, *said)
        expect_here(page, "ada", "mira", "tom")
    expect_events(mira, "ada joined", "tom joined")

    # One of two tabs is closed, and the other one loaded again: nobody notices.
    second.close()
    everybody.remove(second)
    tom.reload()
    expect_state(tom, "connected")
    expect_said(tom, *said)

    # Mira's network is away, for longer than somebody lingers.
    line.fail()
    expect_state(mira, "away")
    for number in range(3):
        talk(tom, "tom", f"while you were away {number}")
    expect_said(ada, *said)
    mira.wait_for_timeout(OUTAGE)
    expect_here(ada, "ada", "tom")
    line.mend()
    expect_state(mira, "connected")
    for page in everybody:
        expect_said(page, *said)
        expect_here(page, "ada", "mira", "tom")
    expect_events(ada, "tom joined", "mira left", "mira joined")

    # A process is killed, and comes back.
    there.kill()
    talk(mira, "mira", "anybody there?")
    talk(ada, "ada", "tom has gone")
    expect_said(ada, *said)
    expect_here(mira, "ada", "mira")
    there.start()
    expect_state(tom, "connected")
    for page in everybody:
        expect_said(page, *said)
        expect_here(page, "ada", "mira", "tom")
    expect_events(ada, "tom joined", "mira left", "mira joined", "tom left", "tom joined")

    # The service between the processes stands still. What is said meanwhile is sent when it is back.
    service.signals(signal.SIGSTOP)
    say(mira, "is this")
    say(tom, "lost")
    mira.wait_for_timeout(OUTAGE)
    service.signals(signal.SIGCONT)
    for page in everybody:
        expect(page.locator(".said li")).to_have_count(len(said) + 2)
    texts = [page.locator(".said li").all_inner_texts() for page in everybody]
    assert texts[0] == texts[1] == texts[2], "one order for all"
    assert texts[0][: len(said)] == said
    assert set(texts[0][len(said) :]) == {"mira: is this", "tom: lost"}
    for page in everybody:
        expect_state(page, "connected")
        expect_here(page, "ada", "mira", "tom")
        expect(page.locator(".events")).not_to_contain_text("twice")
    expect_events(ada, "tom joined", "mira left", "mira joined", "tom left", "tom joined")
    mira.screenshot(path=tmp_path / "nothing-is-lost.png")
