"""Which names a process needs to be subscribed to, and what it must ask the service for. Pure.

A name is *wanted* from `open` to `close`. Independently of that, it is in one of three phases:

* *idle*: nothing has been asked, or the service could not subscribe to it;
* *asked*: the service has been asked, and has not answered yet;
* *standing*: the subscription stands.

A name that is no longer wanted keeps its phase for `linger` seconds, because its last member often comes back: somebody
reloaded a page. After that, `take_left` hands a standing name out to be unsubscribed, and forgets it. A name in the
phase *asked* is kept until the answer arrives.

Every request has a number, and an answer counts only for its own request. Between the two, a name may have been given
up and wanted again, or `reset` may have started everything over with another connection.

The caller passes what is handed out to the service in the order in which it was handed out, and lets only one thread
call at a time. Times are in seconds, of any clock.
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
        """Whether `take_left` will hand something out, now or later."""
        return bool(self._leaving)

    def is_standing(self, name: str) -> bool:
        entry = self._names.get(name)
        return entry is not None and entry.phase is _Phase.STANDING

    def open(self, name: str) -> None:
        """The name is wanted from now on."""
        entry = self._names.get(name)
        if entry is None:
            entry = self._names[name] = _Name()
        entry.left_at = inf
        self._leaving.pop(name, None)
        if entry.phase is _Phase.IDLE:
            self._to_ask[name] = None

    def close(self, name: str, now: float) -> None:
        """The name is no longer wanted."""
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
        """Ask once more for every wanted name that the service could not subscribe to."""
        self._to_ask.update(dict.fromkeys(name for name in self.wanted if self._names[name].phase is _Phase.IDLE))

    def take_wanted(self) -> tuple[int, list[str]]:
        """The names to subscribe to now. The number identifies this request in `answered`."""
        self._request += 1
        names, self._to_ask = list(self._to_ask), {}
        for name in names:
            entry = self._names[name]
            entry.phase = _Phase.ASKED
            entry.request = self._request
        return self._request, names

    def answered(self, request: int, names: Iterable[str], is_standing: bool) -> None:
        """The service has answered a request: it subscribed to these names, or it could not."""
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
        """The names to unsubscribe from now, because nobody has wanted them for `linger` seconds."""
        names = []
        for name in list(self._leaving):
            entry = self._names[name]
            if entry.left_at + self.linger > now:
                break  # names are in the order in which they were given up
            if entry.phase is _Phase.STANDING:
                names.append(name)
                self._forget(name)
        return names

    def reset(self) -> None:
        """The connection is a new one and nothing stands: ask for every wanted name again."""
        for name in list(self._leaving):
            self._forget(name)
        self._to_ask = dict.fromkeys(self._names)
        for entry in self._names.values():
            entry.phase = _Phase.IDLE

    def _forget(self, name: str) -> None:
        del self._names[name]
        self._leaving.pop(name, None)
