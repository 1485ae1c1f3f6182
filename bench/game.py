"""The demo's game in a real browser: frames a second with sixteen boats, and how it plays over a bad line.

    python -m bench.game frames [SECONDS]      # Chromium's own trace: frames drawn
    python -m bench.game line [SECONDS]        # two players; 150 ms ± 50 ms each way, lost every 20 s

*frames*: fifteen players sail from here, the page is the sixteenth. The counts are those of Chromium's own trace.
Headless Chromium paints in software, so a machine with a graphics card does better.

*line*: a proxy delays each piece of data by 100 to 200 ms, in both directions, and resets all connections every 20 s.
Two pages steer through it. What they draw is taken from their canvas: where each boat is in each frame. Counted are
*jumps* (farther in a frame than a boat can sail in three), the time from a key to the first movement, and whether boat
and score survive.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright
from tests.browser.driving import BROWSER_FLAGS, DemoServer, find_browser
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

BOATS = 16
LEAST_DELAY, MOST_DELAY = 0.1, 0.2  # seconds
LOST_EVERY = 20.0
FASTEST = 210.0  # metres a second: game/world.py

# Where the boats are, in each frame: each is drawn by one translate() of the canvas that is shown.
RECORD = """
window.frames_ = [];
let boats = null;
const translate = CanvasRenderingContext2D.prototype.translate;
CanvasRenderingContext2D.prototype.translate = function (x, y) {
  if (boats && this.canvas.isConnected) boats.push([x, y]);
  return translate.call(this, x, y);
};
const later = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (call) => later((now) => {
  boats = [];
  call(now);
  if (boats.length) window.frames_.push([now, boats]);
  boats = null;
});
"""


class BadLine:
    """A TCP proxy in a thread of its own: every piece of data is late, and now and then all connections are reset."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._connections: set[asyncio.StreamWriter] = set()
        self.losses = 0
        self.is_losing = True
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True).start()
        self._ready.wait()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        while True:
            await asyncio.sleep(LOST_EVERY)
            if self.is_losing:
                self.losses += 1
                for writer in list(self._connections):
                    writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """In their order: what is later than what follows it makes that wait, as on a real line."""
        self._connections.add(writer)
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.ensure_future(self._send(pieces, writer))
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                pieces.put_nowait((self._loop.time() + random.uniform(LEAST_DELAY, MOST_DELAY), data))
        pieces.put_nowait((self._loop.time(), b""))
        with contextlib.suppress(OSError):
            await sending
        writer.close()
        self._connections.discard(writer)

    async def _send(self, pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not data:
                return
            writer.write(data)


class Fleet:
    """Players without a page, who sail in circles."""

    def __init__(self, server: DemoServer, count: int) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._tasks = [self._loop.create_task(self._sail(self._cookie())) for _ in range(count)]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _cookie(self) -> str:
        with urllib.request.urlopen(f"{self._server.url}/") as answer:
            return "; ".join(each.partition(";")[0] for each in answer.headers.get_all("set-cookie"))

    async def _sail(self, cookie: str) -> None:
        headers = {"Cookie": cookie}
        url = f"ws://127.0.0.1:{self._server.port}/ws/game/harbour/"
        connection = connect(url, additional_headers=headers, origin=self._server.url)
        with contextlib.suppress(ConnectionClosed):
            async with connection as socket:
                self._tasks.append(asyncio.ensure_future(self._listen(socket)))
                for seq in range(1, 10**6):
                    content = {"type": "steer", "turn": random.uniform(-0.6, 0.6), "throttle": 1, "seq": seq}
                    await socket.send(json.dumps(content))
                    await asyncio.sleep(0.5)

    async def _listen(self, socket: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for _ in socket:
                pass


def frames(seconds: float) -> None:
    """Count frames, of Chromium's trace."""
    with served() as server, browser() as chromium:
        Fleet(server, BOATS - 1)
        page = chromium.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)
        page.add_init_script(RECORD)
        page.goto(f"{server.url}/game/")
        page.wait_for_function(f"window.frames_.length && window.frames_.at(-1)[1].length >= {BOATS}")
        page.locator("[data-stage]").focus()
        page.keyboard.down("ArrowUp")
        session = chromium.new_browser_cdp_session()
        events: list[dict[str, Any]] = []
        session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
        done = threading.Event()
        session.on("Tracing.tracingComplete", lambda _: done.set())
        categories = "cc,viz,benchmark,devtools.timeline,devtools.timeline.frame"
        session.send("Tracing.start", {"transferMode": "ReportEvents", "categories": categories})
        first = page.evaluate("window.frames_.length")
        cpu = -cpu_time(session)
        page.wait_for_timeout(1000 * seconds)
        cpu += cpu_time(session)
        drawn = page.evaluate("window.frames_.length") - first
        boats = page.evaluate("window.frames_.at(-1)[1].length")
        session.send("Tracing.end")
        while not done.is_set():
            page.wait_for_timeout(50)
    shown = sum(event["name"] == "Graphics.Pipeline.DrawAndSwap" and event["ph"] == "b" for event in events)
    costs = [event["dur"] / 1000 for event in events if event["name"] == "FireAnimationFrame" and "dur" in event]
    print(f"{boats} boats, {seconds:g} s: {drawn / seconds:.1f} pictures a second by the page itself")
    print(f"Chromium's trace: {shown / seconds:.1f} frames drawn a second")
    print(f"CPU time of all of Chromium: {1000 * cpu / drawn:.1f} ms a frame")
    ranked = sorted(costs)
    print(
        f"script in a frame: median {statistics.median(ranked):.2f} ms, "
        f"99th percentile {ranked[int(len(ranked) * 0.99)]:.2f} ms, of 16.7 ms"
    )


def cpu_time(session: Any) -> float:
    """Seconds that all processes of the browser have used."""
    return sum(process["cpuTime"] for process in session.send("SystemInfo.getProcessInfo")["processInfo"])


def line(seconds: float) -> None:
    """Play over a bad line."""
    with served() as server, browser() as chromium:
        proxy = BadLine(server.port)
        pages = [chromium.new_context(bypass_csp=True).new_page() for _ in range(2)]
        for page in pages:
            page.add_init_script(RECORD)
            page.goto(f"http://127.0.0.1:{proxy.port}/game/in/bad-line/")
            page.wait_for_selector("[data-scores] .mine")
            page.locator("[data-stage]").focus()
        pages[0].wait_for_timeout(2000)
        ends = time.monotonic() + seconds
        scores: list[list[int]] = [[] for _ in pages]
        answers: list[float] = []
        while time.monotonic() < ends:
            for page, known in zip(pages, scores, strict=True):
                answers += steer(page)
                known.append(int(page.locator("[data-scores] .mine b").inner_text()))
        for number, page in enumerate(pages):
            found = page.evaluate("window.frames_")
            print(f"player {number + 1}: {judge(found)}")
            print(f"  scores: {scores[number]}")
            lost = [two - one for one, two in itertools.pairwise(scores[number]) if two < one]
            print(
                f"  points lost other than by a new round: {sum(1 for each in lost if each > -1)}, falls: {len(lost)}"
            )
            print(f"  boats of this person: {page.locator('[data-scores] .mine').count()}")
        print(f"the line was lost {proxy.losses} times")
        if answers:
            middle = statistics.median(answers)
            print(f"from a key to the first movement: median {middle:.0f} ms, most {max(answers):.0f} ms")


def steer(page: Page) -> list[float]:
    """Sail for a while towards the middle. Returns how long the boat took to turn, in milliseconds."""
    began = page.evaluate("performance.now()")
    page.keyboard.down("ArrowUp")
    page.wait_for_timeout(500)
    page.keyboard.down(random.choice(["ArrowLeft", "ArrowRight"]))
    page.wait_for_timeout(700)
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp"):
        page.keyboard.up(key)
    page.wait_for_timeout(900)
    # One's own boat is drawn last.
    own = page.evaluate(f"window.frames_.filter(([now]) => now > {began}).map(([now, boats]) => [now, boats.at(-1)])")
    start = own[0][1] if own else None
    moved = next((now for now, place in own if abs(place[0] - start[0]) + abs(place[1] - start[1]) > 1), None)
    return [] if moved is None else [moved - began]


def judge(found: list[Any]) -> str:
    """How smooth the boats have moved: the own one, which is drawn last, and the others."""
    gaps = [two[0] - one[0] for one, two in itertools.pairwise(found)]
    jumps = {"own": 0, "others": 0}
    farthest = 0.0
    for (before, old), (now, new) in itertools.pairwise(found):
        most = 3 * FASTEST * (now - before) / 1000 + 3
        if len(old) != len(new):
            continue
        for index, ((x, y), (to_x, to_y)) in enumerate(zip(old, new, strict=True)):
            far = ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5
            if far > most:
                jumps["own" if index == len(new) - 1 else "others"] += 1
                farthest = max(farthest, far)
    rate = 1000 * len(gaps) / (found[-1][0] - found[0][0])
    return f"{len(found)} frames, {rate:.0f} a second; jumps {jumps}, the farthest {farthest:.0f} m"


@contextlib.contextmanager
def served() -> Any:
    with tempfile.TemporaryDirectory() as folder, DemoServer(Path(folder) / "db.sqlite3") as server:
        yield server


@contextlib.contextmanager
def browser() -> Any:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_browser(), args=BROWSER_FLAGS)
        yield chromium
        chromium.close()


if __name__ == "__main__":
    what, *rest = sys.argv[1:] or [""]
    if what not in ("frames", "line"):
        sys.exit(__doc__)
    (frames if what == "frames" else line)(float(rest[0]) if rest else {"frames": 10.0, "line": 65.0}[what])
