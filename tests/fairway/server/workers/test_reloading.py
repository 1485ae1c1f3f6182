"""What counts as a change, and how the supervisor hears of it. The watcher is a double, where no files are needed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fairway.server.site_process import PATIENCE

from fairway.server.limits import ConfigurationError
from fairway.server.workers.reloading import Reloader, counts, told


@pytest.mark.parametrize(
    "path",
    ["views.py", "shop/views.py", "shop/templates/shop/cart.html", "templates/mail.txt", "mysite.toml", ".env"],
)
def test_what_is_a_reason_to_reload(path: str):
    assert counts(path, ["*.toml", ".env"])


@pytest.mark.parametrize(
    "path",
    [
        "db.sqlite3",
        "static/app.js",
        "page.html",
        "__pycache__/views.cpython-311.pyc",
        "shop/__pycache__/views.py",
        ".git/hooks/x.py",
        ".venv/lib/x.py",
        "venv/lib/x.py",
        "node_modules/gyp/x.py",
        "templates/.cart.html.swp",
        "templates/cart.html~",
        ".#views.py",
        "templates",
    ],
)
def test_what_is_none(path: str):
    assert not counts(path, ["*.toml"])


def test_what_has_changed_is_said_in_a_few_words():
    assert told(["a.py"]) == "a.py changed"
    assert told(["a.py", "b.py"]) == "a.py, b.py changed"
    assert told(["a.py", "b.py", "c.py", "d.py"]) == "a.py, b.py and 2 more changed"


class ScriptedWatch:
    """In the place of `watchfiles.watch`: yields these changes, as far as the filter lets them through."""

    def __init__(self, *changes: list[str], error: Exception | None = None) -> None:
        self.changes = changes
        self.error = error
        self.folders: tuple[str, ...] = ()

    def __call__(self, *folders: str, **options: Any) -> Iterator[set[tuple[Any, str]]]:
        self.folders = folders
        for paths in self.changes:
            if some := {("modified", path) for path in paths if options["watch_filter"]("modified", path)}:
                yield some
        if self.error is not None:
            raise self.error
        options["stop_event"].wait(PATIENCE)


def received(reloader: Reloader) -> str:
    with reloader.changes() as changes:
        changes.settimeout(PATIENCE)
        return changes.recv(4096).decode()


def test_a_change_can_be_read_from_the_socket(tmp_path: Path):
    folder = tmp_path / "env" / ".hidden"
    folder.mkdir(parents=True)
    watch = ScriptedWatch([f"{folder}/app.js"], ["/elsewhere/x.py"], [f"{folder}/b.py", f"{folder}/a.py"])
    assert received(Reloader([str(folder)], watch=watch)) == "a.py, b.py changed"
    assert watch.folders == (str(folder),)


def test_names_of_files_are_safe_to_log(tmp_path: Path):
    watch = ScriptedWatch([f"{tmp_path}/a\x1b[2J.py"])
    assert received(Reloader([str(tmp_path)], watch=watch)) == "a\\x1b[2J.py changed"


def test_if_files_cannot_be_watched_one_line_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    watch = ScriptedWatch(error=OSError("OS file watch limit reached"))
    reloader = Reloader([str(tmp_path)], watch=watch)
    with reloader.changes():
        for thread in threading.enumerate():
            if thread.name == "fairway reload":
                thread.join(PATIENCE)
    assert [one.getMessage() for one in caplog.records] == [
        "files are not watched any more: OS file watch limit reached"
    ]


def test_real_files_are_watched(tmp_path: Path):
    pytest.importorskip("watchfiles")
    reloader = Reloader([str(tmp_path)], ["*.toml"])
    with reloader.changes() as changes:
        changes.settimeout(0.05)
        # Watching begins in a thread, so the first changes may come too early.
        for number in range(200):
            (tmp_path / "notes.txt").write_text(str(number))
            (tmp_path / "site.toml").write_text(str(number))
            try:
                assert changes.recv(4096) == b"site.toml changed"
                return
            except TimeoutError:
                continue
    pytest.fail("no change was seen")


def test_a_folder_that_does_not_exist_is_one_sentence(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"^--reload-dir .*/nowhere: there is no such folder$"):
        Reloader([str(tmp_path / "nowhere")], watch=ScriptedWatch())


def test_without_watchfiles_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigurationError, match=r"^--reload needs watchfiles: pip install watchfiles$"):
        Reloader()
