"""Who wants to know that the consumer of a channel has ended."""

from __future__ import annotations

from collections.abc import Callable

Call = Callable[[str], None]


class Endings:
    """What is called, once, with the name of a channel when its consumer ends."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[str, tuple[Call, ...]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, channel: str, call: Call) -> None:
        """Call this when the consumer ends. A function that is added twice is called once."""
        calls = self._calls.get(channel, ())
        if call not in calls:
            self._calls[channel] = (*calls, call)

    def remove(self, channel: str, call: Call) -> None:
        """Do not call this any more. Does nothing if it was not added."""
        calls = tuple(one for one in self._calls.get(channel, ()) if one != call)
        if calls:
            self._calls[channel] = calls
        else:
            self._calls.pop(channel, None)

    def ended(self, channel: str) -> None:
        """The consumer has ended."""
        for call in self._calls.pop(channel, ()):
            call(channel)
