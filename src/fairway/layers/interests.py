"""What a layer has to receive: its groups with members in this process, and some subjects of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from fairway.layers.subscriptions import LINGER, Subscriptions

Notice = Callable[[], None]


def subject_of(group: str) -> str:
    """The subject that carries a group's messages."""
    return f"g.{group}"


class Interests:
    """`Subscriptions` under a lock, and the session to notify of changes. Any thread may call these methods.

    It watches the hub (`GroupWatcher`). A group's first member opens the group's subject; the last to leave closes it.
    """

    def __init__(self, *own: str) -> None:
        self.start_anew(*own)

    def start_anew(self, *own: str) -> None:
        """Want these subjects and nothing else: at the beginning, and in a forked child."""
        self._lock = threading.Lock()
        self._subscriptions = Subscriptions(LINGER)
        self._notice: Notice | None = None
        self._is_noticed = False
        for subject in own:
            self._subscriptions.open(subject)

    @property
    def linger(self) -> float:
        """Seconds for which a subject that nobody wants any more is kept."""
        return self._subscriptions.linger

    @property
    def has_leaving(self) -> bool:
        return self._subscriptions.has_leaving

    def begin(self, notice: Notice) -> None:
        """Call `notice` now and whenever there is something to ask for. Everything has to be asked for again."""
        with self._lock:
            self._subscriptions.reset()
            self._notice = notice
            notice()
            self._is_noticed = True

    def end(self, notice: Notice) -> None:
        """Stop calling `notice`. Does nothing if another one has taken its place."""
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
        """`opened` has seen to the first member; others change nothing here."""

    def left(self, group: str, member: str) -> None:
        """`closed` will see to the last member; others change nothing here."""

    def want(self, subject: str) -> bool:
        """Want a subject from now on, even if it was about to be left. Returns whether it stands.

        If it does not, it is asked for, unless that has been done.
        """
        with self._lock:
            self._subscriptions.open(subject)
            is_standing = self._subscriptions.is_standing(subject)
            if not is_standing:
                self._tell()
            return is_standing

    def unwant(self, subject: str) -> None:
        """Take back a `want`."""
        with self._lock:
            self._subscriptions.close(subject, time.monotonic())
            self._tell()

    def ask_again(self) -> None:
        """Ask once more for everything that the service could not subscribe to."""
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
        # However many join at once, there is one call.
        if self._notice is not None and not self._is_noticed:
            self._is_noticed = True
            self._notice()
