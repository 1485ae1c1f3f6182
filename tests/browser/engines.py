"""Walk through the demo in other browsers than the one of the tests: `python -m tests.browser.engines firefox webkit`.

Two people talk, lose the server and come back; the game is drawn, and each page is looked at. What a page complains of
once it has loaded, or does not show in time, is printed, and the command fails. With `--pictures FOLDER` each page is
also drawn. Whether a boat obeys is not judged here: the water moves by itself.

Needs `selenium` (PyPI) and a driver on PATH: geckodriver with Firefox; WebKitWebDriver (Debian's `webkit2gtk-driver`),
whose engine is Safari's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from tests.browser.driving import DemoServer

PATIENCE = 20.0  # seconds
PAGES = ["/", "/chat/in/harbour/", "/notifications/", "/game/", "/speed/", "/you/"]

# Errors from when the page has loaded. What fails before that is missed, and shows only in what the page then lacks.
COMPLAINTS = """
if (!window.complaints) {
  window.complaints = [];
  addEventListener('error', (event) => complaints.push(String(event.message || event.target?.src || event.type)), true);
  addEventListener('unhandledrejection', (event) => complaints.push(String(event.reason)));
}
return complaints;
"""
SHOWN = """const [selector, text, pattern] = arguments;
return [...document.querySelectorAll(selector)].find((each) =>
  each.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && each.offsetHeight !== 0 &&
  each.innerText.includes(text) && new RegExp(pattern).test(each.innerText));
"""
WIDE = "return [...document.querySelectorAll('*')].length && document.documentElement.scrollWidth - innerWidth"


class Person:
    """Somebody at a browser of their own."""

    def __init__(self, driver: Any, server: DemoServer, name: str, pictures: Path | None) -> None:
        self.driver = driver
        self.server = server
        self.name = name
        self.pictures = pictures
        self.faults: list[str] = []

    def goes_to(self, path: str) -> None:
        self.driver.get(self.server.url + path)
        self.driver.execute_script(COMPLAINTS)

    def sees(self, selector: str, text: str = "", pattern: str = "") -> Any:
        """The first element that is shown, with a text. Waits for it."""
        found = partial(self.driver.execute_script, SHOWN, selector, text, pattern)
        return until(found, f"{self.name} sees no {selector} with {text or pattern!r}")

    def misses(self, selector: str) -> None:
        """Wait until nothing of this is shown."""
        until(lambda: not self.driver.execute_script(SHOWN, selector, "", ""), f"{self.name} still sees {selector}")

    def looks(self, name: str) -> None:
        """Judge the page that is open, and draw it."""
        self.faults += [f"{name}: {one}" for one in self.driver.execute_script(COMPLAINTS)]
        if (wide := self.driver.execute_script(WIDE)) > 0:
            self.faults.append(f"{name}: {wide} pixels too wide")
        if self.pictures is not None:
            self.driver.save_screenshot(str(self.pictures / f"{self.driver.name}-{self.name}-{name}.png"))


def until(condition: Callable[[], Any], complaint: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except Exception as error:  # an element that is drawn anew meanwhile
            complaint = f"{complaint.partition(' (')[0]} ({type(error).__name__})"
        time.sleep(0.05)
    raise AssertionError(complaint)


def firefox() -> Any:
    options = webdriver.FirefoxOptions()
    options.add_argument("-headless")
    return webdriver.Firefox(options=options, service=webdriver.FirefoxService(shutil.which("geckodriver")))


def webkit() -> Any:
    options = webdriver.WebKitGTKOptions()
    options.binary_location = "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser"
    options.add_argument("--automation")
    service = webdriver.WebKitGTKService(shutil.which("WebKitWebDriver"))
    return webdriver.WebKitGTK(options=options, service=service)


BROWSERS: dict[str, Callable[[], Any]] = {"firefox": firefox, "webkit": webkit}


def says(person: Person, text: str) -> None:
    box = person.sees("[data-text]")
    box.send_keys(text)
    box.send_keys(Keys.ENTER)


def walk(server: DemoServer, mira: Person, tom: Person) -> None:
    for person in (mira, tom):
        person.goes_to("/you/")
        name = person.sees("input[name=name]")
        name.clear()
        name.send_keys(person.name)
        name.submit()
        person.sees("[href='/you/']", person.name)
        person.goes_to("/chat/in/harbour/")
        person.sees("[data-log]")
    said = [f"Ahoy {number}! 你好" for number in range(3)]
    for text in said:
        says(mira, text)
    for text in said:
        tom.sees(".message .bubble", text)
    mira.sees("[data-here-count]", "2")
    tom.driver.find_element(By.CSS_SELECTOR, "[data-text]").send_keys("H")
    mira.sees("[data-typing]", pattern="Tom")
    for person in (mira, tom):
        person.looks("chat")

    server.stop()
    mira.sees("[data-banner]")
    mira.looks("away")
    server.start()
    for person in (mira, tom):
        person.misses("[data-banner]")
    says(mira, "Back again.")
    tom.sees(".message .bubble", "Back again.")
    texts = tom.driver.execute_script(
        "return [...document.querySelectorAll('.message .bubble')].map((e) => e.innerText)"
    )
    if [text for text in texts if text.strip()] != [*said, "Back again."]:
        tom.faults.append(f"chat: {texts}")

    for person in (mira, tom):
        person.goes_to("/game/")
        person.sees("[data-scores] .mine")
    mira.sees("[data-scores]", "Tom")
    picture = "return document.querySelector('[data-canvas]').toDataURL()"
    before = tom.driver.execute_script(picture)
    mira.driver.find_element(By.CSS_SELECTOR, "[role=application]").send_keys(Keys.ARROW_UP)
    until(lambda: tom.driver.execute_script(picture) != before, "nothing moves")
    frames = mira.driver.execute_async_script(FRAMES)
    print(f"  the game: {frames:.0f} frames a second")

    mira.goes_to("/speed/")
    mira.sees("main", pattern=r"\d")
    for path in PAGES:
        mira.goes_to(path)
        mira.sees("h1")
        mira.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        mira.looks(path.strip("/").replace("/", "-") or "start")


FRAMES = """
const done = arguments[0], begun = performance.now();
let count = 0;
requestAnimationFrame(function frame(now) {
  count += 1;
  if (now - begun < 2000) requestAnimationFrame(frame); else done(count / ((now - begun) / 1000));
});
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("browsers", nargs="+", choices=BROWSERS)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw each page into this folder")
    options = parser.parse_args(arguments)
    faults = 0
    for browser in options.browsers:
        with tempfile.TemporaryDirectory() as folder, DemoServer(Path(folder, "db.sqlite3")) as server:
            drivers = []
            try:
                drivers = [BROWSERS[browser]() for _ in range(2)]
                print(f"{browser} {drivers[0].capabilities.get('browserVersion')}", flush=True)
                drivers[0].set_window_size(1280, 850)
                drivers[1].set_window_size(500, 844)
                people = [
                    Person(driver, server, name, options.pictures)
                    for driver, name in zip(drivers, ("Mira", "Tom"), strict=True)
                ]
                walk(server, *people)
            except AssertionError as error:
                people[0].faults.append(str(error))
                for person in people:
                    person.looks("stuck")
            finally:
                for driver in drivers:
                    driver.quit()
        found = [fault for person in people for fault in person.faults]
        print(*(f"  {fault}" for fault in found), sep="\n")
        print(f"  {len(found)} faults", flush=True)
        faults += len(found)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
