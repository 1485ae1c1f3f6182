"""Does the generator notice what it should? A server that misbehaves once must fail, one that does not must pass.

python bench/selfcheck.py
"""

from __future__ import annotations

import dataclasses

import peers
from measurement import Fault, finish, last_line, start_load
from servers import SERVERS, Running, running

FAULTS = {
    "good": "",
    "lose": "lost",
    "double": "dup_or_reordered",
    "reorder": "dup_or_reordered",
    "alter": "bad",
    "close": "closed",
    "refuse": "failed",
}


def check(*flags: str) -> None:
    """Raises SystemExit if the generator, with these flags, cannot be believed."""
    ours = SERVERS["ours"]
    command = tuple(part.replace("{app}", "faulty_app") for part in ours.command)
    with running(dataclasses.replace(ours, command=command), "echo") as one:
        for path, fault in FAULTS.items():
            found = fault_found(one, path, *flags)
            if (fault not in found) if fault else found:
                raise SystemExit(f"the generator should have found {fault!r} for {path!r}, and found {found!r}")
    print(f"The generator{' '.join(('', *flags))} finds each fault: {', '.join(list(FAULTS)[1:])}.", flush=True)


def fault_found(one: Running, path: str, *flags: str) -> str:
    load = ["echo", "-n", "2", "-w", "3", "-s", "200", "-u", f"/{path}/", *flags]
    process = start_load(one, load, 0.2, stragglers_ms=500)
    try:
        finish(process, last_line(process), 1)
    except Fault as fault:
        return str(fault)
    return ""


if __name__ == "__main__":
    peers.prepare()
    check()
