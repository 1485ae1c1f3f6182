"""Counts what happens in the rooms of this process (`fairway.delivery.process_statistics`, kind `rooms`)."""

from __future__ import annotations

from fairway.delivery import CounterSet, register_source


class RoomCounters(CounterSet):
    """Counters of all rooms of a process."""

    __slots__ = (
        "dropped_messages",
        "failed_messages",
        "failures",
        "missed_ticks",
        "refused",
        "running",
        "ticks",
        "unpublished",
    )

    running: int
    """Rooms that run in this process now."""
    ticks: int
    missed_ticks: int
    """Ticks that late rooms have left out."""
    failures: int
    """Errors that ended or restarted a room."""
    failed_messages: int
    """Messages whose `receive` has raised an exception."""
    dropped_messages: int
    """Messages to rooms that were behind, or had not begun."""
    refused: int
    """Visitors of rooms that would have been one too many (`Room.most`)."""
    unpublished: int
    """Times that `publish` or a save reached nobody, because the channel layer's service was away."""

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)


counters = RoomCounters()
register_source("rooms", counters)
