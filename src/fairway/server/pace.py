"""How slowly a client may send a body."""

from __future__ import annotations


def next_deadline(deadline: float, now: float, size: int, rate: int, patience: float) -> float:
    """When a body has to have gone on, after `size` bytes of it have come, and would have had to by `deadline`.

    A byte buys 1 / `rate` seconds, and nobody has more than `patience` in hand. So a client may be silent for that
    long, and one that sends at this rate goes on for ever. One that trickles has `patience` and little more, however
    often it sends. With a rate of 0 any byte buys everything.
    """
    full = now + patience
    return full if not rate else min(deadline + size / rate, full)
