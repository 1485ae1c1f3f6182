"""A process that ends by a deadline: whoever says so may be a signal handler."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow

INTERRUPTED = """
    import itertools, sys, threading, time
    from fairway.departure import Departure

    BY = Departure.by.__code__

    def interrupted(departure, at):
        "Calls `by`, and once more in the middle of it, at this instruction; whether it came to that."
        left = itertools.count(at, -1)

        def trace(frame, event, argument):
            if frame.f_code is not BY:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and next(left) == 0:
                departure.by(time.monotonic() + 3600)
            return trace

        sys.settrace(trace)
        try:
            departure.by(time.monotonic() + 3600)
        finally:
            sys.settrace(None)
        return next(left) < 0

    at = 0
    while interrupted(Departure(), at):
        at += 1
    names = [thread.name for thread in threading.enumerate()]
    print(at, names.count("fairway departure") - at, names.count("fairway departure, last") - at)
"""


def test_a_second_signal_may_come_while_the_first_one_is_handled() -> None:
    """At whatever instruction: one thread waits for the deadline, and one for the first."""
    script = textwrap.dedent(INTERRUPTED)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    instructions, *more = map(int, done.stdout.split())
    assert instructions > 50
    assert more == [1, 1]
