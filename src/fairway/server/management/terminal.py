"""`fairway status`: the state of a server at a terminal, in a table that refreshes.

It asks the management socket for `/status`. Rates need two answers. `lines` is pure, and turns two answers into text;
`main` asks and draws. An error is one sentence, with exit code 1.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO, TypeAlias

from fairway.logs import printable
from fairway.server.management.address import Address, parsed
from fairway.server.management.figures import KINDS

Status: TypeAlias = Mapping[str, Any]
"""An answer of `/status`: an `Overview` as JSON."""

REFRESH_SECONDS = 1.0
_ASK_SECONDS = 5.0
_MOST_BYTES = 4 << 20

_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_CLEAR, _HIDE_CURSOR, _SHOW_CURSOR = "\x1b[2J", "\x1b[?25l", "\x1b[?25h"

_COLUMNS = (
    ("#", 3), ("PID", 8), ("STATE", 9), ("UP", 8), ("CONN", 8), ("MSG/S", 8), ("BCAST/S", 9), ("REQ/S", 7),
    ("LAG", 7), ("CPU", 5), ("MEM", 7),
)  # fmt: skip


class NoAnswer(Exception):
    """No server answers, or its answer is not understood. The text is one sentence."""


# What is shown ----------------------------------------------------------------------------------------------------


def lines(status: Status, before: Status | None, seconds: float) -> list[str]:
    """The lines to show, of at most 80 columns. `before` is the answer from `seconds` earlier; without it there are no
    rates.
    """
    processes = status["processes"]
    earlier = {one["pid"]: one for one in before["processes"]} if before is not None else {}
    rates = [_rates(one["figures"], earlier.get(one["pid"], {}).get("figures"), seconds) for one in processes]
    return [
        *_summary(status, rates),
        "",
        "".join(name.rjust(width) for name, width in _COLUMNS),
        *(_row(one, rate) for one, rate in zip(processes, rates, strict=True)),
    ]


_COUNTED = {
    "messages": ("server", "messages_received"),
    "requests": ("server", "requests"),
    "errors": ("server", "errors"),
    "faults": ("server", "faults"),
    "frames": ("server", "dropped_frames"),
    "slow": ("server", "slow_consumers"),
    "refused": ("server", "refused"),
    "unheard": ("layers", "dropped_messages"),
}


def _totals(figures: Mapping[str, Any]) -> dict[str, float]:
    counters = figures["counters"]
    totals = {name: counters.get(kind, {}).get(counter, 0) for name, (kind, counter) in _COUNTED.items()}
    return {
        **totals,
        "in": sum(figures["received_bytes"].values()),
        "out": sum(figures["sent_bytes"].values()),
        "broadcasts": figures["delivered"],
        "cpu": figures["cpu"],
    }


def _rates(figures: Mapping[str, Any], before: Mapping[str, Any] | None, seconds: float) -> dict[str, float] | None:
    """The growth of each total per second; None if an answer is missing."""
    if not figures or not before or seconds <= 0:
        return None
    earlier = _totals(before)
    return {name: max(0.0, total - earlier[name]) / seconds for name, total in _totals(figures).items()}


def _summary(status: Status, rates: Sequence[Mapping[str, float] | None]) -> list[str]:
    processes = status["processes"]
    ready = sum(one["state"] == "ready" for one in processes)
    state = "stopping" if status["stopping"] else "ready" if status["ready"] else "not ready"
    known = [one["figures"] for one in processes if one["figures"]]
    kinds = {kind: sum(figures["connections"].get(kind, 0) for figures in known) for kind in KINDS}
    told = [rate for rate in rates if rate is not None]

    def rate(name: str) -> str:
        return f"{number(sum(one[name] for one in told))}/s" if told else "-"

    return [
        f"fairway {printable(str(status['version']))}   {state}, {ready} of {status['wanted']}"
        f"   up {duration(status['uptime'])}   restarts {number(status['restarts'])}",
        f"connections {number(sum(kinds.values()))} ({', '.join(f'{kind} {number(kinds[kind])}' for kind in KINDS)})",
        f"messages {rate('messages')}   broadcasts {rate('broadcasts')}   requests {rate('requests')}"
        f"   errors {rate('errors')}",
        f"dropped: frames {rate('frames')}, by layers {rate('unheard')}, slow clients {rate('slow')}"
        f"   refused {rate('refused')}   faults {rate('faults')}",
        f"bytes: in {rate('in')}   out {rate('out')}",
        _waiting([figures["waiting"] for figures in known]),
        *(_layers(known) or ["no channel layer was used so far"]),
    ]


def _waiting(waiting: Sequence[Mapping[str, int]]) -> str:
    """What waits, and the most that waits for one consumer or client."""

    def told(name: str) -> str:
        most = max((one[f"most_{name}"] for one in waiting), default=0)
        return f"{name} {number(sum(one[name] for one in waiting))} (largest {number(most)})"

    return f"waiting: {told('messages')}   {told('bytes')}"


def _layers(known: Sequence[Mapping[str, Any]]) -> list[str]:
    states: dict[str, set[str]] = {}
    for figures in known:
        for name, is_up in figures["up"].items():
            state = "DOWN" if not is_up else "not used yet" if name in figures["unused"] else "up"
            states.setdefault(name, set()).add(state)
    order = ("DOWN", "up", "not used yet")  # the first that any process says
    return [
        f"{printable(name, 40)}: {next(state for state in order if state in said)}"
        for name, said in sorted(states.items())[:4]
    ]


def _row(one: Mapping[str, Any], rates: Mapping[str, float] | None) -> str:
    figures = one["figures"]
    cells = [str(one["slot"]), str(one["pid"] or "-"), one["state"], duration(one["uptime"])]
    cells.append(number(sum(figures["connections"].values())) if figures else "-")
    cells += [number(rates[name]) if rates else "-" for name in ("messages", "broadcasts", "requests")]
    cells.append(lag(figures["loop_lag"]) if figures else "-")
    cells.append(f"{100 * rates['cpu']:.0f}%" if rates else "-")
    cells.append(f"{figures['resident'] / 1e6:,.0f}M" if figures else "-")
    return "".join(printable(cell, 20).rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))


def number(value: float) -> str:
    """A number in at most seven characters."""
    for size, sign in ((1e9, "G"), (1e6, "M")):
        if value >= 10 * size:
            return f"{value / size:,.0f}{sign}"
    if value >= 100_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def duration(seconds: float) -> str:
    """A duration in its two largest units, in at most seven characters."""
    whole = int(seconds)
    for size, sign, part, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{sign}{whole % size // part:02}{smaller}"
    return f"{whole}s"


def lag(seconds: float) -> str:
    """A lag in milliseconds, or from ten seconds on in seconds."""
    return f"{1000 * seconds:.0f}ms" if seconds < 10 else f"{seconds:.0f}s"


# Asking -----------------------------------------------------------------------------------------------------------


def ask(address: Address, called: str) -> Status:
    """Ask a server for its status. `called` is its address as the user wrote it. Raises `NoAnswer`."""
    try:
        with address.connect(_ASK_SECONDS) as client:
            client.sendall(b"GET /status HTTP/1.1\r\nHost: fairway\r\nConnection: close\r\n\r\n")
            response = http.client.HTTPResponse(client)
            response.begin()
            text = response.read(_MOST_BYTES)
    except PermissionError:
        raise NoAnswer(f"{called} is for the user whom the server runs as: ask as that user") from None
    except TimeoutError:
        raise NoAnswer(f"nothing answers at {called} within {_ASK_SECONDS:g} s") from None
    except (ConnectionRefusedError, FileNotFoundError):
        raise NoAnswer(f"nothing listens at {called}: is the server running, with --management?") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{called} does not answer: {printable(str(error)) or type(error).__name__}") from None
    try:
        status = json.loads(text)
        lines(status, status, 1.0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoAnswer(f"what answers at {called} is no management socket of this version of fairway") from None
    return dict(status)


def main(arguments: Sequence[str], default: str = "", out: TextIO | None = None) -> int:
    """Run the command and return its exit code. `default` is the address if none is given."""
    parser = argparse.ArgumentParser(
        prog="fairway status", description="Show how a server does.", allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument(
        "address", nargs="?", default=default,
        help="what the server's --management says: unix:/path, or 127.0.0.1:port (default: $FAIRWAY_MANAGEMENT)",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="print the table once, without anything for a terminal")
    parser.add_argument("--json", action="store_true", help="print all figures once, as JSON")
    options = parser.parse_args(arguments)
    out = out or sys.stdout
    try:
        if not options.address:
            raise NoAnswer("say where the server's management socket is, such as unix:/run/mysite/management")
        called = printable(options.address)
        try:
            address = parsed(options.address)
        except ValueError as error:
            raise NoAnswer(f"the address {error}") from None
        if options.json:
            print(json.dumps(ask(address, called), indent=2), file=out)
        elif options.once or not out.isatty():
            before = ask(address, called)
            time.sleep(REFRESH_SECONDS)
            after = ask(address, called)
            print("\n".join(lines(after, before, after["uptime"] - before["uptime"])), file=out)
        else:
            _refresh(address, called, out)
    except NoAnswer as error:
        print(f"fairway: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _refresh(address: Address, called: str, out: TextIO) -> None:
    """Draw once a second until Ctrl-C. If the server does not answer after the first time, wait for it."""
    before = ask(address, called)
    out.write(_HIDE_CURSOR + _CLEAR + _picture(lines(before, None, 0.0)))
    out.flush()
    try:
        while True:
            time.sleep(REFRESH_SECONDS)
            try:
                after = ask(address, called)
            except NoAnswer as error:
                picture = [str(error), "", "waiting for it; Ctrl-C ends this"]
            else:
                picture = lines(after, before, after["uptime"] - before["uptime"])
                before = after
            out.write(_picture(picture))
            out.flush()
    finally:
        out.write(f"{_SHOW_CURSOR}\n")
        out.flush()


def _picture(text: Sequence[str]) -> str:
    # Drawn over the previous picture: clearing it first would flicker more.
    columns, rows = shutil.get_terminal_size()
    shown = [line[: columns - 1] for line in text[: rows - 1]]
    return _HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in shown) + _CLEAR_BELOW
