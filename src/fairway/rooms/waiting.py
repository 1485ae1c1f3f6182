"""Messages of one process to a room, until it is known where the room runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from fairway.layers.backplane import Unavailable
from fairway.layers.copying import copied
from fairway.rooms.runner import drop

MOST_WAITING = 100
"""Messages that wait in a process for somebody to run the room."""


class Waiting:
    """Keeps their order. What finds no place, and what nobody takes in the end, is dropped, counted and logged."""

    __slots__ = ("_messages", "_room")

    def __init__(self, room: str) -> None:
        self._room = room
        self._messages: deque[tuple[Any, int]] = deque()

    def __bool__(self) -> bool:
        return bool(self._messages)

    def put(self, message: Any, hops: int) -> None:
        """Let a message wait. `hops` says how often it was passed on."""
        if len(self._messages) >= MOST_WAITING:
            drop(self._room)
        else:
            self._messages.append((copied(message), hops))

    async def pass_on(self, send: Callable[[Any, int], Awaitable[None]], may_go_on: Callable[[], bool]) -> None:
        """Send them, as long as one may. If the layer's service is away, the rest goes on waiting."""
        while self._messages and may_go_on():
            try:
                # It keeps its place meanwhile: what comes now has to wait behind it.
                await send(*self._messages[0])
            except (Unavailable, OSError):
                return
            except Exception:
                self._messages.popleft()
                drop(self._room)
                raise
            self._messages.popleft()

    def drop(self) -> None:
        """Nobody will take them any more."""
        for _ in self._messages:
            drop(self._room)
        self._messages.clear()
