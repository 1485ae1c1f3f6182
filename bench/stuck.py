"""A stuck reader among a thousand members: does it change the others' latency, or the server's memory?

    python bench/stuck.py [--rounds 5] [--seconds 10] [--members 1000] [--rate 40] [--out stuck-2026-01-01]

A sender broadcasts at a fixed rate to all members. While that runs the stuck reader joins them, asks for 20,000
messages of 10 KB, which one handler sends it, and reads nothing. A round measures without it, with it, and without it
again, each time in a fresh process with the default settings. At the end the load goes on once until the write-stall
deadline has ended the stuck reader.

Exits with 1 if a bound was missed (see `verdicts`), or a member did not get every broadcast exactly once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import memory
import peers
import processes
import selfcheck
from fairway.server.limits import Limits
from fairway.server.output.lanes import CHUNK_BYTES
from measurement import Fault, Result, Sample, address, finish, last_line, opened, settle, start_load
from servers import LOAD_CORE, SERVERS, Running, end_on_sigterm, running

FLOOD, MESSAGE_BYTES = 20_000, 10_000
WITHOUT, STUCK, AGAIN = PHASES = ("without", "stuck", "again")
LABELS = {WITHOUT: "without", STUCK: "with a stuck reader", AGAIN: "without, again", "deadline": "past its deadline"}
MOST_P99_RATIO = 1.25
LIMITS = Limits()
# In the outbox, and in the transport; each may be exceeded by one message. A third is the handler's.
WAITING_KB = (LIMITS.outbox_high_water + CHUNK_BYTES + 3 * MESSAGE_BYTES) / 1024
# A connection with its consumer, and an inbox full of broadcasts; and what whole pages leave unused.
CONNECTION_KB = 64
MOST_KB = WAITING_KB + CONNECTION_KB
AFTER_DEADLINE = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of load for each measurement")
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=40, help="broadcasts a second")
    parser.add_argument("--out", default=time.strftime("stuck-%Y-%m-%d"))
    options = parser.parse_args()
    if options.seconds >= LIMITS.write_stall_timeout:
        parser.error(f"--seconds must be less than the write-stall deadline ({LIMITS.write_stall_timeout:g} s)")
    peers.prepare()
    end_on_sigterm()
    os.sched_setaffinity(0, {LOAD_CORE})
    selfcheck.check()
    rounds = [one_round(options, number) for number in range(options.rounds)]
    deadline = until_deadline(options)
    document = {
        **vars(options),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "versions": peers.versions(),
        "most_kb": MOST_KB,
        "most_p99_ratio": MOST_P99_RATIO,
        "stuck": rounds,
        "deadline": deadline,
    }
    document["verdicts"] = verdicts(rounds, deadline)
    write(document)
    return 0 if all(verdict["held"] for verdict in document["verdicts"]) else 1


def one_round(options: argparse.Namespace, number: int) -> dict[str, Result]:
    results = {}
    for phase in PHASES:
        results[phase] = measure(options, phase == STUCK, options.seconds)
        print(f"round {number + 1}  {line(phase, results[phase])}", flush=True)
    return results


def until_deadline(options: argparse.Namespace) -> Result:
    result = measure(options, True, LIMITS.write_stall_timeout + AFTER_DEADLINE)
    print(f"         {line('deadline', result)}", flush=True)
    return result


def measure(options: argparse.Namespace, stuck: bool, seconds: float) -> Result:
    """Raises `Fault` unless every member got every broadcast once. Memory is read while all are still connected."""
    with (
        running(SERVERS["ours"], "hall") as one,
        joined(one, options, seconds) as load,
        contextlib.ExitStack() as stack,
    ):
        settle(one)
        memory.collect(one)
        before = state(one)
        load.send_signal(signal.SIGUSR1)
        wait_for(load, "START")
        begin = Sample.of(one.pid)
        if stuck:
            stack.enter_context(stuck_reader(one))
        wait_for(load, "STOP")
        end, after = Sample.of(one.pid), state(one)
        outcome = finish(load, last_line(load), seconds)
        flood = flooded(one)
        log = one.last_words()
    if not outcome["fewest_ids"] == outcome["most_ids"] == outcome["sent"]:
        raise Fault(f"not every member has got every broadcast: {outcome}")
    return {
        "p50": outcome["p50_ms"],
        "p99": outcome["p99_ms"],
        "max": outcome["max_ms"],
        "cpu": (end.cpu - begin.cpu) * 1e6 / outcome["in_time"],
        "growth_kb": after["process_kb"] - before["process_kb"],
        "kernel_growth_kb": after["kernel_kb"] - before["kernel_kb"],
        "before": before,
        "after": after,
        "flood": flood,
        "log": log,
        "generator": outcome,
    }


def joined(
    one: Running, options: argparse.Namespace, seconds: float
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """A generator whose members and sender are connected, and wait for SIGUSR1."""
    where = address(one.server, "hall", sender=True)
    load = ["broadcast", "-n", str(options.members), "-R", str(options.rate), "-W", "86400000", *where]
    return opened(start_load(one, load, seconds), options.members + 1)


def wait_for(load: subprocess.Popen[str], word: str) -> None:
    assert load.stdout is not None
    found = load.stdout.readline()
    if not found.startswith(word):
        raise Fault(f"{word} wanted: {found.strip()}")


@contextlib.contextmanager
def stuck_reader(one: Running) -> Iterator[None]:
    """A member that has asked for the flood, and reads no byte of it."""
    with socket.socket() as client:
        client.settimeout(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", one.port))
        client.sendall(
            f"GET /flood/ HTTP/1.1\r\nHost: localhost:{one.port}\r\nOrigin: http://localhost:{one.port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        status = client.recv(12)
        if status != b"HTTP/1.1 101":
            raise Fault(f"the stuck reader was refused: {status!r}")
        count = str(FLOOD).encode()
        client.sendall(bytes((0x81, 0x80 | len(count), 0, 0, 0, 0)) + count)
        yield


def state(one: Running) -> dict[str, Any]:
    return {"process_kb": processes.written_kb(one.pid), "kernel_kb": processes.kernel_kb()}


def flooded(one: Running) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{one.port}/flood/", timeout=60) as response:
        return json.load(response)


def verdicts(rounds: list[dict[str, Result]], deadline: Result) -> list[dict[str, Any]]:
    """Each bound: what was measured, and whether it held. That every member got every broadcast, `measure` has seen."""
    growth = statistics.median(one[STUCK]["growth_kb"] - without(one, "growth_kb") for one in rounds)
    growth_control = statistics.median(one[AGAIN]["growth_kb"] - one[WITHOUT]["growth_kb"] for one in rounds)
    ratio = statistics.median(one[STUCK]["p99"] / without(one, "p99") for one in rounds)
    ratio_control = statistics.median(one[AGAIN]["p99"] / one[WITHOUT]["p99"] for one in rounds)
    sent = [one[STUCK]["flood"]["sent"] for one in rounds]
    ended = [code for one in rounds for code in one[STUCK]["flood"]["codes"]]
    timeout = f"{LIMITS.write_stall_timeout:g} s"
    dropped = f"client took no data for {timeout}" in deadline["log"]
    return [
        verdict(
            f"memory with it, less that without: at most {MOST_KB:.0f} KB",
            f"{growth:+.0f} KB (control {growth_control:+.0f} KB)",
            growth <= MOST_KB,
        ),
        verdict(
            f"the others' p99 with it: at most {MOST_P99_RATIO:g} times that without",
            f"{ratio:.2f} (control {ratio_control:.2f})",
            ratio <= MOST_P99_RATIO,
        ),
        verdict(
            f"its handler waits in `send`, of {FLOOD:,} messages",
            f"{min(sent):,} to {max(sent):,} taken, ended with {ended}",
            0 < min(sent) <= max(sent) < FLOOD and not ended,
        ),
        verdict(
            f"after {timeout} without a byte taken it is dropped with 1013",
            f"ended with {deadline['flood']['codes']}",
            dropped and deadline["flood"]["codes"] == [1013],
        ),
    ]


def verdict(bound: str, measured: str, held: bool) -> dict[str, Any]:
    return {"bound": bound, "measured": measured, "held": held}


def without(one: dict[str, Result], name: str) -> float:
    """The mean of what was measured before and after the stuck reader: a drift of the machine cancels out."""
    return (one[WITHOUT][name] + one[AGAIN][name]) / 2


def line(phase: str, result: Result) -> str:
    return (
        f"{LABELS[phase]:<20} p50 {result['p50']:6.2f}  p99 {result['p99']:6.2f}  max {result['max']:6.2f} ms"
        f"{result['cpu']:7.2f} µs{result['growth_kb']:>+7,.0f} KB{result['kernel_growth_kb']:>+8,.0f} KB kernel"
    )


def summary(document: dict[str, Any]) -> str:
    rounds = document["stuck"]
    medians = {phase: median_of([one[phase] for one in rounds]) for phase in PHASES}
    rows = [line(phase, result) for phase, result in (*medians.items(), ("deadline", document["deadline"]))]
    delivered = sum(one[phase]["generator"]["received"] for one in rounds for phase in PHASES)
    judged = [
        f"{'held  ' if verdict['held'] else 'MISSED'}  {verdict['bound']}: {verdict['measured']}"
        for verdict in document["verdicts"]
    ]
    load = f"{document['members']:,} members, {document['rate']:g} broadcasts a second"
    head = f"\nMedians of {len(rounds)} rounds: {load}, {delivered:,} deliveries, each exactly once"
    return "\n".join([head, *rows, *judged])


def median_of(results: list[Result]) -> Result:
    names = ("p50", "p99", "max", "cpu", "growth_kb", "kernel_growth_kb")
    return {name: statistics.median(one[name] for one in results) for name in names}


def write(document: dict[str, Any]) -> None:
    raw, plot = (peers.HERE / "results" / f"{document['out']}.{suffix}" for suffix in ("json", "png"))
    raw.write_text(json.dumps(document, indent=1) + "\n")
    subprocess.run([peers.PLOTTER, peers.HERE / "plots.py", raw, plot], check=True)
    print(summary(document), raw, plot, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
