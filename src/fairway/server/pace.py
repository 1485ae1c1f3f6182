"""How slowly a client may send a body."""

from __future__ import annotations


def next_deadline(deadline: float, now: float, size: int, rate: int, patience: float) -> float:
    """The time by which more of a body must arrive, now that `size` bytes have. `deadline` is the previous result.

    Each byte moves the deadline by 1 / `rate` seconds, but never further than `patience` seconds from now. So a client
    may be silent for `patience`, and may send at `rate` for ever. A client that trickles gets little more than
    `patience` in all, however often it sends. With a rate of 0, any byte moves the deadline as far as possible.
    """
    full = now + patience
    return full if not rate else min(deadline + size / rate, full)
