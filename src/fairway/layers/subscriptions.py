"""Which names a process has to be subscribed to, and what has to be asked of the service for it. Pure.

A name is *wanted* from `open` to `close`. Apart from that it is in one of these phases:

* *idle*: nothing was asked, or the service could not do it;
* *asked*: the service is to subscribe to it, and has not answered;
* *standing*: it has.

A name that is not wanted any more stays as it is for `linger` seconds, since its last member often comes back: a page
was loaded anew. Then `take_left` hands it out to be unsubscribed, and it is forgotten. One that is still asked is kept
until the answer.

An answer counts only for the request that it belongs to, which has a number: between a request and its answer the name
may have been given up and wanted again, or everything may have begun anew with another connection (`reset`).

The caller sees to it that what is handed out is asked of the service in that order, and that one thread calls at a
time. Times are seconds of any clock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from math import inf

LINGER = 5.0


class _Phase(enum.Enum):
    IDLE = "idle"
    ASKED = "asked"
    STANDING = "standing"


class _Name:
    __slots__ = ("left_at", "phase", "request")

    def __init__(self) -> None:
        self.phase = _Phase.IDLE
        self.request = 0
        self.left_at = inf  # infinity while it is wanted


class Subscriptions:
    """The names that one process is to be subscribed to."""

    __slots__ = ("_leaving", "_names", "_request", "_to_ask", "linger")

    def __init__(self, linger: float = LINGER) -> None:
        self.linger = linger
        self._names: dict[str, _Name] = {}
        self._to_ask: dict[str, None] = {}
        self._leaving: dict[str, None] = {}
        self._request = 0

    def __len__(self) -> int:
        return len(self._names)

    @property
    def wanted(self) -> list[str]:
        return [name for name, entry in self._names.items() if entry.left_at == inf]

    @property
    def has_leaving(self) -> bool:
        """Whether `take_left` will have something to hand out, sooner or later."""
        return bool(self._leaving)

    def is_standing(self, name: str) -> bool:
        entry = self._names.get(name)
        return entry is not None and entry.phase is _Phase.STANDING

    def open(self, name: str) -> None:
        """The name is wanted."""
        entry = self._names.get(name)
        if entry is None:
            entry = self._names[name] = _Name()
        entry.left_at = inf
        self._leaving.pop(name, None)
        if entry.phase is _Phase.IDLE:
            self._to_ask[name] = None

    def close(self, name: str, now: float) -> None:
        """The name is not wanted any more."""
        entry = self._names.get(name)
        if entry is None or entry.left_at != inf:
            return
        if entry.phase is _Phase.IDLE:
            del self._names[name]
            self._to_ask.pop(name, None)
        else:
            entry.left_at = now
            self._leaving[name] = None

    def ask_again(self) -> None:
        """Whatever is wanted and could not be had is to be asked for once more."""
        self._to_ask.update(dict.fromkeys(name for name in self.wanted if self._names[name].phase is _Phase.IDLE))

    def take_wanted(self) -> tuple[int, list[str]]:
        """What is to be subscribed to now, with the number of this request for `answered`."""
        self._request += 1
        names, self._to_ask = list(self._to_ask), {}
        for name in names:
            entry = self._names[name]
            entry.phase = _Phase.ASKED
            entry.request = self._request
        return self._request, names

    def answered(self, request: int, names: Iterable[str], is_standing: bool) -> None:
        """The service has subscribed to them, or could not."""
        for name in names:
            entry = self._names.get(name)
            if entry is None or entry.request != request or entry.phase is not _Phase.ASKED:
                continue
            if is_standing:
                entry.phase = _Phase.STANDING
            elif entry.left_at == inf:
                entry.phase = _Phase.IDLE
            else:
                self._forget(name)

    def take_left(self, now: float) -> list[str]:
        """What is to be unsubscribed now, because nobody has wanted it for `linger` seconds."""
        names = []
        for name in list(self._leaving):
            entry = self._names[name]
            if entry.left_at + self.linger > now:
                break  # they are in the order of their times
            if entry.phase is _Phase.STANDING:
                names.append(name)
                self._forget(name)
        return names

    def reset(self) -> None:
        """Nothing stands: whatever is wanted is to be asked for from the beginning, of another connection."""
        for name in list(self._leaving):
            self._forget(name)
        self._to_ask = dict.fromkeys(self._names)
        for entry in self._names.values():
            entry.phase = _Phase.IDLE

    def _forget(self, name: str) -> None:
        del self._names[name]
        self._leaving.pop(name, None)
