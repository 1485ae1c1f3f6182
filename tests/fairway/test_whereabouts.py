"""Where a thread is, for a log."""

from __future__ import annotations

import threading
from typing import Any

from fairway import whereabouts

PARTS = {
    "/srv/manage.py": "def program(): server()",
    "/srv/server.py": "def server(): handler()",
    "/srv/site/views.py": "def handler(): query()",
    "/usr/lib/site-packages/driver.py": "def query(): stop()",
}


def stacks(outside: str | None) -> list[str]:
    """The functions in the stack of a thread that runs the parts, each of which calls the next one."""
    found: list[str] = []
    names: dict[str, Any] = {
        "stop": lambda: found.append(whereabouts.stack_of_thread(threading.get_ident(), outside)),
    }
    for path, source in PARTS.items():
        exec(compile(source, path, "exec"), names)
    thread = threading.Thread(target=names["program"])
    thread.start()
    thread.join()
    header, *lines = found[0].splitlines()
    assert header == "Stack (most recent call last):"
    return [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]


def test_stack_begins_with_the_application_and_keeps_libraries_within_it():
    assert stacks(None)[:4] == ["program", "server", "handler", "query"]


def test_stack_leaves_out_who_runs_the_loop():
    assert stacks("/srv/server.py")[:2] == ["handler", "query"]
