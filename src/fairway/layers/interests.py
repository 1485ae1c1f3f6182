"""What a layer has to receive: the groups that have members here, and subjects of its own. Any thread may change it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from fairway.layers.subscriptions import LINGER, Subscriptions

Notice = Callable[[], None]


def subject_of(group: str) -> str:
    """The subject under which a group's messages travel."""
    return f"g.{group}"


class Interests:
    """`Subscriptions` with a lock, and the session that is to be told of changes.

    It watches the hub (`GroupWatcher`): a group's first member opens its subject, the last one that leaves closes it.
    """

    def __init__(self, *own: str) -> None:
        self.start_anew(*own)

    def start_anew(self, *own: str) -> None:
        """Be interested in these subjects and nothing else: at the beginning, and in a child process."""
        self._lock = threading.Lock()
        self._subscriptions = Subscriptions(LINGER)
        self._notice: Notice | None = None
        self._is_noticed = False
        for subject in own:
            self._subscriptions.open(subject)

    @property
    def linger(self) -> float:
        """Seconds after which a subject is given up that nobody wants any more."""
        return self._subscriptions.linger

    @property
    def has_leaving(self) -> bool:
        return self._subscriptions.has_leaving

    def begin(self, notice: Notice) -> None:
        """From now on call `notice` when something is to be asked; everything is, from the beginning."""
        with self._lock:
            self._subscriptions.reset()
            self._notice = notice
            notice()
            self._is_noticed = True

    def end(self, notice: Notice) -> None:
        """Do not call it any more, unless another is called already."""
        with self._lock:
            if self._notice == notice:
                self._notice = None

    def opened(self, group: str) -> None:
        with self._lock:
            self._subscriptions.open(subject_of(group))
            self._tell()

    def closed(self, group: str) -> None:
        with self._lock:
            self._subscriptions.close(subject_of(group), time.monotonic())
            self._tell()

    def joined(self, group: str, member: str) -> None:
        """One more, or the first: nothing more is to be received."""

    def left(self, group: str, member: str) -> None:
        """One less, or the last, which `closed` says."""

    def ask(self, subject: str) -> None:
        """Ask for a subject that is wanted, if that could not be had so far."""
        with self._lock:
            self._subscriptions.open(subject)
            self._tell()

    def ask_again(self) -> None:
        """Ask for everything that could not be had so far."""
        with self._lock:
            self._subscriptions.ask_again()
            self._tell()

    def is_standing(self, subject: str) -> bool:
        return self._subscriptions.is_standing(subject)

    def take_wanted(self) -> tuple[int, list[str]]:
        with self._lock:
            self._is_noticed = False
            return self._subscriptions.take_wanted()

    def answered(self, request: int, names: Iterable[str], is_standing: bool) -> None:
        with self._lock:
            self._subscriptions.answered(request, names, is_standing)

    def take_left(self) -> list[str]:
        with self._lock:
            return self._subscriptions.take_left(time.monotonic())

    def _tell(self) -> None:
        # A storm of those who join is one call.
        if self._notice is not None and not self._is_noticed:
            self._is_noticed = True
            self._notice()
