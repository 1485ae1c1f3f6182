"""How long a newcomer waits: from a clone to the first message in a browser, and to an own consumer by the tutorial.

    python bench/newcomer.py [--without-tutorial]

Does what the README says, in an empty environment: clones this repository, runs `make demo`, opens the page in
Chromium and sends a message. Then it follows the tutorial from its first command to its last, as
`tests/docs/test_walkthrough.py` does, and times each step. Typing and reading are not in it. It also asks the browser
how fast the demo's start page is: as it is, and slowed down as Lighthouse does it for a phone.

Needs what the tests need, and Chromium. What pip takes from an index comes over the network, or out of its cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from playwright.sync_api import Page, expect, sync_playwright  # noqa: E402
from tests.browser.driving import BROWSER_FLAGS, find_browser  # noqa: E402
from tests.browser.states import say  # noqa: E402
from tests.docs.pages import split  # noqa: E402
from tests.docs.test_walkthrough import TutorialReader  # noqa: E402

PATIENCE = 600.0  # seconds
# Lighthouse's, beside a processor that is four times slower.
SLOW_PHONE = {"offline": False, "latency": 150, "downloadThroughput": 200_000, "uploadThroughput": 94_000}  # bytes/s
FIGURES = """() => new Promise((resolve) => {
  let largest = 0, shift = 0;
  const watch = (type, note) => new PerformanceObserver((list) => list.getEntries().forEach(note))
    .observe({ type, buffered: true });
  watch("largest-contentful-paint", (entry) => (largest = entry.startTime));
  watch("layout-shift", (entry) => entry.hadRecentInput || (shift += entry.value));
  setTimeout(() => {
    const [page] = performance.getEntriesByType("navigation");
    const files = performance.getEntriesByType("resource");
    const first = performance.getEntriesByName("first-contentful-paint")[0];
    resolve({
      "first byte": page.responseStart, "first contentful paint": first.startTime, "largest contentful paint": largest,
      "DOM ready": page.domContentLoadedEventEnd, "loaded": page.loadEventEnd, "layout shift": shift,
      "requests": files.length + 1,
      "KB": [page, ...files].reduce((sum, entry) => sum + entry.transferSize, 0) / 1000,
    });
  }, 1000);
})"""


@contextmanager
def timed(what: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    print(f"{time.monotonic() - begin:8.1f} s  {what}", flush=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def clone(folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


@contextmanager
def make_demo(folder: Path, home: Path) -> Iterator[str]:
    """`make demo` as somebody with nothing but the system's programs runs it; its address, when it listens."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    with subprocess.Popen(
        ["make", "demo", f"PORT={port}"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        end = time.monotonic() + PATIENCE
        while not is_open(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("`make demo` did not start")
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGINT)


def measure(page: Page, address: str, *, slow: bool) -> dict[str, float]:
    """What the browser says of loading the start page with an empty cache."""
    session = page.context.new_cdp_session(page)
    if slow:
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", SLOW_PHONE)
        session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(address, wait_until="load")
    figures: dict[str, float] = page.evaluate(FIGURES)
    return figures


def chat(page: Page, address: str) -> None:
    page.goto(f"{address}/chat/in/harbour/")
    say(page, "Ahoy! 你好！")
    expect(page.locator(".mine")).not_to_have_count(0)
    expect(page.locator(".pending")).to_have_count(0)


def to_first_message(scratch: Path) -> None:
    begin = time.monotonic()
    with timed("git clone"):
        folder = clone(scratch / "fairway")
    starting = time.monotonic()
    with make_demo(folder, scratch / "home") as address, sync_playwright() as playwright:
        print(f"{time.monotonic() - starting:8.1f} s  make demo, until it listens", flush=True)
        browser = playwright.chromium.launch(executable_path=find_browser(), args=BROWSER_FLAGS)
        with timed("Chromium: the room, the first message, back from the server"):
            chat(browser.new_page(locale="en-GB"), address)
        print(f"{time.monotonic() - begin:8.1f} s  in all, from the clone to the first message\n")
        for name, slow, options in (
            ("start page, desktop", False, {"viewport": {"width": 1280, "height": 900}}),
            ("start page, slow phone", True, {**playwright.devices["Pixel 7"]}),
        ):
            options.pop("default_browser_type", None)
            figures = measure(browser.new_context(locale="en-GB", **options).new_page(), address, slow=slow)
            print(f"{name}: " + ", ".join(f"{what} {written(what, value)}" for what, value in figures.items()))
        browser.close()


def written(what: str, value: float) -> str:
    if what in ("requests", "KB"):
        return f"{value:.0f}"
    return f"{value:.3f}" if what == "layout shift" else f"{value:.0f} ms"


def to_own_consumer(scratch: Path) -> None:
    expect.set_options(timeout=30_000)
    clone(scratch / "fairway") if not (scratch / "fairway").exists() else None
    (scratch / "here").mkdir()
    reader: Any = TutorialReader(scratch / "here")
    begin = time.monotonic()
    for block in split(TutorialReader.page)[0]:
        what = "; ".join(block.text.splitlines()) if block.kind == "run" else f"write {Path(block.path).name}"
        with timed(what):
            reader.follow(block)
    print(f"{time.monotonic() - begin:8.1f} s  in all, for the whole tutorial, both exercises and its tests included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-tutorial", action="store_true")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="newcomer-"))
    (scratch / "home").mkdir()
    try:
        to_first_message(scratch)
        if not arguments.without_tutorial:
            print("\nThe tutorial, step by step:\n")
            to_own_consumer(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
